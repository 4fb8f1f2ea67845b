import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.commands.app import app
from mtlue_cli.release.records import FOLDER, MANIFEST_NAME
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.verification.audit import audit_release
from mtlue_cli.workflows.inspect import inspect_path
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images

RUNNER = CliRunner()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_images(tmp_path / "photos", count=4)
    return tmp_path / "photos"


def released(photos: Path, image_format: ImageFormat = ImageFormat.PNG) -> Path:
    weights = write_checkpoint(photos.parent / "generator.safetensors")
    config = ProtectConfig(photos, photos / "labels.csv", weights=str(weights), device="cpu", image_format=image_format)
    return protect_folder(config, SilentProgress()).release


def run(*arguments: object) -> Result:
    return RUNNER.invoke(app, ["inspect", *map(str, arguments)])


def test_a_checkpoint_shows_its_card(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    result = run(weights)
    assert result.exit_code == ExitCode.SUCCESS
    for expected in ("8/255", "tap", "16 pixels", "categorical, 3 classes: red, green, blue", "Apache-2.0"):
        assert expected in result.stdout
    document = json.loads(run(weights, "--json", "-").stdout)
    assert document["kind"] == "checkpoint"
    assert document["parameters"] > 1000
    assert document["card"]["digest"] in result.stdout


def test_shipped_weights_are_found_by_name() -> None:
    result = RUNNER.invoke(app, ["inspect", "utkface", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["card"]["epsilon"] == 8


def test_weights_of_a_formula_were_trained_on_nothing() -> None:
    assert re.search(r"trained on +nothing", run("default").stdout)


def test_a_whole_release(photos: Path) -> None:
    release = released(photos)
    result = run(release)
    assert result.exit_code == ExitCode.SUCCESS
    assert "give --against" in result.stdout
    recorded = json.loads(run(release, "--json", "-").stdout)
    measured = json.loads(run(release, "--against", photos, "--json", "-").stdout)
    assert recorded["whole"] is measured["whole"] is True
    assert (recorded["measured"], measured["measured"], measured["files"]) == (0, 4, 4)
    assert 4 < measured["max_change"] <= 8
    assert measured["max_change"] == recorded["max_change"]
    assert measured["mean_psnr"] == pytest.approx(recorded["mean_psnr"], abs=0.01)
    assert recorded["mean_ssim"] is None
    assert 0.9 < measured["mean_ssim"] < 1
    assert recorded["flip"] == measured["flip"] == {**measured["flip"], "files": 4, "pixels_per_degree": 67}


def test_flip_is_as_recorded_or_measured_again(photos: Path) -> None:
    release = released(photos)
    path = release / FOLDER / "run.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "flip": {**document["flip"], "mean": 0.5}}))
    assert "0.500 (as recorded, mean of 4 files" in run(release).stdout
    assert f"{document['flip']['mean']:.3f} (measured, mean of 4 files" in run(release, "--against", photos).stdout
    del document["flip"]  # a release of an older version
    path.write_text(json.dumps(document))
    assert json.loads(run(release, "--json").stdout)["flip"] is None
    assert json.loads(run(release, "--against", photos, "--json").stdout)["flip"]["files"] == 4


def test_every_fault_of_a_release_is_reported(photos: Path) -> None:
    release = released(photos)
    (release / "photo1.png").write_bytes((release / "photo2.png").read_bytes())
    (release / "sub" / "photo0.png").unlink()
    (release / "stranger.png").touch()
    rows = (release / "labels.csv").read_text().splitlines()
    (release / "labels.csv").write_text("\n".join([*rows[:2], "other.png,red,1"]) + "\n")
    result = run(release, "--against", photos)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    for expected in (
        "photo1.png: its bytes are not those",
        "photo1.png: cannot be measured",
        "sub/photo0.png: missing",
        "stranger.png: not in the manifest",
        "no row for photo2.png",
        "other.png is not in the manifest",
    ):
        assert expected in result.stderr


def test_changed_records_links_and_leftovers_are_reported(photos: Path) -> None:
    release = released(photos)
    labels = release / "labels.csv"
    labels.write_text(labels.read_text().replace("red", "green"))
    (release / FOLDER / ".0f.12.tmp").write_bytes(b"half")
    (release / "more").symlink_to(photos)
    (release / "photo1.png").unlink()
    os.mkfifo(release / "photo1.png")
    (photos / "photo2.jpg").unlink()
    os.mkfifo(photos / "photo2.jpg")
    result = run(release, "--against", photos)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    for expected in (
        "labels.csv: its bytes are not those that the run wrote",
        f"{FOLDER}/.0f.12.tmp: left over from an interrupted run",
        "more: is a link",
        "photo1.png: missing",
        "photo2.jpg: the original cannot be read: is a FIFO",
    ):
        assert expected in result.stderr
    (release / FOLDER / MANIFEST_NAME).unlink()
    assert f"{FOLDER}/{MANIFEST_NAME}: cannot be read: No such file" in run(release).stderr


def test_the_bar_ends_with_a_look_that_breaks_off(photos: Path) -> None:
    ended: list[bool] = []

    class Broken(SilentProgress):
        def advance(self, *_: object, **__: object) -> None:
            raise RuntimeError("broken off")

        def finish(self) -> None:
            ended.append(True)

    with pytest.raises(RuntimeError):
        inspect_path(released(photos), Broken())
    assert ended


def test_a_release_of_an_older_version_has_no_digests_to_check(photos: Path) -> None:
    release = released(photos)
    path = release / FOLDER / "run.json"
    document = json.loads(path.read_text())
    assert len(document.pop("digests")) == 3
    path.write_text(json.dumps(document))
    (release / FOLDER / "seal.json").unlink()
    assert run(release).exit_code == ExitCode.SUCCESS


def test_an_original_in_the_release_is_reported(photos: Path) -> None:
    release = released(photos)
    (release / "photo1.png").write_bytes((photos / "photo1.png").read_bytes())
    result = run(release, "--against", photos)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert "photo1.png: is its original, unchanged: protect it again" in result.stderr


def test_a_file_over_the_bound_and_another_original_are_reported(photos: Path) -> None:
    release = released(photos)
    manifest = release / FOLDER / MANIFEST_NAME
    manifest.write_text(manifest.read_text().replace('"max_change": ', '"max_change": 2'))
    result = run(release)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert "the bound is 8/255" in result.stderr
    (photos / "photo1.png").write_bytes((photos / "sub" / "photo3.jpg").read_bytes())
    assert "photo1.png: the original is not the one" in run(release, "--against", photos).stderr


def test_compression_over_the_bound_is_said_but_no_fault(photos: Path) -> None:
    release = released(photos, ImageFormat.KEEP)
    for more in ([], ["--against", photos]):
        result = run(release, *more, "--json", "-")
        assert result.exit_code == ExitCode.SUCCESS
        assert json.loads(result.stdout)["compressed_over_bound"] > 0


def test_a_release_with_a_file_column_of_its_own_name_is_whole(photos: Path) -> None:
    labels = photos / "labels.csv"
    labels.write_text(labels.read_text().replace("file_name", "photo"))
    weights = write_checkpoint(photos.parent / "generator.safetensors")
    config = ProtectConfig(
        photos, labels, reading=LabelOptions(file_column="photo"), weights=str(weights), device="cpu"
    )
    release = protect_folder(config, SilentProgress()).release
    assert run(release).exit_code == ExitCode.SUCCESS
    table = read_label_file(labels, LabelOptions(file_column="photo")).table
    assert audit_release(release, photos, table).faults == ()


def test_an_unfinished_release_is_not_whole(photos: Path) -> None:
    release = released(photos)
    (release / FOLDER / "run.json").write_text(
        (release / FOLDER / "run.json").read_text().replace('"complete": true', '"complete": false')
    )
    result = run(release)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert "its run was interrupted" in result.stderr


def test_neither_checkpoint_nor_release(photos: Path) -> None:
    for path, message in (
        (photos, "is not a release"),
        (photos / "absent", "does not exist"),
        (photos / "labels.csv", "cannot be read as a checkpoint"),
    ):
        result = run(path)
        assert result.exit_code == ExitCode.INPUT
        assert message in result.stderr
    assert run(photos / "labels.csv", "--against", photos).exit_code == ExitCode.INPUT
