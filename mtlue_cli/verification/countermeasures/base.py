"""What a countermeasure is: what it declares, what it does, and the two usual kinds of it."""

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import TypeVar

import torch
from torch import Tensor

from mtlue_cli.choices import Tier
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.intervention import Intervention
from mtlue_cli.training.named_settings import Choice

SettingsT = TypeVar("SettingsT")

CHUNK = 256
"""Images that are preprocessed at a time, so that their float copies stay small whatever the size of the release."""


@dataclass(frozen=True)
class AttackerView:
    """What an attacker has at hand.

    Attributes:
        labels: The published labels: task name to ``(N,)`` int64, negative where unlabelled, or to label maps.
        tasks: Their tasks.
        pairs: A few originals and their protected versions, ``(M, 3, S, S)`` uint8 each, which whoever has the
            generator can make from any images; None where no generator is public.
        crop_size: Side in pixels of what his network will see.
        seed: Of whatever he draws.
        device: Where he computes.
        on_progress: Called now and then with the share that is done, in [0, 1]; None: nobody listens.
        pair_labels: Labels of the pairs, as ``labels``, ``(M,)``: whoever makes pairs chose them. None without pairs.
        epsilon: Bound of the release in 255ths, which anyone can read off it.
        weights: The generator's checkpoint, where he has it; never the key.
    """

    labels: Mapping[str, Tensor]
    tasks: TaskSet
    pairs: tuple[Tensor, Tensor] | None
    crop_size: int
    seed: int
    device: torch.device
    on_progress: Callable[[float], None] | None = None
    pair_labels: Mapping[str, Tensor] | None = None
    epsilon: int = 8
    weights: Path | None = None


class Countermeasure(ABC):  # noqa: B024 - each hook has a neutral default; a countermeasure overrides what it needs
    """Something an attacker does so that his network learns from a protected release all the same.

    Attributes:
        needs_pairs: Whether it cannot run without :attr:`AttackerView.pairs`.
        needs_weights: Whether it cannot run without :attr:`AttackerView.weights`.
    """

    needs_pairs: bool = False
    needs_weights: bool = False

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release as he trains on it.

        Args:
            images: ``(N, 3, S, S)`` uint8.
            view: What he has.

        Returns:
            A new tensor of the same shape and type (or ``images`` itself, unchanged).
        """
        del view
        return images

    def at_inference(self, images: Tensor) -> Tensor:
        """Images to be judged, ``(M, 3, S, S)`` uint8, preprocessed as he would before his network sees them."""
        return images

    def during_training(self, view: AttackerView) -> Intervention | None:
        """What he does to each batch; None: nothing."""
        del view
        return None


class Preprocessing(Countermeasure):
    """Runs one rule over the release before training, and over whatever is judged later.

    The network is trained and tested behind the same rule, as an attacker would deploy it. No image influences another
    and nothing is drawn, so the same image gives the same result wherever it stands.

    Args:
        rule: ``(B, 3, S, S)`` uint8 to the same shape and type, for any ``B >= 1``; leaves its argument as it is.
    """

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        self.rule = rule

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release under the rule, ``(N, 3, S, S)`` uint8."""
        return self._changed(images, view.on_progress)

    def at_inference(self, images: Tensor) -> Tensor:
        """The images under the rule, ``(M, 3, S, S)`` uint8."""
        return self._changed(images, None)

    def _changed(self, images: Tensor, on_progress: Callable[[float], None] | None) -> Tensor:
        changed = torch.empty_like(images)
        for start in range(0, len(images), CHUNK):
            rows = slice(start, min(start + CHUNK, len(images)))
            changed[rows] = self.rule(images[rows])
            if on_progress is not None:
                on_progress(rows.stop / len(images))
        return changed


class Augmentation(Countermeasure):
    """Hands one intervention to the training loop.

    The network is judged on images that were not augmented, as usual.

    Args:
        intervention: Without state between batches; draws from the generator that it is given, and nowhere else.
    """

    def __init__(self, intervention: Intervention) -> None:
        self.intervention = intervention

    def during_training(self, view: AttackerView) -> Intervention:
        """The intervention."""
        del view
        return self.intervention


@dataclass(frozen=True, kw_only=True)
class CountermeasureChoice(Choice[SettingsT]):
    """One countermeasure with its settings, declared in the file that implements it.

    Attributes:
        title_format: Its name in tables; ``{setting}`` stands for the value of one.
        tier: The lowest tier that includes it.
        source: Where it comes from, as a citation.
        make: Makes a fresh one with given settings.
        cost_of: Time that it takes under given settings, training included, in units of plain training on the same
            images.
        smallest_side: Smallest side in pixels of the images that it can work on under given settings.
        image_level_only: Whether it works on labels of images: it does not see label maps, and cannot run on these
            alone.
        moves_content: Whether it moves what an image shows and leaves label maps where they are: it would spoil what it
            is tried on where tasks are labelled pixel by pixel.
        of_published_weights: Whether it takes weights that an attacker can get; where none are published, a tier
            leaves it out.
    """

    title_format: str
    tier: Tier
    source: str
    make: Callable[[SettingsT], Countermeasure]
    cost_of: Callable[[SettingsT], float] = lambda _: 1.0
    smallest_side: Callable[[SettingsT], int] = lambda _: 1
    image_level_only: bool = False
    moves_content: bool = False
    of_published_weights: bool = False

    @property
    def title(self) -> str:
        """Its name in tables; changed settings that the format does not show stand behind it."""
        shown = {name for _, name, _, _ in Formatter().parse(self.title_format)}
        others = [line for line in self.changed if line.partition("=")[0] not in shown]
        return self.title_format.format(**vars(self.settings)) + (f" ({', '.join(others)})" if others else "")

    @property
    def cost(self) -> float:
        """Time that it takes, training included, in units of plain training on the same images."""
        return self.cost_of(self.settings)

    def build(self) -> Countermeasure:
        """A fresh one."""
        return self.make(self.settings)

    def require_fit(self, tasks: TaskSet, side: int, *, has_weights: bool) -> None:
        """Refuse what it cannot be tried on.

        Args:
            tasks: What is learned.
            side: Of the images, in pixels.
            has_weights: Whether an attacker has the weights of the generator.

        Raises:
            InputError: It is for tasks of another kind or for larger images, or takes weights that nobody has.
        """
        if self.moves_content and len(tasks.dense):
            raise InputError("it moves image content but not the label maps")
        if self.image_level_only and not len(tasks.image_level):
            raise InputError("it needs image-level labels, and there are none")
        if side < (smallest := self.smallest_side(self.settings)):
            raise InputError(f"it needs images of at least {smallest} pixels per side, and these have {side}")
        if not has_weights and self.build().needs_weights:
            raise InputError("the generator's weights are assumed to be private: an attacker does not have them")
