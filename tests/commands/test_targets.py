"""Results never replace what a command reads, keeps or releases."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.keys import CACHE_VARIABLE, VARIABLE, find_key, own_key_path
from mtlue_cli.release.records import FOLDER
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images

DIGITS = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos, weights, a key, a release, and what would be the sealed answers if the photos were probes."""
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    protect_folder(ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu"), SilentProgress())
    (tmp_path / "photos.sealed.json").touch()
    (tmp_path / "key").write_text(DIGITS)
    (tmp_path / "key").chmod(0o600)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words), "--quiet"])


def protect(folder: Path, target: Path) -> Result:
    weights = folder / "generator.safetensors"
    return run("protect", folder / "photos", "--weights", weights, "--device", "cpu", "--json", target)


def protect_with_labels(folder: Path, target: Path) -> Result:
    options = ["--labels", folder / "photos" / "labels.csv", "--key", folder / "key", "--quick", "--json", target]
    return run("protect", folder / "photos", *options)


def inspect(folder: Path, target: Path) -> Result:
    return run("inspect", folder / "photos-protected", "--against", folder / "photos", "--json", target)


def verify(option: str) -> Callable[[Path, Path], Result]:
    def judge(folder: Path, target: Path) -> Result:
        return run("verify", folder / "photos", "--protected", folder / "photos-protected", option, target)

    return judge


def trace_judge(folder: Path, target: Path) -> Result:
    return run("trace", "judge", folder / "photos", "--answers", folder / "photos/labels.csv", "--report", target)


@pytest.mark.parametrize(
    ("command", "target", "reason"),
    [
        (protect, "photos/photo1.png", "is a photo of IMAGES"),
        (protect, "photos/labels.csv", "is the file of --labels"),
        (protect, "generator.safetensors", "is the file of --weights"),
        (protect, "photos-protected/labels.csv", "lies in the release"),
        (protect, f"photos-protected/{FOLDER}/manifest.jsonl", "lies in the release"),
        (protect, "photos-protected/more.json", "lies in the release"),
        (protect_with_labels, "photos/labels.csv", "is the file of --labels"),
        (protect_with_labels, "key", "is the file of --key"),
        (inspect, "photos/sub/photo0.jpg", "is a photo of --against"),
        (inspect, "photos-protected/photo1.png", "CHECKPOINT|RELEASE"),
        (verify("--report"), "photos/photo2.jpg", "is a photo of IMAGES"),
        (verify("--junit"), "photos/labels.csv", "is the file of --labels"),
        (verify("--markdown"), f"photos-protected/{FOLDER}/run.json", "lies in the release"),
        (trace_judge, "photos/labels.csv", "is the file of --answers"),
        (trace_judge, "photos/photo1.png", "is a photo of PROBES"),
        (trace_judge, "photos.sealed.json", "is the file of --sealed"),
    ],
)
def test_a_result_that_would_replace_something_is_refused(
    folder: Path, command: Callable[[Path, Path], Result], target: str, reason: str
) -> None:
    before = contents(folder)
    result = command(folder, folder / target)
    assert result.exit_code == ExitCode.INPUT
    assert reason in result.stderr
    assert contents(folder) == before


def test_a_link_to_an_original_is_refused_too(folder: Path) -> None:
    (folder / "result.json").symlink_to(folder / "photos" / "photo1.png")
    assert "is a photo of IMAGES" in protect(folder, folder / "result.json").stderr
    os.link(folder / "generator.safetensors", folder / "same.json")
    assert "is the file of --weights" in protect(folder, folder / "same.json").stderr


@pytest.mark.parametrize("variable", [VARIABLE, CACHE_VARIABLE, None])
def test_keys_are_not_replaced(folder: Path, variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    find_key(None)
    path = own_key_path(os.environ) if variable is None else folder / "key"
    if variable is not None:
        monkeypatch.setenv(variable, str(path))
    before = path.read_bytes()
    result = protect(folder, path)
    assert result.exit_code == ExitCode.INPUT
    assert "is the file of your key" in result.stderr
    assert path.read_bytes() == before


def test_two_results_in_one_file_are_refused(folder: Path) -> None:
    options = ["--junit", folder / "result", "--report", folder / "result"]
    result = run("verify", folder / "photos", "--protected", folder / "photos-protected", *options)
    assert result.exit_code == ExitCode.INPUT
    assert re.search("--junit and --report name the same file", result.stderr)


def test_an_earlier_result_among_the_photos_is_replaced(folder: Path) -> None:
    for _ in range(2):
        result = protect(folder, folder / "photos" / "result.json")
        assert result.exit_code == ExitCode.SUCCESS, result.stderr
