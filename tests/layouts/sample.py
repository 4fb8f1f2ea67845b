"""Small data sets in their owners' layouts, protected by the command, and the command itself."""

import gc
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, load_dataset
from PIL import Image
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode, TaskKind
from mtlue_cli.commands.app import app
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.small_set import write_checkpoint

RUNNER = CliRunner()


def photo(seed: int, side: int = 24) -> npt.NDArray[np.uint8]:
    """Pixels of a noisy photo with room on both sides, ``(side, side, 3)``."""
    return np.random.default_rng(seed).integers(40, 216, (side, side, 3), dtype=np.uint8)


def draw(folder: Path, *names: str) -> None:
    """A photo of its own for each name."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(seed)).save(folder / name)


def encoded(seed: int, form: str = "PNG") -> bytes:
    """A photo as a file."""
    stream = io.BytesIO()
    Image.fromarray(photo(seed)).save(stream, form)
    return stream.getvalue()


def weights_for(folder: Path, **classes: tuple[str, ...]) -> Path:
    """Weights for these columns and classes, in ``folder``."""
    kinds = {name: TaskKind.BINARY if len(values) == 2 else TaskKind.CATEGORICAL for name, values in classes.items()}
    tasks = TaskSet(tuple(Task(name, kinds[name], values) for name, values in classes.items()))
    return write_checkpoint(folder / "generator.safetensors", tasks)


def mtlue(*words: str | Path, code: int = ExitCode.SUCCESS) -> Result:
    """Run a command; fails the test unless it ends with ``code``."""
    result = RUNNER.invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.stderr
    return result


def protect(images: Path, weights: Path, *words: str | Path, code: int = ExitCode.SUCCESS) -> tuple[Path, str]:
    """Protect a folder; the release, and what was said."""
    result = mtlue("protect", images, "--weights", weights, "--device", "cpu", *words, code=code)
    return images.with_name(images.name + "-protected"), result.stderr


def hub_rows(builder: str, cache: Path, **options: Any) -> Dataset:  # noqa: ANN401 - as load_dataset takes them
    """The rows that Hugging Face's ``datasets`` loads, images as their files."""
    with warnings.catch_warnings():  # it leaves files open
        warnings.simplefilter("ignore", ResourceWarning)
        found = load_dataset(builder, cache_dir=str(cache), split="train", **options)
        gc.collect()
    return found


def pixels_differ(before: Path, after: Path | Image.Image) -> bool:
    """Whether two images of one size differ, by no more than 8 levels."""
    pair = [np.asarray(one if isinstance(one, Image.Image) else Image.open(one), dtype=int) for one in (before, after)]
    change = np.abs(pair[0] - pair[1])
    return pair[0].shape == pair[1].shape and 0 < change.max() <= 8
