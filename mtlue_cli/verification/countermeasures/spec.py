"""What a countermeasure declares about itself, for whoever lists, chooses or runs it."""

from collections.abc import Callable
from dataclasses import dataclass

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.verification.countermeasures.base import Countermeasure


@dataclass(frozen=True)
class CountermeasureSpec:
    """One countermeasure, declared in the file that implements it.

    Attributes:
        name: Its value on the command line.
        title: Its name in tables.
        cost: Time that it takes, training included, in units of plain training on the same images.
        tier: The lowest tier that includes it.
        source: Where it comes from, as a citation.
        build: Makes a fresh one, with the settings that verification uses.
    """

    name: CountermeasureName
    title: str
    cost: float
    tier: Tier
    source: str
    build: Callable[[], Countermeasure]
