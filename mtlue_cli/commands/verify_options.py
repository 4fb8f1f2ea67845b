"""Options of ``verify`` alone."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    LearnerName,
    MetricName,
    Tier,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.commands.options import INPUT, OUTPUT, TRAINING, variable

ATTACK = "What is tried"


def _option(long: str, *short: str, panel: str, **settings: Any) -> Any:  # noqa: ANN401 - typer's own types
    """An option with an environment variable of this command's own."""
    return typer.Option(long, *short, rich_help_panel=panel, envvar=variable(long.split("/")[0], "verify"), **settings)


def _names(names: type[StrEnum]) -> Callable[[], list[str]]:
    """What a shell may complete."""
    return lambda: [name.value for name in names]


def _all(names: type[StrEnum]) -> str:
    return ", ".join(name.value for name in names)


ProtectedOption = Annotated[
    Path | None,
    _option(
        "--protected",
        "-p",
        panel=INPUT,
        help="The release to judge, made from IMAGES. It is audited first.",
        metavar="DIR",
        exists=True,
        file_okay=False,
    ),
]
GeneratorOption = Annotated[
    str | None,
    _option(
        "--weights",
        "-w",
        panel=INPUT,
        help="In place of a release: protect in memory with this generator and judge that.",
        metavar="NAME|FILE",
    ),
]
TestOption = Annotated[
    Path | None,
    _option(
        "--test",
        panel=INPUT,
        help="Clean test images. Unset: a share of IMAGES is held out.",
        metavar="DIR",
        exists=True,
        file_okay=False,
    ),
]
TestLabelsOption = Annotated[
    Path | None,
    _option(
        "--test-labels", panel=INPUT, help="Labels of the test images.", metavar="FILE", exists=True, dir_okay=False
    ),
]
TestFractionOption = Annotated[
    float,
    _option(
        "--test-fraction",
        panel=INPUT,
        help="Share of IMAGES held out for testing, chosen by content.",
        min=0.01,
        max=0.9,
        metavar="SHARE",
    ),
]
TierOption = Annotated[
    Tier | None,
    _option(
        "--tier",
        panel=ATTACK,
        help="smoke (minutes on a CPU), standard (an hour on a GPU), full, or converged (few conditions, at least "
        "3,000 steps each: 12 minutes a victim on two cores with 8,000 images); what it leaves out is listed.",
    ),
]
BackbonesOption = Annotated[
    list[BackboneName] | None,
    _option(
        "--backbone",
        panel=ATTACK,
        help="The victim's network; repeat it for more. Everything else is tried with the first. "
        f"One of {_all(BackboneName)}.",
        metavar="NAME",
    ),
]
LearnersOption = Annotated[
    list[LearnerName] | None,
    _option("--learner", panel=ATTACK, help="One network for all tasks (mtl) or one a task (stl); may be repeated."),
]
WeightingsOption = Annotated[
    list[WeightingName] | None,
    _option(
        "--weighting",
        panel=ATTACK,
        help=f"How a network weighs its tasks; may be repeated. One of {_all(WeightingName)}.",
        metavar="NAME",
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    _option(
        "--method",
        panel=ATTACK,
        help=f"What of the victim is trained; may be repeated. One of {_all(TrainingMethodName)}; gps, head and full "
        "need a start. Settings follow a colon: sparse:share=0.1; an unknown one lists those there are.",
        metavar="NAME[:SETTING=VALUE,...]",
        autocompletion=_names(TrainingMethodName),
    ),
]
CountermeasuresOption = Annotated[
    list[str] | None,
    _option(
        "--countermeasure",
        panel=ATTACK,
        help=f"What the attacker does about the protection; may be repeated. One of {_all(CountermeasureName)}. "
        "Settings follow a colon: jpeg:quality=20, adversarial-training:steps=10,radius=4.",
        metavar="NAME[:SETTING=VALUE,...]",
        autocompletion=_names(CountermeasureName),
    ),
]
FractionsOption = Annotated[
    list[float] | None,
    _option(
        "--protected-fraction",
        panel=ATTACK,
        help="Also try a release of which only this share is protected, and its clean part alone; may be repeated.",
        metavar="SHARE",
    ),
]
StartOption = Annotated[
    str | None,
    _option(
        "--start",
        panel=ATTACK,
        help="Backbone to start from: a .safetensors file, or a network that timm supplies.",
        metavar="FILE|timm:NAME",
    ),
]
PretrainImagesOption = Annotated[
    Path | None,
    _option(
        "--pretrain-images",
        panel=ATTACK,
        help="Other clean images to train that start on first.",
        metavar="DIR",
        exists=True,
        file_okay=False,
    ),
]
PretrainLabelsOption = Annotated[
    Path | None,
    _option("--pretrain-labels", panel=ATTACK, help="Their labels.", metavar="FILE", exists=True, dir_okay=False),
]
ControlOption = Annotated[
    bool,
    _option(
        "--control/--no-control",
        panel=ATTACK,
        help="Also train a victim on plain noise of the same epsilon, which must not protect.",
    ),
]
ProbesOption = Annotated[
    bool,
    _option(
        "--probes/--no-probes",
        panel=ATTACK,
        help="Also measure how well protected images, and their labels, can be told by a linear model.",
    ),
]
EpochsOption = Annotated[
    int | None,
    _option(
        "--epochs",
        panel=TRAINING,
        help="Passes of every victim over the images. Unset: 8, or the tier's; --tier converged takes as many as its "
        "steps need.",
        min=1,
        metavar="N",
    ),
]
VictimBatchOption = Annotated[
    int | None,
    _option(
        "--batch-size",
        "-b",
        panel=TRAINING,
        help="Images a training step. Unset: 128, or the tier's.",
        min=2,
        metavar="N",
    ),
]
SizeOption = Annotated[
    int,
    _option(
        "--size",
        panel=TRAINING,
        help="Side of the random crops that a victim sees, of images a tenth larger.",
        min=16,
        max=512,
        metavar="PIXELS",
    ),
]
SeedsOption = Annotated[
    int,
    _option(
        "--seeds",
        panel=TRAINING,
        help="Victims a condition, with seeds from --seed on; figures become means with an interval.",
        min=1,
        max=100,
        metavar="N",
    ),
]
MetricOption = Annotated[MetricName, _option("--metric", panel=OUTPUT, help="What victims are judged by.")]
MaxLearnedOption = Annotated[
    float,
    _option(
        "--max-learned",
        panel=OUTPUT,
        help="Highest average learned fraction that still counts as protected: 0 nothing, 1 as from clean images.",
        min=-10.0,
        max=1.0,
        metavar="FRACTION",
    ),
]
CacheOption = Annotated[
    Path | None,
    _option(
        "--cache",
        panel=OUTPUT,
        help="Folder of finished victims. Unset: mtlue/verify in the user's cache folder.",
        metavar="DIR",
        file_okay=False,
    ),
]
NoCacheOption = Annotated[bool, _option("--no-cache", panel=OUTPUT, help="Train every victim anew and keep none.")]
DryRunOption = Annotated[
    bool, _option("--dry-run", panel=OUTPUT, help="Only say what would be run, and about how long it takes.")
]
JunitOption = Annotated[
    Path | None,
    _option(
        "--junit",
        panel=OUTPUT,
        help="Write a JUnit report, a case a task and condition.",
        metavar="FILE",
        dir_okay=False,
    ),
]
MarkdownOption = Annotated[
    Path | None,
    _option("--markdown", panel=OUTPUT, help="Write a summary in Markdown.", metavar="FILE", dir_okay=False),
]
ReportOption = Annotated[
    Path | None,
    _option("--report", panel=OUTPUT, help="Write one self-contained HTML page.", metavar="FILE.html", dir_okay=False),
]
