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
from typing import Any

from mtlue_cli.choices import Tier
from mtlue_cli.training.named_settings import choose
from mtlue_cli.verification.countermeasures.adversarial_training import ADVERSARIAL_TRAINING, FGSM_TRAINING
from mtlue_cli.verification.countermeasures.base import CountermeasureChoice
from mtlue_cli.verification.countermeasures.bit_depth import BIT_DEPTH
from mtlue_cli.verification.countermeasures.chroma_low_pass import CHROMA_LOW_PASS
from mtlue_cli.verification.countermeasures.colour_jitter import COLOUR_JITTER
from mtlue_cli.verification.countermeasures.cutout import CUTOUT
from mtlue_cli.verification.countermeasures.gaussian_blur import GAUSSIAN_BLUR
from mtlue_cli.verification.countermeasures.gaussian_noise import GAUSSIAN_NOISE
from mtlue_cli.verification.countermeasures.grayscale import GRAYSCALE
from mtlue_cli.verification.countermeasures.jpeg import JPEG_10, JPEG_30, JPEG_50, JPEG_75
from mtlue_cli.verification.countermeasures.label_regression import LABEL_REGRESSION
from mtlue_cli.verification.countermeasures.low_pass import LOW_PASS
from mtlue_cli.verification.countermeasures.mixing import CUTMIX, MIXUP
from mtlue_cli.verification.countermeasures.orthogonal_projection import ORTHOGONAL_PROJECTION
from mtlue_cli.verification.countermeasures.pair_remover import PAIR_REMOVER
from mtlue_cli.verification.countermeasures.random_resized_crop import RANDOM_RESIZED_CROP
from mtlue_cli.verification.countermeasures.recompute_removal import RECOMPUTE_REMOVAL
from mtlue_cli.verification.countermeasures.resize_down_up import RESIZE
from mtlue_cli.verification.countermeasures.ueraser import UERASER

COUNTERMEASURES: Mapping[str, CountermeasureChoice[Any]] = {
    choice.name: choice
    for choice in (
        JPEG_10,
        JPEG_30,
        JPEG_50,
        JPEG_75,
        GRAYSCALE,
        BIT_DEPTH,
        GAUSSIAN_BLUR,
        LOW_PASS,
        CHROMA_LOW_PASS,
        RESIZE,
        GAUSSIAN_NOISE,
        CUTOUT,
        MIXUP,
        CUTMIX,
        RANDOM_RESIZED_CROP,
        COLOUR_JITTER,
        LABEL_REGRESSION,
        ORTHOGONAL_PROJECTION,
        UERASER,
        FGSM_TRAINING,
        ADVERSARIAL_TRAINING,
        PAIR_REMOVER,
        RECOMPUTE_REMOVAL,
    )
}


def countermeasure_named(name: str) -> CountermeasureChoice[Any]:
    """The countermeasure that ``--countermeasure NAME[:SETTING=VALUE,...]`` names.

    Raises:
        InputError: There is none, or its settings are at fault.
    """
    return choose("countermeasure", name, COUNTERMEASURES.values())


def countermeasures_of(tier: Tier) -> tuple[CountermeasureChoice[Any], ...]:
    """What ``tier`` runs, in the order of the registry."""
    return tuple(choice for choice in COUNTERMEASURES.values() if tier.includes(choice.tier))
