"""``mtlue verify``: train victims, and say whether the protection holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mtlue_cli.choices import BackboneName, ExitCode
from mtlue_cli.commands.console import Terminal, duration
from mtlue_cli.commands.options import (
    INPUT,
    OUTPUT,
    TRAINING,
    BatchSizeOption,
    DeviceOption,
    FileColumnOption,
    ImagesArgument,
    JsonOption,
    LabelsOption,
    LearningRateOption,
    LimitOption,
    QuietOption,
    SeedOption,
    WorkersOption,
    variable,
)

if TYPE_CHECKING:
    from mtlue_cli.verification.report import VerifyResult
    from mtlue_cli.verification.verdict import Judgement

LISTED_FAULTS = 20
"""Faults of an audit that are printed; the JSON result holds all."""

STYLES = {ExitCode.SUCCESS: "bold green", ExitCode.NOT_PROTECTED: "bold red", ExitCode.INCONCLUSIVE: "bold yellow"}


def verify(
    images: ImagesArgument,
    labels: LabelsOption,
    protected: Annotated[
        Path | None,
        typer.Option(
            "--protected",
            "-p",
            metavar="DIR",
            help="The release to judge, made from IMAGES. It is audited first.",
            exists=True,
            file_okay=False,
            envvar=variable("--protected", "verify"),
            rich_help_panel=INPUT,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="NAME|FILE",
            help="In place of a release: protect in memory with this generator and judge that.",
            envvar=variable("--weights", "verify"),
            rich_help_panel=INPUT,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            "--test",
            metavar="DIR",
            help="Clean test images. Unset: a share of IMAGES is held out.",
            exists=True,
            file_okay=False,
            envvar=variable("--test", "verify"),
            rich_help_panel=INPUT,
        ),
    ] = None,
    test_labels: Annotated[
        Path | None,
        typer.Option(
            "--test-labels",
            metavar="FILE",
            help="Labels of the test images.",
            exists=True,
            dir_okay=False,
            envvar=variable("--test-labels", "verify"),
            rich_help_panel=INPUT,
        ),
    ] = None,
    test_fraction: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=0.9,
            metavar="SHARE",
            help="Share of IMAGES held out for testing, chosen by content.",
            envvar=variable("--test-fraction", "verify"),
            rich_help_panel=INPUT,
        ),
    ] = 0.2,
    file_column: FileColumnOption = None,
    limit: LimitOption = None,
    backbone: Annotated[
        BackboneName,
        typer.Option(help="The victim.", envvar=variable("--backbone", "verify"), rich_help_panel=TRAINING),
    ] = BackboneName.RESNET18,
    epochs: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Passes of every victim over the images.",
            envvar=variable("--epochs", "verify"),
            rich_help_panel=TRAINING,
        ),
    ] = 8,
    size: Annotated[
        int,
        typer.Option(
            min=16,
            max=512,
            metavar="PIXELS",
            help="Side of the random crops that a victim sees, of images a tenth larger.",
            envvar=variable("--size", "verify"),
            rich_help_panel=TRAINING,
        ),
    ] = 64,
    batch_size: BatchSizeOption = 128,
    learning_rate: LearningRateOption = 1e-3,
    max_learned: Annotated[
        float,
        typer.Option(
            min=-10.0,
            max=1.0,
            metavar="FRACTION",
            help="Highest average learned fraction that still counts as protected: 0 nothing, 1 as from clean images.",
            envvar=variable("--max-learned", "verify"),
            rich_help_panel=OUTPUT,
        ),
    ] = 0.25,
    control: Annotated[
        bool,
        typer.Option(
            "--control/--no-control",
            help="Also train a victim on plain noise of the same epsilon, which must not protect.",
            envvar=variable("--control", "verify"),
            rich_help_panel=TRAINING,
        ),
    ] = True,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help="Folder of finished victims. Unset: mtlue/verify in the user's cache folder.",
            file_okay=False,
            envvar=variable("--cache", "verify"),
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Train every victim anew and keep none.",
            envvar=variable("--no-cache", "verify"),
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    quiet: QuietOption = False,
    json_target: JsonOption = None,
) -> None:
    """Show that a model trained on a release learns nothing: audit it, train victims, compare.

    Exit code 0: the protection holds; 4: it does not; 5: the measurement tells nothing. Finished victims are kept, so
    that an interrupted run goes on.

    [bold]Example:[/bold] mtlue verify photos --labels labels.csv --protected photos-protected
    """
    terminal = Terminal(quiet, json_target)

    from mtlue_cli.verification.result_cache import default_cache_folder
    from mtlue_cli.workflows.verify import VerifyConfig, verify_release

    config = VerifyConfig(
        clean=images,
        labels=labels,
        protected=protected,
        weights=weights,
        test=test,
        test_labels=test_labels,
        test_fraction=test_fraction,
        file_column=file_column,
        backbone=backbone,
        epochs=epochs,
        size=size,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_learned=max_learned,
        control=control,
        cache=None if no_cache else cache or default_cache_folder(),
        limit=limit,
        seed=seed,
        device=device,
        workers=workers,
    )
    result = verify_release(config, terminal.progress)
    show_verification(terminal, result)
    terminal.write_json(result.to_json())
    if result.exit_code is not ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)


def show_verification(terminal: Terminal, result: "VerifyResult") -> None:
    """Audit faults or the table of victims, then the verdict, on stdout."""
    audit = result.audit
    if audit is not None:
        for fault in audit.faults[:LISTED_FAULTS]:
            terminal.show(Text(fault))
        if len(audit.faults) > LISTED_FAULTS:
            terminal.show(Text(f"... and {len(audit.faults) - LISTED_FAULTS} more faults (--json lists all)"))
        if audit.max_change is not None:
            terminal.show(
                Text(f"largest change of a pixel value: {audit.max_change:g}/255 over {audit.measured} files")
            )
    if result.judgement.tasks:
        terminal.show(figures(result.judgement))
    verdict = Text(result.judgement.verdict.value.upper(), style=STYLES[result.exit_code])
    terminal.show(Text.assemble(verdict, f": {result.judgement.reason} (took {duration(result.seconds)})"))
    if result.judgement.warning is not None:
        terminal.show(Text(f"warning: {result.judgement.warning}", style="bold yellow"))


def figures(judgement: "Judgement") -> Table:
    """One line a task and one for the average: accuracies on clean test images in %, and learned fractions."""
    with_noise = any(task.control is not None for task in judgement.tasks)
    table = Table("task")
    for name in ("clean %", "protected %", *(("noise %",) if with_noise else ()), "floor %", "learned"):
        table.add_column(name, justify="right")
    for task in judgement.tasks:
        learned = _fraction(task.learned) if task.gated else f"({_fraction(task.learned)})"
        noise = (_percent(task.control),) if with_noise else ()
        table.add_row(
            Text(task.name), _percent(task.clean), _percent(task.protected), *noise, _percent(task.floor), learned
        )
    average = judgement.protected
    if average is not None:
        control = judgement.control
        noise = (_percent(control.victim if control else None),) if with_noise else ()
        table.add_section()
        table.add_row(
            f"average of {len(average.tasks)}",
            _percent(average.clean),
            _percent(average.victim),
            *noise,
            _percent(average.floor),
            _fraction(average.fraction),
            style="bold",
        )
        if control is not None:
            table.caption = f"noise of the same epsilon: learned {control.fraction:.2f} (it must not protect)"
    return table


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.1f}"


def _fraction(learned: float | None) -> str:
    return "-" if learned is None else f"{learned:.2f}"
