"""What a probe is given and what it says."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.documents import Document
from mtlue_cli.tasks.spec import TaskSet

FEWEST_IMAGES = 8
"""Images that a probe needs: it divides them."""

ROWS = 256
"""Images that are held as floats at a time."""


@dataclass(frozen=True)
class ProbeSample:
    """A release beside its originals.

    Attributes:
        originals: ``(N, 3, S, S)`` uint8.
        release: The same images, protected, in the same order.
        labels: Task name to ``(N,)`` int64, negative where unlabelled.
        tasks: Their tasks.

    Raises:
        ValueError: The shapes differ, or there are fewer than eight images, too few to be divided.
    """

    originals: Tensor
    release: Tensor
    labels: Mapping[str, Tensor]
    tasks: TaskSet

    def __post_init__(self) -> None:
        if self.originals.shape != self.release.shape:
            raise ValueError(
                f"originals are {tuple(self.originals.shape)}, the release is {tuple(self.release.shape)}: "
                "a probe needs the same images in the same order"
            )
        if len(self.originals) < FEWEST_IMAGES:
            raise ValueError(f"a probe needs at least {FEWEST_IMAGES} images, not {len(self.originals)}")

    def divided(self, seed: int, parts: int) -> tuple[Tensor, ...]:
        """Rows of so many parts of equal size, drawn by ``seed``."""
        order = torch.randperm(len(self.originals), generator=torch.Generator().manual_seed(seed))
        return torch.tensor_split(order, parts)


class ProbeFigures(Document, frozen=True):
    """A measurement beside the verdict.

    Attributes:
        name, title: Unique within the document; the name for a reader.
        figures: Name to number.
        meaning: How to read the figures.
    """

    name: str
    title: str
    figures: Mapping[str, float]
    meaning: str


class Probe(ABC):
    """A measurement that trains no victim; a subclass is a frozen dataclass whose fields are its settings."""

    title = ""

    @abstractmethod
    def run(self, sample: ProbeSample, seed: int, device: torch.device) -> ProbeFigures:
        """Measure; the seed divides the images, and the same seed gives the same result on a CPU.

        Raises:
            ValueError: The sample does not suffice.
        """
