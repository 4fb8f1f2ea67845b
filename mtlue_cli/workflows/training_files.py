"""Where a training run keeps its files, what may not be in their way, and what it leaves beside a checkpoint."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

import mtlue_cli
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.images.colouring import coloured_all
from mtlue_cli.images.contact_sheet import draw_contact_sheet
from mtlue_cli.perturbation.bound import add_bounded
from mtlue_cli.tasks.dense import as_labels

SHEET_IMAGES = 8


def state_folder(out: Path) -> Path:
    """Where an unfinished run keeps what it needs to go on."""
    return out.with_name(out.name + ".training")


def sheet_beside(out: Path, wanted: Path | None) -> Path:
    """Where the contact sheet goes: where it is wanted, else beside the checkpoint."""
    return wanted or out.with_suffix(".png")


def output_faults(
    out: Path, sheet: Path, overwrite: bool, epochs: int | None, minutes: float | None, images: Path | None
) -> list[str]:
    """Why a run could not leave its result, or would not know when to end, a line each.

    Args:
        out: Checkpoint.
        sheet: Contact sheet.
        overwrite: Whether they may replace files.
        epochs: Length of the run; or
        minutes: the same in time. Exactly one is given.
        images: Folder in which nothing may be replaced.
    """
    faults: list[str] = []
    if out.suffix != ".safetensors":
        faults.append(f"--out {out}: checkpoints are safetensors files; end the name in .safetensors")
    if out.exists() and not overwrite:
        faults.append(f"--out {out} exists; --overwrite replaces it")
    if sheet.suffix != ".png":
        faults.append(f"--contact-sheet {sheet}: the sheet is a PNG; end the name in .png")
    among = images is not None and sheet.resolve().is_relative_to(images.resolve())
    if sheet.exists() and (not overwrite or among):
        faults.append(f"the contact sheet {sheet} would replace a file; name another with --contact-sheet")
    if epochs is not None and minutes is not None:
        faults.append("--epochs and --max-minutes exclude each other")
    if epochs is None and minutes is None:
        faults.append("one of --epochs and --max-minutes is needed")
    return faults


def made_with() -> dict[str, str]:
    """Versions of what computes the weights."""
    return {
        "mtlue": mtlue_cli.__version__,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "python": platform.python_version(),
    }


def draw_sheet(generator: PerturbationGenerator, images: Tensor, labels: Mapping[str, Tensor], path: Path) -> None:
    """Picture of originals, protected and perturbation for a few images, evenly from first to last.

    Args:
        generator: On any device.
        images: ``(N, 3, S, S)`` uint8.
        labels: Task name to ``(N,)`` int64, or to label maps, which are drawn too.
        path: The PNG.
    """
    generator.eval()
    device = next(generator.parameters()).device
    rows = torch.linspace(0, len(images) - 1, min(SHEET_IMAGES, len(images))).long()
    pixels = images[rows]
    chosen = {name: as_labels(column[rows]).to(device) for name, column in labels.items()}
    delta = generator.perturb(pixels.to(device).float() / 255, chosen).cpu()
    originals = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    added = delta.permute(0, 2, 3, 1).contiguous().numpy()
    protected = add_bounded(originals, added, generator.config.epsilon).astype("uint8")
    maps = [
        coloured_all(labels[task.name][rows].numpy(), task) for task in generator.tasks.dense if task.name in labels
    ]
    draw_contact_sheet(originals, protected, path, maps=maps)
