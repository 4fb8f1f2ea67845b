"""The settings of a training run, the data it works on and its result."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mtlue_cli.choices import FEW_TASKS, FIRST_ALONE, BackboneName, ObjectiveName, Visibility
from mtlue_cli.generator.checkpoint import CheckpointCard
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.notebook import html_table
from mtlue_cli.objectives import OBJECTIVES
from mtlue_cli.perturbation.bound import is_grey
from mtlue_cli.tasks.overview import ColumnUse
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.distortions import ATTACKS, PLAIN, WIDE_ATTACKS, DistortionSettings
from mtlue_cli.training.pretrained import USUAL_START
from mtlue_cli.workflows.train.config import SurrogateChoice, TrainConfig, surrogates_named

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """Settings whose defaults depend on the tasks and the images.

    Attributes:
        batch_size: Images per generator step.
        learning_rate: Peak rate of the generator's Adam.
        decoder_width: Channels of the decoder.
        distortions: What happens to the surrogate's images.
        visibility: How visible the perturbation may be.
        chroma: Share of colour difference that the generator may use.
        surrogate: Networks that it is trained against, as ``--surrogate`` names them.
        learnability_weight: Weight of the error-minimising companion; EM has none.
        first_alone: Steps against the first of several, before all take turns; 0 for one surrogate, and where the
            generator begins with trained weights.
    """

    batch_size: int
    learning_rate: float
    decoder_width: int
    distortions: DistortionSettings
    visibility: Visibility
    chroma: float
    surrogate: str
    learnability_weight: float
    first_alone: int = 0

    @property
    def surrogates(self) -> tuple[SurrogateChoice, ...]:
        """What :attr:`surrogate` names."""
        return surrogates_named(self.surrogate)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


BOTH_ATTACKERS = "small,imagenet-head"
"""A network that is trained from scratch, and a classifier on frozen ImageNet features, which learned 0.67 from weights
that were trained against the first alone (docs/research/surrogates.md)."""

THROUGH_ATTACKS = Recipe(32, 4e-3, 96, ATTACKS, Visibility.NORMAL, 1.0, BOTH_ATTACKERS, 1.0)
"""TAP for few columns: with the distortions of attackers (docs/research/luminance.md), down to half of the side
(docs/research/stronger-training.md), colour, whose visibility has a cost (docs/research/visibility.md), and a companion
(docs/research/companion.md)."""

IN_LUMINANCE = replace(
    THROUGH_ATTACKS,
    decoder_width=64,
    distortions=WIDE_ATTACKS,
    visibility=Visibility.HIGH,
    chroma=0.0,
    surrogate=BackboneName.SMALL,
    learnability_weight=0.0,
)
"""The same without a limit of visibility, and for grey images: in luminance and against one surrogate, since the rest
was not measured there."""

IN_COLOUR = Recipe(64, 2e-3, 96, PLAIN, Visibility.HIGH, 1.0, BackboneName.SMALL, 1.0)
"""The rest. Of CelebA's forty columns a victim learned 0.70 under the other recipe (675 steps, luminance and the
companion) and -0.52 under this one (1,209 steps); see docs/research/luminance.md."""

FOR_MAPS = replace(IN_COLOUR, learnability_weight=0.0)
"""TAP for few columns of which some are of maps: a companion was not measured to help there (docs/dense.md)."""

MOSTLY_GREY = 0.5
"""Share of grey images from which a generator is trained in luminance alone."""


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished run.

    Attributes:
        checkpoint, contact_sheet: The files written.
        card: The checkpoint's metadata.
        history: Mean figures of every 50 generator steps.
        seconds: Time of this process, reading included.
        steps: Number of generator steps.
        size: Side in pixels of the views that it was trained on.
        columns: What became of each column of the labels.
    """

    checkpoint: Path
    contact_sheet: Path
    card: CheckpointCard
    history: list[dict[str, float]]
    seconds: float
    steps: int
    size: int
    columns: tuple[ColumnUse, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        card = self.card
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "train-generator",
            "checkpoint": str(self.checkpoint),
            "contact_sheet": str(self.contact_sheet),
            "digest": card.digest,
            "data_digest": card.data_digest,
            "objective": card.objective,
            "universal": card.universal,
            "tasks": card.tasks.to_json(),
            "epsilon": card.epsilon,
            "size": self.size,
            "image_size": card.image_size,
            "settings": card.settings,
            "licence": card.licence,
            "versions": card.versions,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "history": self.history,
            "columns": [column.to_json() for column in self.columns],
        }

    def rows(self) -> dict[str, str]:
        """The result by name, in words."""
        rows = {"objective": self.card.objective}
        for task in self.card.tasks:
            shown = f"{task.num_classes} classes: {', '.join(task.classes[:12])}"
            rows[f"task {task.name}"] = shown if task.classes else task.kind.value
        rows |= {"kept useful": ", ".join(self.card.kept)} if self.card.kept else {}
        rows |= {"epsilon": f"{self.card.epsilon}/255", "size": f"{self.card.image_size} pixels"}
        rows["steps"] = str(self.steps)
        if self.history:
            last, aim = self.history[-1], OBJECTIVES[ObjectiveName(self.card.objective)].agreement
            rows |= {
                "final loss": f"{last['loss']:.4g}",
                aim: f"{last['agreement']:.1%}",
                "mean change": f"{last['mean_change']:.3g}/255",
            }
        if "flip" in self.card.settings:
            rows["FLIP in training"] = f"{self.card.settings['flip']:.3f}"
        return rows | {"contact sheet": str(self.contact_sheet), "digest": self.card.digest}

    def _repr_html_(self) -> str:
        return html_table("Trained generator", {"checkpoint": self.checkpoint, **self.rows(), "seconds": self.seconds})


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, in memory.

    Attributes:
        images: ``(N, 3, S, S)`` uint8 at the generator's size.
        labels: Task name to labels.
        tasks: What surrogates learn. Those of depth have their spans.
        digest: SHA-256 of images and labels.
        kept: Names of the tasks that are to stay useful.
    """

    images: Tensor
    labels: Mapping[str, Tensor]
    tasks: TaskSet
    digest: str
    kept: tuple[str, ...] = ()

    @property
    def protected(self) -> TaskSet:
        """The tasks of the generator."""
        return self.tasks.subset(name for name in self.tasks.names if name not in self.kept)


def recipe_for(config: TrainConfig, data: TrainingData, *, trained: bool = False) -> Recipe:
    """The recipe for the objective, the tasks and the images; what ``config`` asks for overrules it.

    Where most images are grey, they can carry no colour, and there is no limit of visibility: none was measured there.
    ``trained`` says that the generator begins with trained weights.
    """
    tasks, images = data.protected, data.images
    tap = config.objective is ObjectiveName.TAP
    measured = tap and tasks.few_labels
    recipe = THROUGH_ATTACKS if measured else FOR_MAPS if tap and len(tasks) <= FEW_TASKS else IN_COLOUR
    grey = sum(is_grey(image.permute(1, 2, 0).numpy()) for image in images) if not len(tasks.dense) else 0
    if grey > MOSTLY_GREY * len(images) or (measured and config.visibility is Visibility.HIGH):
        recipe = IN_LUMINANCE if measured else replace(recipe, chroma=0.0)
    if config.size < BACKBONES[USUAL_START].smallest_side or len(data.tasks.dense):
        recipe = replace(recipe, surrogate=BackboneName.SMALL)
    settings = [one.name for one in fields(Recipe) if one.name not in ("decoder_width", "first_alone")]
    recipe = replace(recipe, **{name: value for name in settings if (value := getattr(config, name)) is not None})
    alone = FIRST_ALONE if len(recipe.surrogates) > 1 and not trained else 0
    return replace(recipe, first_alone=alone)


def generator_size(view_size: int) -> int:
    """Side of the whole images whose 90 % crops are ``view_size`` wide, in multiples of four."""
    return 4 * round(view_size * 1.125 / 4)
