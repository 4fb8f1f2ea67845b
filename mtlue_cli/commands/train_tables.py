"""What ``train-generator`` answers with."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtlue_cli.commands.console import duration

if TYPE_CHECKING:
    from mtlue_cli.workflows.train_settings import TrainResult

SCHEMA_VERSION = 1


def summary(result: "TrainResult") -> Table:
    """What was trained, for people."""
    card = result.card
    table = Table("generator", str(result.checkpoint))
    table.add_row("objective", card.objective)
    for task in card.tasks:
        shown = f"{task.num_classes} classes: {', '.join(task.classes[:12])}"
        table.add_row(f"task {task.name}", shown if task.classes else task.kind.value)
    table.add_row("epsilon", f"{card.epsilon} / 255")
    table.add_row("size", f"{card.image_size} pixels")
    table.add_row("steps", f"{result.steps} in {duration(result.seconds)}")
    for name, value in (result.history[-1] if result.history else {}).items():
        table.add_row(f"last {name}", f"{value:.4g}" if isinstance(value, float) else str(value))
    table.add_row("contact sheet", str(result.contact_sheet))
    table.add_row("digest", card.digest)
    return table


def document(size: int, result: "TrainResult") -> dict[str, Any]:
    """What was trained, for programs; ``size`` is the side in pixels of what it was trained on."""
    card = result.card
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "train-generator",
        "checkpoint": str(result.checkpoint),
        "contact_sheet": str(result.contact_sheet),
        "digest": card.digest,
        "data_digest": card.data_digest,
        "objective": card.objective,
        "universal": card.universal,
        "tasks": card.tasks.to_json(),
        "epsilon": card.epsilon,
        "size": size,
        "image_size": card.image_size,
        "settings": card.settings,
        "licence": card.licence,
        "versions": card.versions,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "history": result.history,
    }
