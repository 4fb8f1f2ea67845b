"""What interrupted runs, strange files and bad photos leave of a release, and what a run says of its weights."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.commands.console import LineProgress
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.generator import shipped
from mtlue_cli.generator.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from mtlue_cli.images.decode import DecodedImage, decode_bytes
from mtlue_cli.images.folder import find_images
from mtlue_cli.release.records import FOLDER, PLANNED_NAME, Record, read_manifest
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect import photos as photo_steps
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.protect_runs import Notes
from tests.small_set import write_checkpoint, write_images


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")


def run(config: ProtectConfig, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field of the config
    return protect_folder(replace(config, **changes), SilentProgress())


def kill_before_the_first_record(config: ProtectConfig) -> None:
    """A run whose files are in place while no record of them is."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config, batch_size=2)
    assert find_images(config.release)
    assert read_manifest(config.release).files == ()


def whole(release: Path) -> bool:
    return not inspect_release(release, SilentProgress(), None, 1).faults


def fewer_rows(config: ProtectConfig) -> None:
    rows = config.labels.read_text().splitlines()
    config.labels.write_text("\n".join([rows[0], rows[-1]]) + "\n")


def same_rows(config: ProtectConfig) -> None:
    """Leave the labels as they are."""


@pytest.mark.parametrize("change", [fewer_rows, same_rows])
@pytest.mark.parametrize("image_format", [ImageFormat.PNG, ImageFormat.WEBP])
def test_files_that_a_killed_run_left_without_a_record_are_removed(
    config: ProtectConfig, change: Callable[[ProtectConfig], None], image_format: ImageFormat
) -> None:
    kill_before_the_first_record(config)
    change(config)
    kill_before_the_first_record(config)
    result = run(config, image_format=image_format, overwrite=True)
    assert set(find_images(result.release)) == {record.file_name for record in read_manifest(result.release).files}
    assert result.protected + result.kept == len(config.labels.read_text().splitlines()) - 1
    assert whole(result.release)
    assert not (result.release / FOLDER / PLANNED_NAME).exists()


def test_a_file_whose_released_name_changed_before_a_kill_is_removed(config: ProtectConfig) -> None:
    release = run(config).release
    (config.images / "photo2.png").write_bytes((config.images / "photo1.png").read_bytes())
    with config.labels.open("a") as stream:
        stream.write("photo2.png,red,1\n")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "close", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    run(config, image_format=ImageFormat.WEBP, overwrite=True)
    assert all(name.endswith(".webp") for name in find_images(release))
    assert whole(release)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_strange_image_in_the_release_is_refused_and_left_alone(config: ProtectConfig, overwrite: bool) -> None:
    release = run(config).release
    stranger = release / "sub" / "mine.jpg"
    stranger.write_bytes(b"mine")
    before = read_manifest(release)
    with pytest.raises(InputError, match="did not write") as caught:
        run(config, epsilon=4 if overwrite else None, overwrite=overwrite)
    assert caught.value.faults == ("sub/mine.jpg",)
    assert stranger.read_bytes() == b"mine"
    assert read_manifest(release) == before


def test_a_strange_image_that_appears_during_a_run_keeps_it_incomplete(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Release.add

    def add(release: Release, record: Record) -> None:
        (config.release / "mine.jpg").write_bytes(b"mine")
        original(release, record)

    with monkeypatch.context() as patch:
        patch.setattr(Release, "add", add)
        with pytest.raises(MtlueError, match=r"mine\.jpg"):
            run(config)
    assert not read_manifest(config.release).run.complete
    (config.release / "mine.jpg").unlink()
    assert run(config).kept == 7
    assert whole(config.release)


@pytest.mark.parametrize("step", ["encode_image", "to_square", "measure"])
def test_one_photo_that_fails_unexpectedly_is_quarantined(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(photo_steps, step)
    calls: list[int] = []

    def odd(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise OverflowError("too odd")
        return original(*arguments, **named)

    monkeypatch.setattr(photo_steps, step, odd)
    result = run(config, workers=1)
    assert (result.protected, result.exit_code) == (6, ExitCode.QUARANTINE)
    assert "OverflowError: too odd" in result.quarantine[0].reason
    assert whole(result.release)


def test_names_at_the_limit_of_the_file_system(config: ProtectConfig) -> None:
    content = (config.images / "photo1.png").read_bytes()
    fits, grows = "a" * 251 + ".png", "b" * 251 + ".png"
    for name in (fits, grows, "b" * 251 + ".jpg"):
        (config.images / name).write_bytes(content)
    config.labels.write_text(f"file_name,colour,round\n{fits},red,1\n{grows},red,1\n{'b' * 251}.jpg,red,1\n")
    for _ in range(2):
        result = run(config)
        assert result.protected + result.kept == 1
        assert [record.source[0] for record in result.quarantine] == ["b", "b"]
        assert "too long" in result.quarantine[0].reason
    assert whole(result.release)


@pytest.mark.parametrize("choice", [{"tasks": ["round"]}, {"exclude": ["colour"]}])
def test_columns_of_tasks_that_are_left_out_may_be_missing(
    config: ProtectConfig, tmp_path: Path, choice: dict[str, list[str]]
) -> None:
    reference = run(config, out=tmp_path / "full", **choice).release
    rows = [row.split(",") for row in config.labels.read_text().splitlines()]
    config.labels.write_text("\n".join(f"{row[0]},{row[2]}" for row in rows) + "\n")
    release = run(config, **choice).release
    for name in find_images(reference):
        assert (release / name).read_bytes() == (reference / name).read_bytes()
    with pytest.raises(InputError) as caught:
        run(config, out=tmp_path / "all")
    assert "column 'colour' is missing" in caught.value.faults[0]
    expected = ["mtlue", "train-generator", str(config.images), "--labels", str(config.labels)]
    assert shlex.join(expected) in (caught.value.hint or "")


def test_public_weights_are_said_to_be_public(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    protect_folder(config, notes)
    assert not any("public" in line for line in notes.lines)
    monkeypatch.setattr(shipped, "weights_folder", lambda: config.images.parent)
    protect_folder(replace(config, weights="generator"), notes)
    (said,) = [line for line in notes.lines if "public" in line]
    assert f"mtlue train-generator {config.images}" in said


@pytest.mark.parametrize(
    ("epsilon", "fault"), [(0, "from 1 to 64"), (65, "from 1 to 64"), (8.5, "epsilon is of another type")]
)
def test_a_checkpoint_with_an_impossible_epsilon_is_refused(config: ProtectConfig, epsilon: float, fault: str) -> None:
    path = Path(str(config.weights))
    loaded = load_checkpoint(path)
    card: CheckpointCard = replace(loaded.card, epsilon=epsilon)  # type: ignore[arg-type]  # on purpose
    save_checkpoint(path, loaded.generator, card)
    for asked in (None, 4):
        with pytest.raises(InputError, match=fault):
            run(config, epsilon=asked)
    assert not config.release.exists()


def test_photos_that_are_done_are_not_decoded_again(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(config).protected
    decoded: list[int] = []

    def decode(content: bytes, *more: Any) -> DecodedImage:  # noqa: ANN401 - as it is
        decoded.append(len(content))
        return decode_bytes(content, *more)

    monkeypatch.setattr(photo_steps, "decode_bytes", decode)
    monkeypatch.setattr(photo_steps, "pixel_count", None)
    again = run(config)
    assert (again.protected, again.kept, decoded) == (0, done, [])
    monkeypatch.undo()
    monkeypatch.setattr(photo_steps, "decode_bytes", decode)
    Image.new("RGB", (40, 30), (90, 120, 200)).save(config.images / find_images(config.images)[0])
    again = run(config)
    assert (again.protected, again.kept, len(decoded)) == (1, done - 1, 1)


def test_an_interrupted_run_says_how_many_photos_are_recorded(config: ProtectConfig) -> None:
    lines: list[str] = []

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            protect_folder(config, LineProgress(lines.append))
    assert find_images(config.release)
    ended, said = lines[-2:]
    assert ended.startswith("protecting: ended at 0 of 7 in ")
    assert said.startswith("0 of 7 photos are recorded as done; files that were written after them")


def test_fast_says_that_files_of_the_release_stay(config: ProtectConfig) -> None:
    first, again = Notes(), Notes()
    config = replace(config, fast=True)
    protect_folder(config, first)
    protect_folder(config, again)
    said = "--fast is for files that are still to be written: 7 files of the release stay as they are"
    assert not any(said in line for line in first.lines)
    assert any(said in line for line in again.lines)
