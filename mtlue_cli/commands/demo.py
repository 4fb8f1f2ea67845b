"""``mtlue demo``: see it work, without any data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import Terminal, duration
from mtlue_cli.commands.options import (
    OUTPUT,
    TRAINING,
    DeviceOption,
    JsonOption,
    QuietOption,
    SeedOption,
    WorkersOption,
    threads,
    variable,
)

if TYPE_CHECKING:
    from mtlue_cli.workflows.demo import DemoResult

SCHEMA_VERSION = 1


def demo(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="New folder for everything, or that of an earlier run.",
            envvar=variable("--out", "demo"),
            rich_help_panel=OUTPUT,
        ),
    ] = Path("mtlue-demo"),
    minutes: Annotated[
        float,
        typer.Option(
            min=0.05,
            max=60.0,
            metavar="M",
            help="Time for training surrogate and generator, in minutes.",
            envvar=variable("--minutes", "demo"),
            rich_help_panel=TRAINING,
        ),
    ] = 1.5,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    json_target: JsonOption = None,
) -> None:
    """Draw a small image set, train a generator for it, protect it and verify the protection.

    Needs no data and no GPU, and ends within 5 minutes on two cores. Run again, it goes on where it was interrupted.

    [bold]Example:[/bold] mtlue demo --out mtlue-demo
    """
    terminal = Terminal(quiet, json_target)

    from mtlue_cli.commands.verify_tables import show_verification
    from mtlue_cli.workflows.demo import DemoConfig, run_demo

    config = DemoConfig(out=out, seed=seed, minutes=minutes, device=device, workers=threads(workers))
    result = run_demo(config, terminal.progress)
    show_verification(terminal, result.verification, brief=True)
    terminal.say(f"finished in {duration(result.seconds)}; look at:")
    for what, path in places(result).items():
        terminal.say(f"  {path}: {what}")
    terminal.write_json(document(result))
    if result.verification.exit_code != ExitCode.SUCCESS:
        raise typer.Exit(result.verification.exit_code)


def places(result: "DemoResult") -> dict[str, Path]:
    """What lies where."""
    return {
        "drawn images with their labels": result.images,
        "the same images, protected": result.release,
        "originals, protected and tenfold perturbation side by side": result.contact_sheet,
        "the generator (mtlue inspect tells more)": result.checkpoint,
    }


def document(result: "DemoResult") -> dict[str, Any]:
    """What was made and what came out, for programs."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "demo",
        "images": str(result.images),
        "labels": str(result.labels),
        "checkpoint": str(result.checkpoint),
        "contact_sheet": str(result.contact_sheet),
        "release": str(result.release),
        "verification": result.verification.to_json(),
        "seconds": round(result.seconds, 3),
    }
