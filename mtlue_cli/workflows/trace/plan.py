"""Which codes are shown in which stage, with how many decoys and on how many images: decided before any is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtlue_cli.generator.codebook import Numbers

STAGES = 10
"""Stages that are enough: with ten decoys each, the p-value can fall to 1e-10."""
MOST_STAGES = 20
"""A task of more classes is tested on so many of them."""
FEWEST_PROBES = 4
"""Probes of a stage, the true one among them, below which there are fewer stages instead."""
MOST_IMAGES = 8
"""More queries than that are for more decoys, which bound the p-value."""
LEAST_CODE = 0.5
"""Length of a code, as a share of the longest of its task, below which a class is not tested: hardly anything is
painted for it. The rarest class of an even task has next to no code."""

STRENGTHS = (1.0, 0.5, 1.0, 0.25)
"""Share of the bound at which the images of a stage are shown, in turn. A code that a model has learned is followed at
a lower strength than one that only happens to be near it; labels at full strength do not tell these apart."""


@dataclass(frozen=True)
class Plan:
    """The design of the probes.

    Attributes:
        stages: Of each stage, the classes of each task whose codes it tests.
        arms: True codes and decoys together, in every stage.
        images: Images per stage; each is shown with the codes of every arm.
    """

    stages: tuple[Mapping[str, tuple[int, ...]], ...]
    arms: int
    images: int

    def epsilon(self, image: int, largest: int) -> int:
        """Bound of the image number ``image`` of a stage, in 255ths; ``largest`` is that of the first."""
        return max(1, round(STRENGTHS[image % len(STRENGTHS)] * largest))

    @property
    def probes(self) -> int:
        """Probes in all."""
        return len(self.stages) * self.arms * self.images


def plan_probes(codes: Mapping[str, Numbers], shares: Mapping[str, Sequence[float]], queries: int) -> Plan:
    """The design for at most ``queries`` probes.

    A stage tests one code of a task, the most frequent class first. The codes of a task with ``C`` classes span
    ``C - 1`` directions, so that the last is known from the others: the last two stand in one stage.

    Args:
        codes: ``(C, d)`` of each task, as they are painted.
        shares: Of each class among the images.
        queries: At least two.
    """
    slots = {name: found for name, own in codes.items() if (found := _slots(own, shares[name]))}
    longest = max(map(len, slots.values()), default=0)
    total = sum(map(len, slots.values()))
    count = min(max(longest, min(total, STAGES)), MOST_STAGES, max(1, queries // FEWEST_PROBES))
    order = sorted(
        ((number + (index + 0.5) / len(slots)) / len(own), name, classes)
        for index, (name, own) in enumerate(slots.items())
        for number, classes in enumerate(own)
    )
    stages: list[dict[str, tuple[int, ...]]] = [{} for _ in range(count)]
    following = dict.fromkeys(slots, 0)  # a task has one slot in a stage at most
    for position, (_, name, classes) in enumerate(order):
        place = max(position * count // total, following[name])
        if place < count:
            stages[place][name] = classes
            following[name] = place + 1
    filled = tuple(stage for stage in stages if stage)
    images = min(MOST_IMAGES, max(1, math.isqrt(queries // max(1, len(filled))) // 2))
    return Plan(filled, queries // max(1, len(filled) * images), images)


def _slots(codes: Numbers, shares: Sequence[float]) -> list[tuple[int, ...]]:
    """The classes of a task, those of one stage together."""
    order = sorted(range(len(codes)), key=lambda index: (-shares[index], index))
    slots = [[index] for index in order[:-1]]
    slots[-1].append(order[-1])
    lengths = np.linalg.norm(codes, axis=1)
    least = LEAST_CODE * float(lengths.max())
    kept = [tuple(index for index in slot if lengths[index] >= least) for slot in slots]
    return [slot for slot in kept if slot]
