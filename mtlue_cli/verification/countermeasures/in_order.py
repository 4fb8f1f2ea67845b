"""Several countermeasures, one after the other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from mtlue_cli.choices import Tier
from mtlue_cli.errors import InputError
from mtlue_cli.training.intervention import Intervention, Mixture
from mtlue_cli.verification.countermeasures.base import (
    AttackerView,
    Countermeasure,
    CountermeasureChoice,
    Pairs,
    Validation,
)

STEPS = re.compile(r"\+(?=[a-z])")
"""Between the countermeasures of one option, as in ``jpeg:quality=30+grayscale``; ``1e+3`` is a number."""


@dataclass(frozen=True)
class InOrder(Countermeasure):
    """Applies each step to what the step before it left, to the release, to batches and to the images to be judged.

    Attributes:
        steps: At least two countermeasures. One that blends labels can only be the last: those after it would see the
            labels of half of what an image shows.
    """

    steps: tuple[Countermeasure, ...]

    def __post_init__(self) -> None:
        for name in (
            "needs_pairs",
            "needs_weights",
            "needs_own_images",
            "needs_own_pairs",
            "image_level_only",
            "moves_content",
            "blends_labels",
        ):
            object.__setattr__(self, name, max(getattr(step, name) for step in self.steps))
        object.__setattr__(self, "source", "; ".join(dict.fromkeys(step.source for step in self.steps)))

    @property
    def cost(self) -> float:
        """Plain training and what each step adds to it."""
        return 1 + sum(step.cost - 1 for step in self.steps)

    @property
    def smallest_side(self) -> int:
        """Smallest side in pixels of the images that all steps can work on."""
        return max(step.smallest_side for step in self.steps)

    @property
    def validation(self) -> Validation | None:
        """What the step that stops early picks the epoch by; None: no step does."""
        return next((found for step in self.steps if (found := step.validation) is not None), None)

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release after all steps, ``(N, 3, S, S)`` uint8; the attacker's pairs and own images go the same way."""
        pairs, own = view.pairs, view.own_images
        for index, step in enumerate(self.steps):

            def report(done: float, index: int = index) -> None:
                view.report((index + done) / len(self.steps))

            images = step.before_training(images, replace(view, pairs=pairs, own_images=own, on_progress=report))
            if pairs is not None:
                pairs = Pairs(step.at_inference(pairs.originals), step.at_inference(pairs.protected), pairs.labels)
            if own is not None:
                own = step.at_inference(own)
        return images

    def at_inference(self, images: Tensor) -> Tensor:
        """Images to be judged after all steps, ``(M, 3, S, S)`` uint8."""
        return reduce(lambda changed, step: step.at_inference(changed), self.steps, images)

    def during_training(self, view: AttackerView) -> Intervention | None:
        """The changes of all steps to a batch; None: no step changes batches."""
        changes = [change for step in self.steps if (change := step.during_training(view)) is not None]

        def change_all(
            network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
        ) -> Mixture:
            mixture = Mixture(images, labels)
            for change in changes:
                mixture = change(network, mixture.images, mixture.labels, rng)
            return mixture

        return change_all if changes else None


@dataclass(frozen=True, kw_only=True)
class ChoiceInOrder(CountermeasureChoice):
    """Several choices of the registry, applied in order.

    Attributes:
        steps: Each, with its settings; at least two.
    """

    steps: tuple[CountermeasureChoice, ...]

    @property
    def variant(self) -> str:
        """Its whole name: a combination stands for none of its steps."""
        return self.name

    @property
    def title(self) -> str:
        """The titles of the steps."""
        return ", then ".join(step.title for step in self.steps)

    def settings_to_json(self) -> dict[str, Any]:
        """Every setting of every step, by the name of the step."""
        return {str(step.name): step.settings_to_json() for step in self.steps}


def in_order(steps: Sequence[CountermeasureChoice]) -> CountermeasureChoice:
    """One choice that applies ``steps`` in order; a single step is returned as it is.

    Raises:
        InputError: A step is given twice, or one that blends labels is not the last.
    """
    if len(steps) == 1:
        return steps[0]
    name = "+".join(step.name for step in steps)
    if len(set(steps)) < len(steps) or sum(step.settings.validation is not None for step in steps) > 1:
        raise InputError(f"countermeasure {name!r} names the same step twice")
    if any(step.settings.needs_pairs for step in steps) and any(step.settings.needs_own_pairs for step in steps):
        raise InputError(f"countermeasure {name!r} takes pairs of two kinds", hint="name each in an option of its own")
    early = next((step for step in steps[:-1] if step.settings.blends_labels), None)
    if early is not None:
        others = "+".join(step.name for step in steps if step is not early)
        hint = f"use {others}+{early.name}" if not steps[-1].settings.blends_labels else None
        raise InputError(f"countermeasure {name!r}: {early.name} blends labels and must be the last step", hint=hint)
    settings = InOrder(tuple(step.settings for step in steps))
    return ChoiceInOrder(name=name, tier=Tier.FULL, settings=settings, steps=tuple(steps))
