"""What a countermeasure is and declares, the two usual kinds of it, and what several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtlue_cli.choices import Tier
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.intervention import Intervention, Mixture
from mtlue_cli.training.named_settings import Choice, check_ranges

CHUNK = 256
"""Images that are held as floats at a time, so that memory does not grow with the release."""

CALL = 64
"""Images that a network cleans at a time."""


class Validation(NamedTuple):
    """Images that an attacker holds out of his training and picks the epoch by.

    ``share`` is that of the training images, ``clean`` the share of them that he has as clean originals.
    """

    share: float
    clean: float


class Pairs(NamedTuple):
    """Images as they were and protected, ``(M, 3, S, S)`` uint8 each, and their labels, as those of the release."""

    originals: Tensor
    protected: Tensor
    labels: Mapping[str, Tensor]


@dataclass(frozen=True)
class AttackerView:
    """What an attacker has at hand.

    Attributes:
        labels: The published labels: task name to ``(N,)`` int64, negative where unlabelled, or to label maps.
        tasks: Their tasks.
        pairs: A few pairs, which whoever has the generator can make from any images, under labels of his choice; or of
            his own images, which the owner protected for him. None: he has none.
        crop_size: Side in pixels of what his network will see.
        seed: Of whatever he draws.
        device: Where he computes.
        on_progress: Called now and then with the share that is done, in [0, 1]; None: nobody listens.
        epsilon: Bound of the release in 255ths, which anyone can read off it.
        weights: The generator's checkpoint, where he has it; never the key.
        own_images: Clean images of his own, ``(K, 3, S, S)`` uint8, none of which is in the release; None: he has none.
    """

    labels: Mapping[str, Tensor]
    tasks: TaskSet
    pairs: Pairs | None
    crop_size: int
    seed: int
    device: torch.device
    on_progress: Callable[[float], None] | None = None
    epsilon: int = 8
    weights: Path | None = None
    own_images: Tensor | None = None

    def report(self, done: float) -> None:
        """Tell whoever listens that a share of the preparation, in [0, 1], is done."""
        if self.on_progress is not None:
            self.on_progress(done)


class Countermeasure(ABC):  # noqa: B024 - each hook has a neutral default; a countermeasure overrides what it needs
    """Something an attacker does so that his network learns from a protected release all the same.

    A subclass is a frozen dataclass. Its fields are its settings, with their usual values and ranges:
    ``Annotated[int, Meta(ge=1, le=95)]``. What follows is declared without annotation, for it is no setting.

    Attributes:
        title: Its name in tables; ``{setting}`` stands for the value of one.
        source: Where it comes from, as a citation.
        family: Its name with other settings, where several names stand for settings of it; else empty.
        needs_pairs: Whether it cannot run without :attr:`AttackerView.pairs`.
        needs_weights: Whether it cannot run without :attr:`AttackerView.weights`.
        needs_own_images: Whether it cannot run without :attr:`AttackerView.own_images`.
        needs_own_pairs: Pairs of his own images, protected by the owner as a service, that it takes at most; 0: it
            takes none.
        image_level_only: Whether it works on labels of images: it does not see label maps, and cannot run on these
            alone.
        moves_content: Whether it moves what an image shows and leaves label maps where they are: it would spoil what it
            is tried on where tasks are labelled pixel by pixel.
        blends_labels: Whether an image of a batch may count as a blend of two labels afterwards.
    """

    title = ""
    source = ""
    family = ""
    needs_pairs = False
    needs_weights = False
    needs_own_images = False
    needs_own_pairs = 0
    image_level_only = False
    moves_content = False
    blends_labels = False

    def __post_init__(self) -> None:
        """Refuse a setting out of its range, as a ValueError."""
        check_ranges(self)

    @property
    def cost(self) -> float:
        """Time that it takes, training included, in units of plain training on the same images."""
        return 1.0

    @property
    def smallest_side(self) -> int:
        """Smallest side in pixels of the images that it can work on."""
        return 1

    @property
    def validation(self) -> Validation | None:
        """What he picks the epoch by; None: the last counts."""
        return None

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release as he trains on it: ``(N, 3, S, S)`` uint8, a new tensor or ``images`` itself, unchanged."""
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
    """

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """The rule: ``(B, 3, S, S)`` uint8 to a new tensor of the same shape and type, for any ``B >= 1``."""

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release under the rule, ``(N, 3, S, S)`` uint8."""
        return self._changed(images, view.report)

    def at_inference(self, images: Tensor) -> Tensor:
        """The images under the rule, ``(M, 3, S, S)`` uint8."""
        return self._changed(images, lambda _: None)

    def _changed(self, images: Tensor, report: Callable[[float], None]) -> Tensor:
        changed = torch.empty_like(images)
        for rows in chunks(len(images), CHUNK):
            changed[rows] = self(images[rows])
            report(rows.stop / len(images))
        return changed


class Augmentation(Countermeasure):
    """Changes every batch of training; the network is judged on images that were not augmented, as usual."""

    @abstractmethod
    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """A batch as it is learned; keeps no state, and draws from ``rng`` alone. As :class:`Intervention`."""

    def during_training(self, view: AttackerView) -> Intervention:
        """The augmentation of each batch."""
        del view
        return lambda network, images, labels, rng: self.augment(images, labels, rng)  # noqa: ARG005 - an Intervention


@dataclass(frozen=True, kw_only=True)
class CountermeasureChoice(Choice[Countermeasure]):
    """One countermeasure of the registry, which its ``settings`` are, and the lowest tier that includes it."""

    tier: Tier

    @property
    def title(self) -> str:
        """Its name in tables; changed settings that the format does not show stand behind it."""
        shown = {name for _, name, _, _ in Formatter().parse(self.settings.title)}
        others = [line for line in self.changed if line.partition("=")[0] not in shown]
        return self.settings.title.format(**vars(self.settings)) + (f" ({', '.join(others)})" if others else "")

    @property
    def of_published_weights(self) -> bool:
        """Whether an attacker must get the weights of the generator; where none are published, a tier leaves it out."""
        return self.settings.needs_pairs or self.settings.needs_weights

    def require_fit(self, tasks: TaskSet, side: int, *, has_weights: bool) -> None:
        """Refuse what it cannot be tried on; ``side`` of the images is in pixels.

        Raises:
            InputError: It is for tasks of another kind or for larger images, or takes weights that nobody has.
        """
        if self.settings.moves_content and len(tasks.dense):
            raise InputError("it moves image content but not the label maps")
        if self.settings.image_level_only and not len(tasks.image_level):
            raise InputError("it needs image-level labels, and there are none")
        if side < (smallest := self.settings.smallest_side):
            raise InputError(f"it needs images of at least {smallest} pixels per side, and these have {side}")
        if not has_weights and self.settings.needs_weights:
            raise InputError("the generator's weights are assumed to be private: an attacker does not have them")


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` rows that cover ``count`` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def rounded(values: Tensor) -> Tensor:
    """Pixel values in 255ths, float, as uint8: rounded to the nearest and clipped to [0, 255]."""
    return values.round().clamp(0, 255).to(torch.uint8)


def rounded_by_chance(values: Tensor, rng: torch.Generator) -> Tensor:
    """Round up with the chance of the fraction, else down, and clip to 8 bits: the expected value is ``values``.

    Where all images of the same labels have the same value subtracted, rounding to the nearest would leave them all
    the same error: a faint new pattern per class. Values are float in 255ths, on the CPU; the result is uint8.
    """
    below = values.floor()
    above = torch.rand(values.shape, generator=rng) < values - below
    return (below + above).clamp_(0, 255).to(torch.uint8)


@contextmanager
def steady(network: nn.Module) -> Iterator[None]:
    """Within, batch norm uses the batch's own statistics and records none, and dropout is off.

    So the network is the function that it is about to learn with, which its running statistics lag behind for much of
    a short training, but without chance. Every module gets its own mode back. Gradients asked for by
    ``torch.autograd.grad`` leave the parameters' ``grad`` alone.
    """
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module, training in modes if isinstance(module, _BatchNorm) and training]
    tracked = [norm.track_running_stats for norm in norms]
    network.eval()
    try:
        for norm in norms:
            norm.train()
            norm.track_running_stats = False
        yield
    finally:
        for norm, tracks in zip(norms, tracked, strict=True):
            norm.track_running_stats = tracks
        for module, training in modes:
            module.training = training
