"""What a training run is told, what it works on and what it leaves."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mtlue_cli.choices import FEW_TASKS, BackboneName, ObjectiveName, Precision
from mtlue_cli.generator.checkpoint import CheckpointCard
from mtlue_cli.perturbation.effect import is_grey
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.distortions import ATTACKS, PLAIN, DistortionSettings
from mtlue_cli.workflows.training_files import sheet_beside, state_folder


@dataclass(frozen=True)
class Recipe:
    """What depends on the tasks unless the user says otherwise.

    Attributes:
        batch_size: Images per generator step.
        learning_rate: Peak rate of the generator's Adam.
        decoder_width: Channels of the decoder.
        distortions: What happens to the surrogate's images.
        chroma: Share of colour difference that the generator may use.
    """

    batch_size: int
    learning_rate: float
    decoder_width: int
    distortions: DistortionSettings
    chroma: float


THROUGH_ATTACKS = Recipe(32, 4e-3, 64, ATTACKS, 0.0)
"""TAP for few columns: through what attackers do, in luminance (docs/research/luminance.md)."""

IN_COLOUR = Recipe(64, 2e-3, 96, PLAIN, 1.0)
"""The rest. Of CelebA's forty columns a victim learned 0.70 under the other recipe (675 steps, luminance and the
companion) and -0.52 under this one (1,209 steps); see docs/research/luminance.md."""

MOSTLY_GREY = 0.5
"""Share of grey images from which a generator is trained in luminance alone."""


@dataclass(frozen=True)
class TrainConfig:
    """What ``train-generator`` was told; units as in its help.

    Attributes:
        max_steps: Generator steps after which training ends, also if ``max_minutes`` has time left.
        most_images: Train on at most so many images, spread evenly over the rows.
        private: Nobody but the owner may read the checkpoint, and images that cannot be read are left out with a note
            instead of refused: ``protect`` trains for itself.
    """

    images: Path
    labels: Path
    out: Path
    reading: LabelOptions = field(default_factory=LabelOptions)
    tasks: tuple[str, ...] | None = None
    objective: ObjectiveName = ObjectiveName.TAP
    size: int = 64
    epsilon: int = 8
    epochs: int | None = None
    max_minutes: float | None = None
    max_steps: int | None = None
    surrogate: BackboneName = BackboneName.SMALL
    surrogate_epochs: int = 6
    intra_weight: float = 1.0
    inter_weight: float = 10.0
    learnability_weight: float | None = None
    distortions: DistortionSettings | None = None
    chroma: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.AUTO
    licence: str = "unspecified"
    contact_sheet: Path | None = None
    overwrite: bool = False
    workers: int = 2
    limit: int | None = None
    most_images: int | None = None
    private: bool = False
    start: str | None = None
    key: Path | None = None

    @property
    def state_folder(self) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return state_folder(self.out)

    @property
    def sheet_path(self) -> Path:
        """Where the contact sheet goes."""
        return sheet_beside(self.out, self.contact_sheet)

    def learnability(self, tasks: int) -> float:
        """Weight of the learnability companion with so many tasks, unless one is asked for.

        Measured with ResNet-18 victims: for UTKFace's three tasks TAP alone is better (learned fraction -0.50 against
        -0.42, and it holds in grey), for CelebA's forty far worse (-0.29 against -0.52). EM has no companion.
        """
        if self.learnability_weight is not None:
            return self.learnability_weight
        return 0.0 if self.objective is ObjectiveName.TAP and tasks <= FEW_TASKS else 1.0

    def recipe_for(self, tasks: TaskSet, images: Tensor) -> "Recipe":
        """:data:`THROUGH_ATTACKS` where that was measured to protect, else :data:`IN_COLOUR`.

        What the user asks for overrules both.

        Args:
            tasks: The tasks.
            images: ``(N, 3, S, S)`` uint8. Where most are grey, they can carry no colour.
        """
        measured = self.objective is ObjectiveName.TAP and not self.learnability(len(tasks)) and not len(tasks.dense)
        recipe = THROUGH_ATTACKS if measured else IN_COLOUR
        if not len(tasks.dense) and grey_share(images) > MOSTLY_GREY:
            recipe = replace(recipe, chroma=0.0)
        asked = {name: getattr(self, name) for name in ("batch_size", "learning_rate", "distortions", "chroma")}
        return replace(recipe, **{name: value for name, value in asked.items() if value is not None})

    def recorded_settings(self) -> dict[str, Any]:
        """Everything that decides the weights, without paths and what they start from."""
        aside = {"images", "labels", "out", "device", "licence", "contact_sheet", "overwrite", "workers", "reading"}
        aside |= {"start", "key", "private"}
        return {
            name: value
            for name, value in json.loads(json.dumps(asdict(self), default=str)).items()
            if name not in aside
        }


@dataclass(frozen=True)
class TrainResult:
    """What a finished run left.

    Attributes:
        checkpoint, contact_sheet: The files written.
        card: What the checkpoint says of itself.
        history: Mean figures of each stretch of 50 generator steps.
        seconds: Time of this process, reading included.
        steps: Generator steps in all.
    """

    checkpoint: Path
    contact_sheet: Path
    card: CheckpointCard
    history: list[dict[str, float]]
    seconds: float
    steps: int


@dataclass(frozen=True)
class TrainingData:
    """Images at the generator's size, ``(N, 3, S, S)`` uint8, labels a task, and their SHA-256.

    Tasks of depth have their spans.
    """

    images: Tensor
    labels: Mapping[str, Tensor]
    tasks: TaskSet
    digest: str


def grey_share(images: Tensor) -> float:
    """Share of images that are grey (:func:`~mtlue_cli.perturbation.effect.is_grey`): ``(N, 3, S, S)`` uint8."""
    return sum(is_grey(image.permute(1, 2, 0).numpy()) for image in images) / max(1, len(images))


def generator_size(view_size: int) -> int:
    """Side of the whole images whose 90 % crops are ``view_size`` wide, in multiples of four."""
    return 4 * round(view_size * 1.125 / 4)
