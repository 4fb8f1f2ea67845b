"""What a countermeasure declares about itself, for whoever lists, chooses or runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter
from typing import Any, Generic, TypeVar

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.training.named_settings import written
from mtlue_cli.verification.countermeasures.base import Countermeasure

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True)
class CountermeasureSpec(Generic[SettingsT]):
    """One countermeasure, declared in the file that implements it.

    Attributes:
        name: Its value on the command line.
        title: Its name in tables; ``{setting}`` stands for the value of one.
        tier: The lowest tier that includes it.
        source: Where it comes from, as a citation.
        settings: Those that verification uses unless told otherwise.
        make: Makes a fresh one with given settings.
        cost: Time that it takes, training included, in units of plain training on the same images; or a function of
            its settings that gives it.
        of_published_weights: Whether it takes weights that an attacker can get; where none are published, a tier
            leaves it out.
        family: Name that stands for it with other settings; None: its own.
        image_level_only: Whether it works on labels of images: it does not see label maps, and cannot run on these
            alone.
        moves_content: Whether it moves what an image shows and leaves label maps where they are: it would spoil what it
            is tried on where tasks are labelled pixel by pixel.
    """

    name: CountermeasureName
    title: str
    tier: Tier
    source: str
    settings: SettingsT
    make: Callable[[SettingsT], Countermeasure]
    cost: float | Callable[[SettingsT], float] = 1.0
    family: str | None = None
    image_level_only: bool = False
    moves_content: bool = False
    of_published_weights: bool = False

    def build(self, settings: SettingsT | None = None) -> Countermeasure:
        """A fresh one; None: with the usual settings."""
        return self.make(self.settings if settings is None else settings)

    def cost_with(self, settings: SettingsT) -> float:
        """:attr:`cost` under other settings."""
        return self.cost(settings) if callable(self.cost) else self.cost

    def title_with(self, settings: SettingsT) -> str:
        """:attr:`title` under other settings; those that it does not tell stand behind it where they are unusual."""
        values: dict[str, Any] = vars(settings)
        told = {name for _, name, _, _ in Formatter().parse(self.title) if name is not None}
        untold = [line for line in written(settings, self.settings) if line.partition("=")[0] not in told]
        return self.title.format(**values) + (f" ({', '.join(untold)})" if untold else "")
