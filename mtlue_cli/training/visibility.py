"""A penalty on what people see of a perturbation, whose weight follows the FLIP of training images to a target."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtlue_cli.choices import FLIP_LOW, FLIP_NORMAL, Visibility
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.generator.network import resized
from mtlue_cli.metrics.flip import SAMPLE, mean_flip
from mtlue_cli.perturbation.bound import LEVELS, add_bounded
from mtlue_cli.tasks.label_tensors import as_labels

FLIP_TARGETS: Mapping[Visibility, float | None] = {
    Visibility.LOW: FLIP_LOW,
    Visibility.NORMAL: FLIP_NORMAL,
    Visibility.HIGH: None,
}
"""Mean FLIP that training aims at; None: no target, which gives about 0.15."""

POWER = 0.35
"""Half of FLIP's exponent: FLIP raises a colour difference to 0.7, the penalty starts from its square. A concave
penalty prefers a few strong places to a faint pattern everywhere, as FLIP does."""

CHROMA_COST = 2.4
"""Squared chroma counts so many times squared luminance: at half the amplitude, coarse chroma has a FLIP of 0.098 and
coarse luminance of 0.072, and (0.098 / 0.072) ** (1 / POWER) is 2.4."""

ADAPT_STEPS = 50
"""Steps between two measurements of FLIP: they take 6 % of the time of training."""

VIEW_SIDE = 200
"""Side in pixels at which FLIP is measured. Photos are larger than the generator's images, and a perturbation that is
enlarged with them has coarser structure, which FLIP weighs more: 0.135 at 200 pixels where it was 0.117 at 72."""

FIRST_WEIGHT, LEAST_WEIGHT, LARGEST_WEIGHT = 0.5, 0.01, 20.0
GAIN = 2.0
"""The weight is multiplied by ``exp(GAIN * (flip / target - 1))`` at each measurement."""

MARGIN = 0.98
"""Share of the target that training aims at, since FLIP on other images is not exactly that of the sample."""


def visibility_penalty(delta: Tensor, epsilon: int) -> Tensor:
    """How visible a perturbation is, roughly as FLIP sees it: a scalar from nearly 0 to about 1, differentiable.

    Args:
        delta: ``(B, 3, H, W)`` float within ``[-epsilon/255, epsilon/255]``.
        epsilon: Bound in 255ths.

    Source:
        The exponent is that of Andersson et al., "FLIP", HPG 2020; its spatial filters are left out, since they are
        narrower than a pixel of the generator.
    """
    scaled = delta * (LEVELS / epsilon)
    luminance = scaled.mean(dim=1)
    chroma = (scaled - luminance[:, None]).square().mean(dim=1)
    return (luminance.square() + CHROMA_COST * chroma + 1e-3).pow(POWER).mean()


def enlarged(images: Tensor) -> Tensor:
    """``(B, C, S, S)`` float images at :data:`VIEW_SIDE` pixels; larger ones as they are."""
    if images.shape[-1] >= VIEW_SIDE:
        return images
    return resized(images, (VIEW_SIDE, VIEW_SIDE))


class VisibilityControl:
    """Weighs :func:`visibility_penalty` so that a sample of the training images comes to a FLIP.

    Args:
        target: Mean FLIP to reach.
        images: ``(N, 3, S, S)`` uint8, the training images; evenly spaced ones are the sample.
        labels: Theirs, as the generator takes them.

    Attributes:
        flip: Of the sample, when it was measured last; None: not yet.
    """

    def __init__(self, target: float, images: Tensor, labels: Mapping[str, Tensor]) -> None:
        self._target = target * MARGIN
        rows = torch.linspace(0, len(images) - 1, min(SAMPLE, len(images))).long()
        self._images = images[rows]
        self._labels = {name: as_labels(column[rows]) for name, column in labels.items()}
        self._photos = enlarged(self._images.float()).round().byte()
        self._weight = FIRST_WEIGHT
        self.flip: float | None = None

    def loss(self, delta: Tensor, epsilon: int) -> Tensor:
        """The weighted penalty of ``(B, 3, H, W)`` perturbations."""
        return self._weight * visibility_penalty(delta, epsilon)

    def adapt(self, generator: PerturbationGenerator) -> None:
        """Measure the sample and change the weight."""
        self.flip = self.measure(generator)
        factor = math.exp(GAIN * (self.flip / self._target - 1))
        self._weight = min(max(self._weight * factor, LEAST_WEIGHT), LARGEST_WEIGHT)

    def measure(self, generator: PerturbationGenerator) -> float:
        """Mean FLIP of the sample, enlarged to :data:`VIEW_SIDE` pixels together with its perturbation."""
        was_training = generator.training
        generator.eval()
        delta = enlarged(generator.perturb_on_device(self._images, self._labels))
        generator.train(was_training)
        released = torch.from_numpy(add_bounded(self._photos.numpy(), delta.numpy(), generator.config.epsilon))
        pairs = zip(self._photos, released, strict=True)
        found = mean_flip(tuple(image.permute(1, 2, 0).numpy() for image in pair) for pair in pairs)
        assert found is not None
        return found.mean

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on."""
        return {"weight": self._weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what :meth:`state_dict` gave.

        Raises:
            ValueError: The weight is out of range.
        """
        weight = float(state["weight"])
        if not LEAST_WEIGHT <= weight <= LARGEST_WEIGHT:
            raise ValueError(f"the weight of the visibility penalty is {weight}")
        self._weight = weight
