"""``mtlue demo``: see it work, without any data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

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
    from mtlue_cli.workflows.demo import DemoResult, DemoSet

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
    judge_scenes: Annotated[
        bool,
        typer.Option(
            "--judge-scenes",
            help="Also train victims of masks, depth and normals: some minutes more.",
            envvar=variable("--judge-scenes", "demo"),
            rich_help_panel=TRAINING,
        ),
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    json_target: JsonOption = None,
) -> None:
    """Draw a small image set, train a generator for it, protect it and verify the protection.

    Then render scenes with masks, depth and normals, and protect these. Needs no data and no GPU, and ends within 5
    minutes on two cores. Run again, it goes on where it was interrupted.

    [bold]Example:[/bold] mtlue demo --out mtlue-demo
    """
    terminal = Terminal(quiet, json_target)

    from mtlue_cli.commands.verify_tables import show_verification
    from mtlue_cli.workflows.demo import DemoConfig, run_demo

    config = DemoConfig(
        out=out, seed=seed, minutes=minutes, judge_scenes=judge_scenes, device=device, workers=threads(workers)
    )
    result = run_demo(config, terminal.progress)
    sets = {"drawn shapes, labelled as a whole": result.shapes, "rendered scenes, every pixel labelled": result.scenes}
    for heading, found in sets.items():
        terminal.show(Text(f"{heading}:", style="bold"))
        if found.verification is not None:
            show_verification(terminal, found.verification, brief=True)
        else:
            made = found.protection
            terminal.show(Text(f"{made.protected + made.kept} protected; --judge-scenes tells what that is worth"))
    terminal.say(f"finished in {duration(result.seconds)}; look at:")
    for what, path in places(result).items():
        terminal.say(f"  {path}: {what}")
    terminal.write_json(document(result))
    code = exit_code(result)
    if code != ExitCode.SUCCESS:
        raise typer.Exit(code)


def exit_code(result: "DemoResult") -> ExitCode:
    """The worst that was found: no protection, then no verdict, then images that were left out."""
    sets = (result.shapes, result.scenes)
    codes = [found.protection.exit_code for found in sets]
    codes += [found.verification.exit_code for found in sets if found.verification is not None]
    worst = (ExitCode.NOT_PROTECTED, ExitCode.INCONCLUSIVE, ExitCode.QUARANTINE)
    return next((code for code in worst if code in codes), ExitCode.SUCCESS)


def places(result: "DemoResult") -> dict[str, Path]:
    """What lies where."""
    return {
        "drawn images with their labels": result.shapes.images,
        "the same images, protected": result.shapes.release,
        "originals, protected and tenfold perturbation side by side": result.shapes.contact_sheet,
        "the generator (mtlue inspect tells more)": result.shapes.checkpoint,
        "rendered scenes with masks, depth and normals": result.scenes.images,
        "the same scenes, protected": result.scenes.release,
        "scenes, protected scenes, perturbation, and their maps in colour": result.scenes.contact_sheet,
    }


def document(result: "DemoResult") -> dict[str, Any]:
    """What was made and what came out, for programs."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "demo",
        **_of_set(result.shapes),
        "scenes": _of_set(result.scenes),
        "seconds": round(result.seconds, 3),
    }


def _of_set(found: "DemoSet") -> dict[str, Any]:
    return {
        "images": str(found.images),
        "labels": str(found.labels),
        "checkpoint": str(found.checkpoint),
        "contact_sheet": str(found.contact_sheet),
        "release": str(found.release),
        "protection": found.protection.to_json(),
        "verification": None if found.verification is None else found.verification.to_json(),
    }
