"""What a surviving share is worth: what victims learned from releases that were changed, as measured.

The figures lie in ``worth.json``. ``benchmarks/surviving_share.py`` makes them from results of ``mtlue verify`` and
from the shares that :mod:`mtlue_cli.workflows.trace.surviving` measures of images that were changed in the same way.
"""

from functools import cache
from importlib.resources import files
from operator import attrgetter

import msgspec

from mtlue_cli.documents import Document

TABLE = "worth.json"

CONVERGED_STEPS = 3000
"""Optimiser steps from which a victim counts as trained to the end. Shorter ones favour who stops early."""

ALL_SHOWN = 0.95
"""Share of a photo's area from which a copy counts as uncropped."""


class Measured(Document, frozen=True):
    """What victims learned from one kind of changed copies.

    Attributes:
        condition: What was done to the released images.
        share: Mean share of the perturbation that was left.
        deviation: Standard deviation of the share between images.
        covered: Mean share of the photo's area that was seen.
        learned: Learned fraction after the last epoch: 0 is what guessing the most frequent classes reaches, 1 what
            clean images teach.
        learned_best_epoch: The same for a victim that stops at its best epoch, which needs clean images to know.
        learned_error: Standard error of the learned fraction by the number of test images; seeds add to it.
        steps: Optimiser steps of a victim.
        images: Images that it was trained on.
    """

    condition: str
    share: float
    deviation: float
    covered: float
    learned: float
    learned_best_epoch: float
    learned_error: float
    steps: int
    images: int

    @property
    def converged(self) -> bool:
        """Whether the victims were trained to the end."""
        return self.steps >= CONVERGED_STEPS


class WorthTable(Document, frozen=True):
    """The measurements.

    Attributes:
        schema_version: Of the table.
        where: Of what data and weights they are, in a few words.
        about: The same with victims and tests.
        rows: One of each condition and length of training.
    """

    schema_version: int
    where: str
    about: str
    rows: tuple[Measured, ...]


class Worth(Document, frozen=True):
    """What a share is worth, by the nearest measurements.

    Attributes:
        learned_high: Most that victims that were trained to the end learned, at their best epoch, in the measured
            conditions with at least as much left as the nearest measurement below the share; null where none was
            measured with so little left.
        nearest: The measurements below and above the share.
        meaning: The same in a sentence.
        about: Of what data, weights and victims the measurements are.
    """

    learned_high: float | None
    nearest: tuple[Measured, ...]
    meaning: str
    about: str


@cache
def worth_table() -> WorthTable:
    """The measurements that are shipped."""
    content = files("mtlue_cli.workflows.trace").joinpath(TABLE).read_bytes()
    return msgspec.json.decode(content, type=WorthTable)


def worth_of(low: float, covered: float = 1.0, table: WorthTable | None = None) -> Worth:
    """What a share of which at least ``low`` is left is worth, for copies that show ``covered`` of the photo's area.

    Nothing is interpolated: learning is taken to fall with the share, so that the measurement next below is a bound.
    """
    table = table or worth_table()
    rows = [row for row in table.rows if covered < ALL_SHOWN or row.covered >= ALL_SHOWN]
    long = [row for row in rows if row.converged]
    floor = max((row for row in long if row.share <= low), key=attrgetter("share"), default=None)
    short = max((row for row in rows if not row.converged and row.share <= low), key=attrgetter("share"), default=None)
    above = min((row for row in long if row.share > low), key=attrgetter("share"), default=None)
    nearest = tuple(row for row in ((floor or short), above) if row is not None)
    if floor is None:
        return Worth(None, nearest, _weak(short, table.where), table.about)
    high = max(row.learned_best_epoch for row in long if row.share >= floor.share)
    meaning = (
        f"victims trained to the end learned at most {high:.2f} of what clean images teach, in all measured conditions "
        f"that left {floor.share:.0%} or more ({floor.condition}); {table.where}"
    )
    return Worth(high, nearest, meaning, table.about)


def _weak(short: Measured | None, where: str) -> str:
    if short is None:
        return "less is left than in any measurement: expect copies to teach what clean images teach"
    return (
        f"not measured with victims trained to the end; short ones learned {short.learned:.2f} of what clean images "
        f"teach with {short.share:.0%} left ({short.condition}); {where}"
    )
