"""What happens to ``protect`` when disks, folders, inputs or other runs get in its way; with real files and disks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import synchronise
from mtlue_cli.generator.inference import BatchedPerturbation
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.folder import find_images
from mtlue_cli.perturbation.effect import measure_change
from mtlue_cli.release import release as writing
from mtlue_cli.release.records import FOLDER, LOCK_NAME, PLANNED_NAME, read_manifest, read_run
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.small_set import write_checkpoint, write_images
from tests.workflows.faulty_disk import mount, rights_that_count, short_files, small_disk

COUNT = 20
"""Images: three calls of the network on a CPU."""

Act = Callable[[], object]


class At(SilentProgress):
    """Does something at a moment of a run: once it has begun to stream, or after a number of images."""

    def __init__(self, act: Act, images: int = 0) -> None:
        self._act = act
        self._left = images

    def start(self, *_: object) -> None:
        """Act now, unless some images are to be done before; a later stage is no such moment."""
        if self._left == 0:
            self._left = -1
            self._act()

    def advance(self, *_: object, **__: object) -> None:
        """Count down."""
        self._left -= 1
        if self._left == 0:
            self._left = -1
            self._act()


class BeforeTheLock(SilentProgress):
    """Does something once a run is planned and before it holds the release."""

    def __init__(self, act: Act) -> None:
        self._act = act

    def note(self, message: str) -> None:
        """Act when the device is announced."""
        if message.startswith("device"):
            self._act()


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos", count=COUNT)
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")


def run(config: ProtectConfig, progress: SilentProgress | None = None, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field of the config
    return protect_folder(replace(config, **changes), progress or SilentProgress())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, records included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def reference(config: ProtectConfig, tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    return tree(run(config, out=tmp_path / "undisturbed").release)


def assert_nothing_half_written(release: Path, reference: dict[str, bytes]) -> None:
    for name in find_images(release):
        assert (release / name).read_bytes() == reference[name]
    assert not list(release.rglob(".*.tmp"))


def command(config: ProtectConfig, out: Path) -> tuple[int, str]:
    """Exit code of the command on the same folder, and what it says on stderr."""
    words = ["protect", config.images, "--labels", config.labels, "--weights", config.weights, "--out", out]
    result = CliRunner().invoke(app, [*map(str, words), "--device", "cpu", "--quiet"])
    return result.exit_code, result.stderr


def test_a_full_disk_is_reported_and_the_run_continues_after_space_is_made(
    config: ProtectConfig, reference: dict[str, bytes], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(192 * 1024))
        out = disk / "out"
        code, said = command(config, out)
        assert code == ExitCode.UNEXPECTED
        assert "cannot be written: No space left on device; make space and run the same command again" in said
        assert "Traceback" not in said
        assert ".tmp" not in said
        assert_nothing_half_written(out, reference)
        ballast.unlink()
        assert command(config, out) == (ExitCode.SUCCESS, "")
        assert tree(out) == reference


def test_a_limit_on_the_size_of_files_is_reported_and_can_be_raised(
    config: ProtectConfig, reference: dict[str, bytes]
) -> None:
    with short_files(1500), pytest.raises(MtlueError, match="File too large; raise the limit"):
        run(config)
    assert_nothing_half_written(config.release, reference)
    assert tree(run(config).release) == reference


def test_an_output_that_turns_read_only_is_reported_and_the_run_continues_later(
    config: ProtectConfig, reference: dict[str, bytes]
) -> None:
    release = config.release

    aside = config.images.with_name("aside")
    aside.mkdir()

    def turn() -> None:
        # Made read-only where no thread is writing, for a busy folder cannot be; its copy is read-only from the start.
        mount("--bind", release, aside)
        mount("-o", "remount,bind,ro", aside)
        mount("--bind", aside, release)

    try:
        with pytest.raises(MtlueError, match="Read-only file system; make the file system writable"):
            run(config, At(turn, images=2))
    finally:
        for place in (release, aside):
            subprocess.run(["umount", place], check=False, capture_output=True)
    # A temporary file that a thread had open when the disk turned cannot be deleted; the next run does it.
    for name in find_images(release):
        assert (release / name).read_bytes() == reference[name]
    assert tree(run(config).release) == reference


def test_folders_without_the_right_to_write_are_reported(config: ProtectConfig, reference: dict[str, bytes]) -> None:
    release = config.release
    with rights_that_count():
        try:
            with pytest.raises(MtlueError, match="cannot be written: Permission denied; make the folder writable"):
                run(config, At(lambda: release.chmod(0o555), images=2))
        finally:
            release.chmod(0o755)
        config.images.parent.chmod(0o555)
        try:
            with pytest.raises(MtlueError, match=r"elsewhere.* cannot be written: Permission denied"):
                run(config, out=config.images.parent / "elsewhere")
        finally:
            config.images.parent.chmod(0o755)
        assert tree(run(config).release) == reference


def test_files_without_the_right_to_read_are_left_out_and_folders_refused(config: ProtectConfig) -> None:
    (config.images / "photo1.png").chmod(0)
    with rights_that_count():
        result = run(config)
        assert [(record.source, record.reason) for record in result.quarantine] == [
            ("photo1.png", "cannot be read: Permission denied")
        ]
        assert result.exit_code is ExitCode.QUARANTINE
        (config.images / "sub").chmod(0)
        try:
            with pytest.raises(InputError, match="sub cannot be read: Permission denied"):
                run(config)
        finally:
            (config.images / "sub").chmod(0o755)


def test_an_original_that_vanishes_or_becomes_a_pipe_is_left_out(
    config: ProtectConfig, reference: dict[str, bytes]
) -> None:
    def change() -> None:
        (config.images / "photo1.png").unlink()
        (config.images / "photo2.jpg").unlink()
        os.mkfifo(config.images / "photo2.jpg")

    result = run(config, At(change))
    assert {record.source: record.reason for record in result.quarantine} == {
        "photo1.png": "cannot be read: No such file or directory",
        "photo2.jpg": "cannot be read: is a FIFO, expected a file",
    }
    assert_nothing_half_written(result.release, reference)


def test_an_original_that_changes_is_released_as_it_was_when_its_digest_was_taken(config: ProtectConfig) -> None:
    path = config.images / "photo5.png"
    other = (config.images / "photo1.png").read_bytes()
    result = run(config, At(lambda: path.write_bytes(other)))
    record = next(record for record in read_manifest(result.release).files if record.source == "photo5.png")
    assert measure_change(decode_image(path).pixels, decode_image(result.release / "photo5.png").pixels).largest <= 8
    assert inspect_release(result.release, SilentProgress(), config.images, 1).faults == ()
    path.write_bytes((config.images / "photo2.jpg").read_bytes())
    again = run(config)
    assert (again.protected, again.kept) == (1, COUNT - 1)
    assert read_manifest(again.release).files[5] != record


def test_a_second_run_on_the_same_output_is_refused(config: ProtectConfig, reference: dict[str, bytes]) -> None:
    reported: list[tuple[int, str]] = []
    result = run(config, At(lambda: reported.append(command(config, config.release)), images=3))
    code, said = reported[0]
    assert code == ExitCode.INPUT
    assert f"error: another run is writing to {config.release}" in said
    assert "hint: wait until it has ended" in said
    assert tree(result.release) == reference
    assert (result.release / FOLDER / LOCK_NAME).stat().st_size == 0


def test_a_run_that_was_planned_before_another_one_wrote_is_refused(
    config: ProtectConfig, reference: dict[str, bytes]
) -> None:
    with pytest.raises(InputError, match="another run has written"):
        run(config, BeforeTheLock(lambda: run(config)))
    assert tree(config.release) == reference


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), SystemExit(1)])
def test_a_thread_that_dies_ends_the_run_which_continues_later(
    config: ProtectConfig, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    original = BatchedPerturbation.__call__
    calls: list[int] = []

    def dying(perturb: BatchedPerturbation, *arguments: Any) -> Any:  # noqa: ANN401 - as the original
        calls.append(1)
        if len(calls) == 3:
            raise error
        return original(perturb, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BatchedPerturbation, "__call__", dying)
        with pytest.raises(type(error)):
            run(config)
    assert_nothing_half_written(config.release, reference)
    assert not read_manifest(config.release).run.complete
    assert tree(run(config).release) == reference


def test_links_that_leave_the_folder_are_refused_before_anything_is_written(
    config: ProtectConfig, tmp_path: Path
) -> None:
    shutil.move(config.images / "photo1.png", tmp_path / "outside.png")
    (config.images / "photo1.png").symlink_to(tmp_path / "outside.png")
    shutil.move(config.images / "photo2.jpg", config.images / "sub" / "inside.jpg")
    (config.images / "photo2.jpg").symlink_to("sub/inside.jpg")
    with pytest.raises(InputError, match=f"1 of {COUNT} rows") as caught:
        run(config)
    assert "leaves" in caught.value.faults[0]
    assert not config.release.exists()


@pytest.mark.parametrize("place", ["sub", FOLDER, "other.png"])
def test_a_link_in_the_release_is_refused(config: ProtectConfig, tmp_path: Path, place: str) -> None:
    release = run(config).release
    if (release / place).is_dir():
        shutil.rmtree(release / place)
    (tmp_path / "elsewhere").mkdir()
    (release / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="contains symbolic links") as caught:
        run(config)
    assert caught.value.faults == (place,)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_release_as_input_is_refused_unless_forced(config: ProtectConfig, tmp_path: Path) -> None:
    release = run(config).release
    twice: dict[str, Any] = {"images": release, "labels": release / "labels.csv", "out": tmp_path / "twice"}
    with pytest.raises(InputError, match=f"{COUNT} of {COUNT} images are protected already") as caught:
        run(config, **twice)
    assert "--force" in (caught.value.hint or "")
    (release / "sub" / "labels.csv").write_text("file_name,colour,round\nphoto0.png,red,1\n")
    with pytest.raises(InputError, match="1 of 1 images"):
        run(config, images=release / "sub", labels=release / "sub" / "labels.csv", out=tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    assert run(config, **twice, force=True).protected == COUNT


def test_a_released_photo_among_the_originals_stops_the_run_unless_forced(
    config: ProtectConfig, reference: dict[str, bytes]
) -> None:
    release = run(config).release
    original = (config.images / "photo5.png").read_bytes()
    shutil.copy(release / "photo5.png", config.images / "photo5.png")
    for _ in range(2):
        with pytest.raises(MtlueError, match=r"photo5\.png is protected already.*--force"):
            run(config)
        assert (release / "photo5.png").read_bytes() == reference["photo5.png"]
    (config.images / "photo5.png").write_bytes(original)
    assert tree(run(config).release) == reference
    shutil.copy(release / "photo5.png", config.images / "photo5.png")
    assert run(config, force=True).protected == 1


def test_an_image_in_the_place_of_a_record_is_refused(config: ProtectConfig) -> None:
    (config.images / FOLDER).mkdir()
    shutil.copy(config.images / "photo1.png", config.images / FOLDER / "run.png")
    with config.labels.open("a") as stream:
        stream.write(f"{FOLDER}/run.png,red,1\n")
    with pytest.raises(InputError, match="the release needs for its own records") as caught:
        run(config)
    assert caught.value.faults[0].startswith(f"{FOLDER}/run.png")
    assert not config.release.exists()


@pytest.mark.parametrize("image_format", [ImageFormat.PNG, ImageFormat.KEEP])
def test_twins_are_all_released_under_names_of_their_own(config: ProtectConfig, image_format: ImageFormat) -> None:
    names = ["tw\u00ednn.png", "twi\u0301nn.png", "Tw\u00ednn.png"]
    for name in names:
        shutil.copy(config.images / "photo1.png", config.images / name)
    if len(find_images(config.images)) < COUNT + 3:
        pytest.skip("this file system takes twins for one")
    config.labels.write_text("file_name,colour,round\n" + "".join(f"{name},red,1\n" for name in names))
    result = run(config, image_format=image_format)
    assert result.protected == 3
    assert len({name.casefold() for name in find_images(result.release)}) == 3
    assert inspect_release(result.release, SilentProgress(), config.images, 1).faults == ()


def test_every_folder_reaches_the_disk_before_the_release_is_called_complete(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete: dict[Path, bool] = {}

    def noted(folder: Path) -> None:
        complete[folder] = read_run(config.release).complete
        synchronise(folder)

    monkeypatch.setattr(writing, "synchronise", noted)
    release = run(config).release
    assert complete == {release: False, release / "sub": False}
    assert read_run(release).complete


def test_half_written_files_of_killed_runs_are_cleared_away(config: ProtectConfig, reference: dict[str, bytes]) -> None:
    release = run(config).release
    for left in (release / ".0f.1.tmp", release / FOLDER / ".0f.2.tmp", release / "sub" / ".0f.3.tmp"):
        left.write_bytes(b"half")
    (release / FOLDER / PLANNED_NAME).write_bytes(b"[torn")
    assert tree(run(config).release) == reference


@pytest.mark.slow
def test_runs_that_are_killed_or_interrupted_at_random_moments_end_in_the_same_bytes() -> None:
    root = Path(__file__).parents[2]
    words = ["--images", "60", "--kills", "9", "--signals", "SIGKILL", "SIGKILL", "SIGKILL", "SIGINT", "SIGTERM"]
    command = [sys.executable, "-m", "benchmarks.kill_recovery", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 kills recovered to the same bytes" in done.stdout


@pytest.mark.slow
def test_the_soak_takes_files_through_every_command_and_prints_ratios() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks.soak", "--files", "20"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    heading, *rows = done.stdout.splitlines()
    assert "20 files        80 files" in heading
    assert len(rows) == 6
