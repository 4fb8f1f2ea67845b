"""A release as an object: what is looked at, how often, and what an unfinished one says."""

import sys
import traceback
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError
from mtlue_cli.images import folder as image_folder
from mtlue_cli.images.folder import find_images
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.release import records as recording
from mtlue_cli.release.records import FileRecord, RunRecord, read_manifest, released_files
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.protect_runs import interrupt
from tests.small_set import write_checkpoint, write_images
from tests.verification.made_release import make_release, make_set


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")


def test_an_unfinished_release_is_one_fault_that_says_how_to_finish_it(config: ProtectConfig) -> None:
    interrupt(config, after=3)
    assert len(find_images(config.release)) > 3
    (config.release / "sub" / ".0f.12.tmp").write_bytes(b"half")
    table = read_folder_labels(config.images, config.labels).table
    for labels in (None, table):
        faults = Release(config.release).check(config.images, labels).faults
        assert len(faults) == 1
        assert "unfinished" in faults[0]
        assert "3 images are recorded" in faults[0]
        assert f"mtlue protect {config.images} --labels FILE --out {config.release}" in faults[0]
    result = CliRunner().invoke(app, ["inspect", str(config.release)])
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert result.stderr.count("fault: ") == 1
    assert "may be unprotected" not in result.stderr
    protect_folder(config, SilentProgress())
    assert Release(config.release).check(config.images, table).faults == ()


def test_an_unfinished_release_still_tells_of_strangers_and_harmed_files(config: ProtectConfig) -> None:
    interrupt(config, after=3)
    (config.release / "mine.png").write_bytes(b"mine")
    harmed = read_manifest(config.release).files[0].file_name
    (config.release / harmed).unlink()
    faults = Release(config.release).check().faults
    assert faults[1:] == (
        "mine.png: not in the manifest, it may be unprotected",
        f"{harmed}: missing in the release",
    )


def test_the_work_of_a_check_grows_with_the_files_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of a release are gathered once, not once per file."""
    made = make_set(tmp_path / "clean", count=12)
    make_release(made, tmp_path / "release")
    read: Counter[str] = Counter()

    def counted(files: tuple[FileRecord, ...]) -> frozenset[str]:
        read["records"] += len(files)
        return released_files(files)

    monkeypatch.setattr(recording, "released_files", counted)
    assert Release(tmp_path / "release").check(made.images, made.table).faults == ()
    assert read["records"] <= 12


def test_a_check_is_timed_from_its_first_file_and_not_from_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_set(tmp_path / "clean", count=4)
    make_release(made, tmp_path / "release")
    monkeypatch.delitem(sys.modules, "mtlue_cli.metrics.image_quality", raising=False)
    loaded: list[bool] = []

    def start(files: int) -> None:
        assert files == 4
        loaded.append("mtlue_cli.metrics.image_quality" in sys.modules)

    found = Release(tmp_path / "release").check(made.images, with_ssim=True, on_start=start)
    assert found.mean_ssim is not None
    assert loaded == [True]


def test_a_run_reads_the_folders_and_the_run_record_once_before_it_decides(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect_folder(config, SilentProgress())
    walk, find, read_run = image_folder.list_folder, image_folder.find_files_and_links, recording.run_and_digest
    walked: Counter[Path] = Counter()
    parsed: Counter[Path] = Counter()

    def counted_walk(folder: Path) -> image_folder.FolderFiles:
        walked[folder] += 1
        return walk(folder)

    def counted_find(folder: Path) -> tuple[list[str], list[str]]:
        walked[folder] += 1
        return find(folder)

    def counted_read(release: Path) -> tuple[RunRecord, str]:
        parsed[release] += 1
        return read_run(release)

    for module in ("images.folder", "workflows.protect.plan"):
        monkeypatch.setattr(f"mtlue_cli.{module}.list_folder", counted_walk)
    monkeypatch.setattr("mtlue_cli.release.release.find_files_and_links", counted_find)
    monkeypatch.setattr(recording, "run_and_digest", counted_read)
    protect_folder(config, SilentProgress())
    assert walked == {config.images: 1, config.release: 2}  # the release again before it is called complete
    assert parsed == {config.release: 1}


def test_a_check_walks_a_release_once(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    protect_folder(config, SilentProgress())
    find, walked = image_folder.find_files_and_links, Counter[Path]()

    def counted(folder: Path) -> tuple[list[str], list[str]]:
        walked[folder] += 1
        return find(folder)

    monkeypatch.setattr("mtlue_cli.release.check.find_files_and_links", counted)
    assert Release(str(config.release)).check(str(config.images)).faults == ()
    assert walked == {config.release: 1}


def test_an_uncaught_error_of_a_method_shows_faults_and_hint_in_words_of_python(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError) as caught:
        Release(tmp_path).look(frozenset())
    shown = "".join(traceback.format_exception(caught.value))
    assert "holds no release of mtlue\nhint: give another output folder" in shown
    assert "--" not in str(caught.value) + (caught.value.hint or "")
    many = InputError("wrong", [f"fault {index}" for index in range(7)], "mend it")
    assert many.__notes__ == [*(f"  fault {index}" for index in range(5)), "  and 2 more", "hint: mend it"]
