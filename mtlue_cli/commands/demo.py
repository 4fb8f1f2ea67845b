"""``mtlue demo``: see it work, without any data."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from mtlue_cli.commands.console import duration
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.workflows.demo_config import DemoConfig

if TYPE_CHECKING:
    from mtlue_cli.workflows.demo import DemoResult


@command_of("demo", DemoConfig)
def demo(given: Given) -> None:
    """Draw a small image set, train a generator for it, protect it and verify the protection.

    Then render scenes with masks, depth and normals, and protect these. Needs no data and no GPU, and ends within 5
    minutes on two cores. Run the command again to continue an interrupted demo.

    [bold]Example:[/bold] mtlue demo --out mtlue-demo
    """
    from mtlue_cli.commands.verify_tables import show_verification
    from mtlue_cli.workflows.demo import run_demo

    terminal = given.terminal
    with reading_photos():
        result = run_demo(given.build(DemoConfig), terminal.progress)
    sets = {"drawn shapes, labelled as a whole": result.shapes, "rendered scenes, every pixel labelled": result.scenes}
    for heading, found in sets.items():
        terminal.show(Text(f"{heading}:", style="bold"))
        if found.verification is not None:
            show_verification(terminal, found.verification, brief=True)
        else:
            made = found.protection
            terminal.show(f"{made.protected + made.kept} protected; --judge-scenes measures how well")
    terminal.say(f"finished in {duration(result.seconds)}; look at:")
    for what, path in places(result).items():
        terminal.say(f"  {path}: {what}")
    given.finish(result)


def places(result: "DemoResult") -> dict[str, Path]:
    """What lies where."""
    return {
        "drawn images with their labels": result.shapes.images,
        "the same images, protected": result.shapes.release,
        "originals, protected images and ten times the perturbation, side by side": result.shapes.contact_sheet,
        "the generator (see mtlue inspect)": result.shapes.checkpoint,
        "rendered scenes with masks, depth and normals": result.scenes.images,
        "the same scenes, protected": result.scenes.release,
        "scenes, protected scenes, perturbation, and their maps in colour": result.scenes.contact_sheet,
    }
