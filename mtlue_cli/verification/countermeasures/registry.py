"""All countermeasures by name, and which of them a tier runs.

``smoke`` is to take minutes on two processor cores, a clean, a protected and a noise victim beside the attacked ones
included, so it takes one countermeasure of each kind, each the one that its kind is judged by:

- ``jpeg-10``: compression. Of the methods in Liu et al., ICML 2023, those made with fully trained surrogates (TAP, SEP)
  fall to it.
- ``grayscale``: colour. In the same table the coarse patterns of EM fall to it.
- ``cutmix``: training that mixes labels, and with them what a pattern stands for.
- ``random-resized-crop``: geometry. It moves and scales what is tied to a place.
- ``label-regression`` and ``orthogonal-projection``: linear algebra. They take out what is fixed for a class.

``standard`` adds every other kind once, and ``full`` repeats kinds: milder JPEG, and Cutout, which CutMix contains.
"""

from collections.abc import Mapping

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.training.named_settings import choose
from mtlue_cli.verification.countermeasures.adversarial_training import AdversarialTraining, FgsmTraining
from mtlue_cli.verification.countermeasures.augmentation import (
    ColourJitter,
    CutMix,
    Cutout,
    GaussianNoise,
    MixUp,
    NonlinearTransformations,
    RandomInterpolation,
    RandomResizedCrop,
    RandomSharpening,
)
from mtlue_cli.verification.countermeasures.base import CountermeasureChoice
from mtlue_cli.verification.countermeasures.early_stop import EarlyStop
from mtlue_cli.verification.countermeasures.in_order import STEPS, in_order
from mtlue_cli.verification.countermeasures.label_regression import LabelRegression
from mtlue_cli.verification.countermeasures.orthogonal_projection import OrthogonalProjection
from mtlue_cli.verification.countermeasures.pair_purification import PairPurification
from mtlue_cli.verification.countermeasures.pair_remover import PairRemover
from mtlue_cli.verification.countermeasures.preprocessing import (
    Blur,
    ChromaBlur,
    FewerBits,
    JpegRoundTrip,
    LowPass,
    ResizeDownUp,
    ToGrayscale,
)
from mtlue_cli.verification.countermeasures.purification import Purification
from mtlue_cli.verification.countermeasures.recompute_removal import RecomputeRemoval
from mtlue_cli.verification.countermeasures.ueraser import UEraser

COUNTERMEASURES: Mapping[str, CountermeasureChoice] = {
    name: CountermeasureChoice(name=name, tier=lowest_tier, settings=usual, family=usual.family)
    for name, lowest_tier, usual in (
        (CountermeasureName.JPEG_10, Tier.SMOKE, JpegRoundTrip(10)),
        (CountermeasureName.JPEG_30, Tier.STANDARD, JpegRoundTrip(30)),
        (CountermeasureName.JPEG_50, Tier.FULL, JpegRoundTrip(50)),
        (CountermeasureName.JPEG_75, Tier.FULL, JpegRoundTrip(75)),
        (CountermeasureName.GRAYSCALE, Tier.SMOKE, ToGrayscale()),
        (CountermeasureName.BIT_DEPTH, Tier.STANDARD, FewerBits()),
        (CountermeasureName.GAUSSIAN_BLUR, Tier.STANDARD, Blur()),
        (CountermeasureName.LOW_PASS, Tier.STANDARD, LowPass()),
        (CountermeasureName.CHROMA_LOW_PASS, Tier.STANDARD, ChromaBlur()),
        (CountermeasureName.RESIZE, Tier.STANDARD, ResizeDownUp()),
        (CountermeasureName.GAUSSIAN_NOISE, Tier.STANDARD, GaussianNoise()),
        (CountermeasureName.CUTOUT, Tier.FULL, Cutout()),
        (CountermeasureName.MIXUP, Tier.STANDARD, MixUp()),
        (CountermeasureName.CUTMIX, Tier.SMOKE, CutMix()),
        (CountermeasureName.RANDOM_RESIZED_CROP, Tier.SMOKE, RandomResizedCrop()),
        (CountermeasureName.COLOUR_JITTER, Tier.STANDARD, ColourJitter()),
        (CountermeasureName.RANDOM_INTERPOLATION, Tier.STANDARD, RandomInterpolation()),
        (CountermeasureName.RANDOM_SHARPENING, Tier.STANDARD, RandomSharpening()),
        (CountermeasureName.NONLINEAR, Tier.STANDARD, NonlinearTransformations()),
        (CountermeasureName.LABEL_REGRESSION, Tier.SMOKE, LabelRegression()),
        (CountermeasureName.ORTHOGONAL_PROJECTION, Tier.SMOKE, OrthogonalProjection()),
        (CountermeasureName.UERASER, Tier.STANDARD, UEraser()),
        (CountermeasureName.FGSM_TRAINING, Tier.STANDARD, FgsmTraining()),
        (CountermeasureName.ADVERSARIAL_TRAINING, Tier.FULL, AdversarialTraining()),
        (CountermeasureName.PURIFICATION, Tier.STANDARD, Purification()),
        (CountermeasureName.PAIR_PURIFICATION, Tier.STANDARD, PairPurification()),
        (CountermeasureName.PAIR_REMOVER, Tier.STANDARD, PairRemover()),
        (CountermeasureName.RECOMPUTE_REMOVAL, Tier.STANDARD, RecomputeRemoval()),
        (CountermeasureName.EARLY_STOP, Tier.STANDARD, EarlyStop()),
    )
}


def countermeasure_named(text: str, kind: str = "countermeasure") -> CountermeasureChoice:
    """The countermeasure that ``--countermeasure NAME[:SETTING=VALUE,...]`` names, or several joined by ``+``.

    Raises:
        InputError: There is none, its settings are at fault, or the steps do not fit together.
    """
    return in_order([choose(kind, step, COUNTERMEASURES.values()) for step in STEPS.split(text)])


def countermeasures_of(tier: Tier) -> tuple[CountermeasureChoice, ...]:
    """What ``tier`` runs, in the order of the registry."""
    return tuple(choice for choice in COUNTERMEASURES.values() if tier.includes(choice.tier))
