"""All countermeasures by name, and which of them a tier runs.

``smoke`` has ten minutes on two processor cores for a clean, a protected and a noise victim beside the attacked ones,
so it takes one countermeasure of each kind, each the one that its kind is judged by:

- ``jpeg-10``: compression. Of the methods in Liu et al., ICML 2023, those made with fully trained surrogates (TAP, SEP)
  fall to it.
- ``grayscale``: colour. In the same table the coarse patterns of EM fall to it.
- ``cutmix``: training that mixes labels, and with them what a pattern stands for.
- ``random-resized-crop``: geometry. It moves and scales what is tied to a place.
- ``label-regression`` and ``orthogonal-projection``: linear algebra. They take out what is fixed for a class.

``standard`` adds every other kind once, and ``full`` repeats kinds: milder JPEG, and Cutout, which CutMix contains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.named_settings import Entry, configure, to_json
from mtlue_cli.verification.countermeasures.adversarial_training import ADVERSARIAL_TRAINING, FGSM_TRAINING
from mtlue_cli.verification.countermeasures.base import Countermeasure
from mtlue_cli.verification.countermeasures.bit_depth import BIT_DEPTH
from mtlue_cli.verification.countermeasures.colour_jitter import COLOUR_JITTER
from mtlue_cli.verification.countermeasures.cutmix import CUTMIX
from mtlue_cli.verification.countermeasures.cutout import CUTOUT
from mtlue_cli.verification.countermeasures.gaussian_blur import GAUSSIAN_BLUR
from mtlue_cli.verification.countermeasures.gaussian_noise import GAUSSIAN_NOISE
from mtlue_cli.verification.countermeasures.grayscale import GRAYSCALE
from mtlue_cli.verification.countermeasures.jpeg import JPEG_10, JPEG_30, JPEG_50, JPEG_75
from mtlue_cli.verification.countermeasures.label_regression import LABEL_REGRESSION
from mtlue_cli.verification.countermeasures.low_pass import LOW_PASS
from mtlue_cli.verification.countermeasures.mixup import MIXUP
from mtlue_cli.verification.countermeasures.orthogonal_projection import ORTHOGONAL_PROJECTION
from mtlue_cli.verification.countermeasures.pair_remover import PAIR_REMOVER
from mtlue_cli.verification.countermeasures.random_resized_crop import RANDOM_RESIZED_CROP
from mtlue_cli.verification.countermeasures.recompute_removal import RECOMPUTE_REMOVAL
from mtlue_cli.verification.countermeasures.resize_down_up import RESIZE
from mtlue_cli.verification.countermeasures.spec import CountermeasureSpec
from mtlue_cli.verification.countermeasures.ueraser import UERASER

COUNTERMEASURES: Mapping[CountermeasureName, CountermeasureSpec[Any]] = {
    CountermeasureName.JPEG_10: JPEG_10,
    CountermeasureName.JPEG_30: JPEG_30,
    CountermeasureName.JPEG_50: JPEG_50,
    CountermeasureName.JPEG_75: JPEG_75,
    CountermeasureName.GRAYSCALE: GRAYSCALE,
    CountermeasureName.BIT_DEPTH: BIT_DEPTH,
    CountermeasureName.GAUSSIAN_BLUR: GAUSSIAN_BLUR,
    CountermeasureName.LOW_PASS: LOW_PASS,
    CountermeasureName.RESIZE: RESIZE,
    CountermeasureName.GAUSSIAN_NOISE: GAUSSIAN_NOISE,
    CountermeasureName.CUTOUT: CUTOUT,
    CountermeasureName.MIXUP: MIXUP,
    CountermeasureName.CUTMIX: CUTMIX,
    CountermeasureName.RANDOM_RESIZED_CROP: RANDOM_RESIZED_CROP,
    CountermeasureName.COLOUR_JITTER: COLOUR_JITTER,
    CountermeasureName.LABEL_REGRESSION: LABEL_REGRESSION,
    CountermeasureName.ORTHOGONAL_PROJECTION: ORTHOGONAL_PROJECTION,
    CountermeasureName.UERASER: UERASER,
    CountermeasureName.FGSM_TRAINING: FGSM_TRAINING,
    CountermeasureName.ADVERSARIAL_TRAINING: ADVERSARIAL_TRAINING,
    CountermeasureName.PAIR_REMOVER: PAIR_REMOVER,
    CountermeasureName.RECOMPUTE_REMOVAL: RECOMPUTE_REMOVAL,
}


ENTRIES = tuple(
    Entry(spec.name.value, spec.settings, spec.family or spec.name.value) for spec in COUNTERMEASURES.values()
)
"""What ``--countermeasure`` may name."""


@dataclass(frozen=True)
class Attack:
    """A countermeasure under given settings.

    Attributes:
        name: As ``--countermeasure`` takes it, such as ``jpeg-10`` or ``jpeg:quality=20``.
        spec: What it declares about itself.
        settings: All of its settings.
    """

    name: str
    spec: CountermeasureSpec[Any]
    settings: Any

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.spec.title_with(self.settings)

    @property
    def cost(self) -> float:
        """Time that it takes, training included, in units of plain training on the same images."""
        return self.spec.cost_with(self.settings)

    def build(self) -> Countermeasure:
        """A fresh one."""
        return self.spec.build(self.settings)

    def require_fit(self, tasks: TaskSet) -> None:
        """Refuse what it cannot be tried on.

        Raises:
            InputError: It is for tasks of another kind.
        """
        if self.spec.moves_content and len(tasks.dense):
            raise InputError("it moves what images show and leaves label maps where they are")
        if self.spec.image_level_only and not len(tasks.image_level):
            raise InputError("it works on labels of whole images, and there are none")

    def settings_to_json(self) -> dict[str, Any]:
        """Every setting by name."""
        return to_json(self.settings)


@cache
def attack_named(name: str) -> Attack:
    """The countermeasure that ``--countermeasure NAME[:SETTING=VALUE,...]`` names.

    Raises:
        InputError: There is none, or its settings are at fault.
    """
    found = configure("countermeasure", str(name), ENTRIES)
    return Attack(found.name, COUNTERMEASURES[CountermeasureName(found.entry)], found.settings)


def countermeasures_of(tier: Tier) -> tuple[CountermeasureSpec[Any], ...]:
    """What ``tier`` runs, in the order of the registry."""
    return tuple(spec for spec in COUNTERMEASURES.values() if tier.includes(spec.tier))
