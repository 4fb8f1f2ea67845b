"""What victims are trained on: clean images, the release, plain noise, a release that is protected in part."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mtlue_cli.training.runtime import data_digest
from mtlue_cli.verification.conditions import Condition, Material
from mtlue_cli.verification.countermeasures.base import Validation
from mtlue_cli.verification.split import draw_share

FROM_CLEAN = frozenset({Material.CLEAN, Material.NOISE})
"""What is made without the release."""


Labelled = tuple[Tensor, Mapping[str, Tensor]]
"""Images ``(N, 3, S, S)`` uint8, and task name to their labels ``(N,)`` or label maps."""


@dataclass(frozen=True)
class TrainingImages:
    """The two sets of training images that everything else is made from.

    Attributes:
        clean: ``(N, 3, S, S)`` uint8.
        release: The same images as released; called when first needed.
        epsilon: Bound of the release in 255ths, and of the noise that is compared with it.
    """

    clean: Tensor
    release: Callable[[], Tensor]
    epsilon: int

    @cached_property
    def clean_digest(self) -> str:
        """Identity of the clean images; hashed once for all conditions."""
        return data_digest(self.clean, {})

    @cached_property
    def release_digest(self) -> str:
        """Identity of the released images; hashed once for all conditions."""
        return data_digest(self.release(), {})

    def of(self, condition: Condition, labels: Mapping[str, Tensor], seed: int) -> Labelled:
        """Training images of a condition before any countermeasure, and their labels.

        The seed is that of the noise, and of which images are protected.
        """
        if condition.material is Material.CLEAN:
            return self.clean, labels
        if condition.material is Material.NOISE:
            return uniform_noise(self.clean, self.epsilon, seed), labels
        if condition.protected_fraction == 1:
            return self.release(), labels
        if condition.protected_fraction == 0:
            return self.clean, labels
        mixed, protected = mix(self.release(), self.clean, condition.protected_fraction, seed)
        if condition.material is Material.RELEASE:
            return mixed, labels
        # What an attacker has who throws the protected share away.
        return mixed[~protected], {name: column[~protected] for name, column in labels.items()}

    def stages(self, condition: Condition, labels: Mapping[str, Tensor], seed: int) -> Iterator[Labelled]:
        """What the victim is trained on, one after the other: a sequence of releases, or the images of :meth:`of`."""
        for share in condition.trajectory or (condition.protected_fraction,):
            yield self.of(replace(condition, protected_fraction=share), labels, seed)

    def hold_out(self, labelled: Labelled, validation: Validation, seed: int) -> tuple[Labelled, Labelled]:
        """Split off validation images, of which a share are clean originals; both are drawn by content.

        Returns:
            The images that are left with their labels, and the validation images with theirs.
        """
        images, labels = labelled
        chosen = draw_share(self.clean, validation.share, seed, "validation")
        originals = self.clean[chosen]
        is_clean = draw_share(originals, validation.clean, seed, "clean validation").view(-1, 1, 1, 1)
        return (
            (images[~chosen], {name: column[~chosen] for name, column in labels.items()}),
            (
                torch.where(is_clean, originals, images[chosen]),
                {name: column[chosen] for name, column in labels.items()},
            ),
        )


def uniform_noise(images: Tensor, epsilon: int, seed: int) -> Tensor:
    """A copy of ``(N, 3, H, W)`` uint8 images with independent uniform noise of at most ``epsilon`` 255ths, clipped."""
    rng = torch.Generator().manual_seed(seed)
    noisy = torch.empty_like(images)
    for row, image in enumerate(images):
        steps = torch.randint(-epsilon, epsilon + 1, image.shape, generator=rng, dtype=torch.int16)
        noisy[row] = (image.to(torch.int16) + steps).clamp(0, 255).to(torch.uint8)
    return noisy


def mix(protected: Tensor, clean: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Replace a share of the clean images by their protected versions, drawn by :func:`~.split.draw_share`.

    Returns:
        The mixed images ``(N, 3, S, S)`` uint8, and ``(N,)`` bool, True where an image is protected.

    Raises:
        ValueError: The shapes differ, or ``fraction`` lies outside [0, 1].
    """
    if protected.shape != clean.shape:
        raise ValueError(f"protected images {tuple(protected.shape)} and clean ones {tuple(clean.shape)} do not match")
    mask = draw_share(clean, fraction, seed, "protected share")
    return torch.where(mask.view(-1, 1, 1, 1), protected, clean), mask
