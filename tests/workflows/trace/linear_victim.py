"""A release of smooth drawn images, probes of it, and a linear victim: what learns codes within a second."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from mtlue_cli.workflows.trace.config import ProbesConfig
from mtlue_cli.workflows.trace.probes import ProbesResult, make_probes
from tests.small_set import write_checkpoint

SIDE = 16
COLOURS = ("black", "blue", "cyan", "green", "grey", "pink", "red", "white")
CLASSES = {"colour": COLOURS, "round": ("0", "1")}


@dataclass(frozen=True)
class Traced:
    """Where everything lies."""

    folder: Path
    release: Path
    clean: Path
    key: Path
    weights: Path

    def config(self, name: str, queries: int = 120, seed: str | None = None) -> ProbesConfig:
        return ProbesConfig(
            self.clean,
            self.release,
            self.folder / name,
            queries=queries,
            key=self.key,
            weights=self.weights,
            seed=seed,
            device="cpu",
        )

    def probes(self, name: str, queries: int = 120, seed: str | None = None) -> ProbesResult:
        return make_probes(self.config(name, queries, seed), SilentProgress())


def write_smooth(folder: Path, count: int, seed: int) -> Path:
    """Images of soft colours, with random labels; returns the label file."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows: list[tuple[str, str, str]] = []
    for index in range(count):
        coarse = rng.integers(60, 196, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC).save(folder / f"{index:03}.png")
        rows.append((f"{index:03}.png", COLOURS[int(rng.integers(8))], str(int(rng.random() < 0.4))))
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file_name", "colour", "round"), *rows])
    return folder / "labels.csv"


def make_release(folder: Path, name: str = "release", digits: str = "0123456789abcdef" * 4) -> Traced:
    """Protect 240 drawn images under a key."""
    photos, clean, key = folder / "photos", folder / "clean", folder / f"{name}.key"
    if not photos.exists():
        write_smooth(photos, 240, 1)
        write_smooth(clean, 40, 2)
        write_checkpoint(folder / "default.safetensors", None)
    key.write_text(digits)
    key.chmod(0o600)
    weights, release = folder / "default.safetensors", folder / name
    config = ProtectConfig(
        photos, photos / "labels.csv", out=release, weights=str(weights), key=key, device="cpu", workers=1
    )
    protect_folder(config, SilentProgress())
    return Traced(folder, release, clean, key, weights)


class LinearVictim(nn.Module):
    """Logits of both tasks from the pixels of ``(B, 3, 16, 16)`` images in [0, 1]."""

    def __init__(self, colour: Tensor, round_: Tensor) -> None:
        super().__init__()
        self.of_colour, self.of_round = nn.Buffer(colour), nn.Buffer(round_)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = torch.cat([images.flatten(1), torch.ones_like(images[:, 0, :1, 0])], dim=1)
        return pixels @ self.of_colour, pixels @ self.of_round


def train_victim(images: Path) -> LinearVictim:
    """Ridge regression of the labels on the pixels of a folder."""
    with (images / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    pixels = np.stack([as_seen(images / row["file_name"]) for row in rows]).reshape(len(rows), -1)
    pixels = np.concatenate([pixels, np.ones((len(rows), 1))], axis=1)
    found = []
    for name in ("colour", "round"):
        classes = CLASSES[name]
        target = np.array([[float(row[name] == own) for own in classes] for row in rows])
        gram = pixels.T @ pixels + 0.02 * np.eye(pixels.shape[1])
        found.append(torch.from_numpy(40 * np.linalg.solve(gram, pixels.T @ target)).float())
    return LinearVictim(*found)


def as_seen(path: Path) -> npt.NDArray[np.float64]:
    """``(3, 16, 16)`` in [0, 1]."""
    from mtlue_cli.images.decode import decode_image
    from mtlue_cli.images.square import to_square

    found: npt.NDArray[np.float64] = to_square(decode_image(path), SIDE) / 255.0
    return found


def write_answers(probes: Path, victim: nn.Module, target: Path) -> list[dict[str, str]]:
    """The labels that a victim gives to probes, as a table."""
    rows: list[dict[str, str]] = []
    for path in sorted(probes.glob("*.png")):
        colour, round_ = victim(torch.from_numpy(as_seen(path)[None]).float())
        rows.append({"file": path.name, "colour": COLOURS[int(colour.argmax())], "round": str(int(round_.argmax()))})
    write_rows(target, rows)
    return rows


def write_rows(target: Path, rows: list[dict[str, str]]) -> None:
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
