"""What a probe is given and what it says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.choices import ProbeName
from mtlue_cli.tasks.spec import TaskSet

FEWEST_IMAGES = 8
"""Images that a probe needs: it divides them."""


@dataclass(frozen=True)
class ProbeSample:
    """A release beside its originals.

    Attributes:
        originals: ``(N, 3, S, S)`` uint8.
        release: The same images, protected, in the same order.
        labels: Task name to ``(N,)`` int64, negative where unlabelled.
        tasks: Their tasks.
    """

    originals: Tensor
    release: Tensor
    labels: Mapping[str, Tensor]
    tasks: TaskSet

    def __post_init__(self) -> None:
        """Refuse what does not belong together.

        Raises:
            ValueError: The shapes differ, or there are fewer than eight images, too few to be divided.
        """
        if self.originals.shape != self.release.shape:
            raise ValueError(
                f"originals are {tuple(self.originals.shape)}, the release is {tuple(self.release.shape)}: "
                "a probe needs the same images in the same order"
            )
        if len(self.originals) < FEWEST_IMAGES:
            raise ValueError(f"a probe needs at least {FEWEST_IMAGES} images, not {len(self.originals)}")


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        probe: Which one.
        figures: Name to figure, each in [0, 1].
        finding: What they mean, one sentence.
    """

    probe: ProbeName
    figures: Mapping[str, float]
    finding: str


Probe = Callable[[ProbeSample, int, torch.device], ProbeResult]
"""Takes a sample, a seed for whatever it draws, and a device; the same seed gives the same result on a CPU."""
