import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import ExitCode, ImageFormat, Quality
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import file_digest
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import comparable_pixels
from mtlue_cli.perturbation.effect import measure_change
from mtlue_cli.release.records import FOLDER, MANIFEST_NAME, RUN_NAME, Record, read_manifest
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect import photos as photo_steps
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.images.pictures import LCMS_SRGB, SRGB
from tests.small_set import TASKS, write_checkpoint, write_images


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")


def run(config: ProtectConfig, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field of the config
    return protect_folder(replace(config, **changes), SilentProgress())


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a release but its run record, which holds no pixels."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RUN_NAME
    }


def edit_labels(path: Path, change: Callable[[list[str]], list[str] | None]) -> None:
    rows = [change(row) for row in csv.reader(path.read_text().splitlines())]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(row for row in rows if row is not None)


def test_every_saved_pixel_is_within_the_bound_and_the_labels_match(config: ProtectConfig) -> None:
    result = run(config)
    assert result.release == config.images.with_name("photos-protected")
    assert (result.protected, result.kept, result.exit_code) == (7, 0, ExitCode.SUCCESS)
    manifest = read_manifest(result.release)
    assert manifest.run.complete
    with (result.release / "labels.csv").open() as stream:
        released = list(csv.DictReader(stream))
    with config.labels.open() as stream:
        given = list(csv.DictReader(stream))
    for record, row, original in zip(manifest.files, released, given, strict=True):
        assert row["file_name"] == record.file_name
        assert record.file_name == str(Path(original["file_name"]).with_suffix(".png"))
        assert (row["colour"], row["round"]) == (original["colour"], original["round"])
        assert record.labels == {"colour": row["colour"], "round": row["round"] or None}
        saved = decode_image(result.release / record.file_name)
        change = measure_change(decode_image(config.images / record.source).pixels, saved.pixels)
        assert 4 < change.largest <= 8
        assert record.max_change == change.largest
        assert record.psnr == pytest.approx(change.psnr, abs=1e-3)
        assert record.sha256 == file_digest(result.release / record.file_name)
        assert record.source_sha256 == file_digest(config.images / record.source)
    assert result.max_change == max(record.max_change for record in manifest.files)
    assert not list(result.release.rglob("*.tmp"))


def test_originals_are_left_alone(config: ProtectConfig) -> None:
    before = snapshot(config.images)
    run(config)
    assert snapshot(config.images) == before


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 8, "workers": 5}])
def test_batch_size_and_workers_do_not_show(config: ProtectConfig, tmp_path: Path, change: dict[str, int]) -> None:
    reference = snapshot(run(config).release)
    assert snapshot(run(config, out=tmp_path / "other", **change).release) == reference


def test_row_order_does_not_show(config: ProtectConfig, tmp_path: Path) -> None:
    reference = snapshot(run(config).release)
    lines = config.labels.read_text().splitlines()
    config.labels.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    other = snapshot(run(config, out=tmp_path / "other", batch_size=2).release)
    pictures = [name for name in reference if name.endswith(".png")]
    assert len(pictures) == 7
    assert all(other[name] == reference[name] for name in pictures)


def test_memory_budget_does_not_show(config: ProtectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = snapshot(run(config).release)
    monkeypatch.setattr(photo_steps, "PIXEL_BUDGET", 700)
    assert snapshot(run(config, out=tmp_path / "other").release) == reference


def test_labels_matter_and_an_unprotected_task_does_not(config: ProtectConfig, tmp_path: Path) -> None:
    def flipped(row: list[str]) -> list[str]:
        return [row[0], row[1], {"0": "1", "1": "0"}.get(row[2], row[2])]

    both = run(config, out=tmp_path / "both").release
    part = run(config, out=tmp_path / "part", tasks=["colour"])
    assert part.tasks == ("colour",)
    assert part.unprotected_tasks == ("round",)
    excluded = run(config, out=tmp_path / "excluded", exclude=["round"]).release
    edit_labels(config.labels, flipped)
    both_flipped = run(config, out=tmp_path / "both2").release
    part_flipped = run(config, out=tmp_path / "part2", tasks=["colour"]).release
    name = "photo1.png"
    assert (both / name).read_bytes() != (both_flipped / name).read_bytes()
    assert (part.release / name).read_bytes() == (part_flipped / name).read_bytes()
    assert (part.release / name).read_bytes() == (excluded / name).read_bytes()
    assert (part.release / name).read_bytes() != (both / name).read_bytes()
    # An empty cell is the neutral embedding too.
    assert (both / "photo4.png").read_bytes() == (part.release / "photo4.png").read_bytes()


def test_columns_that_the_weights_keep_useful_are_never_called_protected(config: ProtectConfig, tmp_path: Path) -> None:
    keeping = write_checkpoint(tmp_path / "keeping.safetensors", TASKS.subset(["colour"]), keep=("round", "absent"))
    result = run(config, weights=str(keeping))
    assert (result.tasks, result.unprotected_tasks, result.kept_useful) == (("colour",), ("round",), ("round",))
    assert result.rows()["kept useful"] == "round"
    assert [column.reason for column in result.columns] == ["", "is kept useful by the weights"]
    assert json.loads((result.release / FOLDER / RUN_NAME).read_bytes())["keep"] == ["round"]
    with pytest.raises(InputError, match="no task 'round'"):
        run(config, weights=str(keeping), tasks=("round",), overwrite=True)


@pytest.mark.parametrize("epsilon", [2, 16])
def test_epsilon_scales(config: ProtectConfig, epsilon: int) -> None:
    result = run(config, epsilon=epsilon)
    assert result.max_change is not None
    assert epsilon / 2 < result.max_change <= epsilon


def test_a_second_run_touches_nothing(config: ProtectConfig) -> None:
    release = run(config).release
    before = snapshot(release)
    times = {path: path.stat().st_mtime_ns for path in release.rglob("*.png")}
    again = run(config)
    assert (again.protected, again.kept) == (0, 7)
    assert snapshot(release) == before
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*.png")} == times


def test_only_what_changed_is_done_again(config: ProtectConfig) -> None:
    release = run(config).release
    before = snapshot(release)
    (release / "photo1.png").write_bytes(b"tampered")
    (release / "photo2.png").unlink()
    assert run(config).protected == 2
    assert snapshot(release) == before
    shutil.copy(config.images / "photo2.jpg", config.images / "photo4.jpg")
    edit_labels(config.labels, lambda row: [row[0], "red", row[2]] if row[0] == "photo5.png" else row)
    assert run(config).protected == 2
    edit_labels(config.labels, lambda row: None if row[0] == "photo5.png" else row)
    result = run(config)
    assert (result.protected, result.kept, result.unlabelled) == (0, 6, ("photo5.png",))
    assert not (release / "photo5.png").exists()


def test_other_settings_are_refused_unless_overwriting(config: ProtectConfig) -> None:
    release = run(config).release
    with pytest.raises(InputError, match="other settings") as caught:
        run(config, epsilon=4, image_format=ImageFormat.WEBP)
    assert len(caught.value.faults) == 2
    result = run(config, epsilon=4, image_format=ImageFormat.WEBP, overwrite=True)
    assert (result.protected, result.kept) == (7, 0)
    assert [warning.split(":")[0] for warning in result.warnings] == [
        "epsilon 4 is below the 8 that the weights generator were trained for"
    ]
    assert not list(release.rglob("*.png"))
    assert len(list(release.rglob("*.webp"))) == 7


def test_the_rest_is_done_after_a_kill(config: ProtectConfig, tmp_path: Path) -> None:
    reference = snapshot(run(config, out=tmp_path / "whole").release)
    release, add, added = config.release, Release.add, []

    def killed(release: Release, record: Record) -> None:
        add(release, record)
        added.append(record)
        if len(added) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config, workers=1)
    with (release / FOLDER / MANIFEST_NAME).open("a") as stream:
        stream.write('{"file_name": "photo')
    (release / ".photo9.png.123.tmp").write_bytes(b"half")
    result = run(config)
    assert (result.protected, result.kept) == (4, 3)
    assert snapshot(release) == reference


def test_killed_in_the_middle_and_run_again_gives_the_same(config: ProtectConfig, tmp_path: Path) -> None:
    write_images(config.images, count=60, side=48)
    reference = snapshot(run(config, out=tmp_path / "whole").release)
    out = tmp_path / "killed"
    program = (
        "import sys; from pathlib import Path\n"
        "from mtlue_cli.workflows.progress import SilentProgress\n"
        "from mtlue_cli.workflows.protect.run import protect_folder\n"
        "from mtlue_cli.workflows.protect.config import ProtectConfig\n"
        "images, labels, out, weights = map(Path, sys.argv[1:])\n"
        "config = ProtectConfig(images, labels, out, weights=str(weights), device='cpu', batch_size=2)\n"
        "protect_folder(config, SilentProgress())\n"
    )
    arguments = [str(config.images), str(config.labels), str(out), str(config.weights)]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=Path(__file__).parents[2])
    while process.poll() is None and len(list(out.rglob("*.png"))) < 10:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("[!.]*.png")}
    assert len(written) >= 10
    assert all(content == reference[name] for name, content in written.items())
    result = run(config, out=out)
    assert result.kept + result.protected == 60
    assert snapshot(out) == reference


def test_bad_images_are_left_out_and_reported(config: ProtectConfig) -> None:
    release = run(config).release
    assert (release / "photo1.png").exists()
    (config.images / "photo1.png").write_bytes(b"not an image")
    truncated = (config.images / "photo2.jpg").read_bytes()[:300]
    (config.images / "photo2.jpg").write_bytes(truncated)
    result = run(config)
    assert result.exit_code is ExitCode.QUARANTINE
    assert [record.source for record in result.quarantine] == ["photo1.png", "photo2.jpg"]
    assert not (release / "photo1.png").exists()
    assert not (release / "photo2.png").exists()
    assert "photo1" not in (release / "labels.csv").read_text()
    manifest = read_manifest(release)
    assert len(manifest.files) == 5
    assert [(left.source, left.reason) for left in manifest.quarantine] == [
        (left.source, left.reason) for left in result.quarantine
    ]
    document = result.to_json()
    assert [left["file"] for left in document["quarantined"]] == ["photo1.png", "photo2.jpg"]
    assert msgspec.convert(document, ProtectResult, dec_hook=lambda kind, text: kind(text)) == result


def test_an_image_that_breaks_the_bound_is_never_written(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(pixels: np.ndarray, *_: object) -> np.ndarray:
        return pixels + np.uint8(100)

    monkeypatch.setattr(photo_steps, "protect_pixels", broken)
    result = run(config)
    assert len(result.quarantine) == 7
    assert "the bound is 8/255" in result.quarantine[0].reason
    assert not list(result.release.rglob("*.png"))


def test_kinds_of_photos(config: ProtectConfig) -> None:
    rng = np.random.default_rng(3)
    rgba = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    grey = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    deep = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(rgba).save(config.images / "alpha.png")
    Image.fromarray(grey).save(config.images / "grey.tif")
    Image.fromarray(deep).save(config.images / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    Image.fromarray(rgba[..., :3]).save(config.images / "turned.jpg", exif=exif, icc_profile=LCMS_SRGB)
    Image.fromarray(rgba[..., :3]).quantize(16).save(config.images / "palette.bmp")
    names = ["alpha.png", "grey.tif", "deep.png", "turned.jpg", "palette.bmp"]
    config.labels.write_text("image,colour,round\n" + "".join(f"{name},red,1\n" for name in names))
    result = run(config)
    assert result.quarantine == ()
    assert len(result.unlabelled) == 7
    saved = {name: decode_image(result.release / Path(name).with_suffix(".png")) for name in names}
    assert np.array_equal(saved["alpha.png"].alpha, rgba[..., 3])  # type: ignore[arg-type]  # not None, or unequal
    assert saved["grey.tif"].pixels.shape == (20, 30)
    assert saved["deep.png"].pixels.dtype == np.uint16
    assert 0 < measure_change(deep, saved["deep.png"].pixels).largest <= 8
    assert saved["turned.jpg"].size == (30, 20)
    assert saved["turned.jpg"].icc_profile == SRGB
    assert saved["turned.jpg"].metadata.exif is None
    kept = run(config, keep_metadata=True, overwrite=True)
    assert b"a description" in (decode_image(kept.release / "turned.png").metadata.exif or b"")
    webp = run(config, image_format=ImageFormat.WEBP, overwrite=True)
    assert [record.source for record in webp.quarantine] == ["deep.png"]
    original_format = run(config, image_format=ImageFormat.KEEP, overwrite=True)
    assert original_format.quarantine == ()
    assert original_format.compressed == 1
    for name in names:
        with Image.open(result.release / name) as picture, Image.open(config.images / name) as original:
            assert picture.format == original.format


def test_whatever_a_file_holds_it_is_released_or_listed_with_a_reason(config: ProtectConfig) -> None:
    rng = np.random.default_rng(6)
    photo = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    photo.save(config.images / "really.jpg", format="PNG")
    photo.save(config.images / "no suffix", format="JPEG")
    photo.save(config.images / "map.ppm")
    photo.quantize(8).save(config.images / "one.gif")
    photo.save(config.images / "two.gif", save_all=True, append_images=[Image.new("RGB", photo.size)])
    Image.new("RGB", (1, 1)).save(config.images / "dot.png")
    Image.fromarray(rng.integers(0, 256, (5000, 1, 3), dtype=np.uint8)).save(config.images / "line.png")
    Image.fromarray(rng.integers(0, 256, (50, 30, 3), dtype=np.uint8)).save(config.images / "large.png")
    (config.images / "empty.png").touch()
    names = {
        **dict.fromkeys(["really.jpg", "no suffix", "map.ppm", "one.gif"], ""),
        "dot.png": "nearly all pixels are black or white",  # it is black
        "line.png": "1 x 5000 = 5,000 pixels, the limit is 1,499",
        "two.gif": "several frames",
        "large.png": "30 x 50 = 1,500 pixels, the limit is 1,499; set another one with --max-pixels",
        "empty.png": "is empty",
    }
    config.labels.write_text("image,colour,round\n" + "".join(f"{name},red,1\n" for name in names))
    with limited_to(Budget(max_pixels=1499)):
        result = run(config)
    reasons = {record.source: record.reason for record in result.quarantine}
    assert set(reasons) == {name for name, reason in names.items() if reason}
    assert all(names[name] in reason for name, reason in reasons.items())
    assert run(config).protected == 2  # those that the default limit allows
    for record in read_manifest(config.release).files:
        saved = decode_image(config.release / record.file_name).pixels
        change = measure_change(comparable_pixels(decode_image(config.images / record.source).pixels, saved), saved)
        assert change.largest == record.max_change <= 8
    kept = run(config, image_format=ImageFormat.KEEP, overwrite=True)
    assert kept.compressed == 1  # recognised by content: the JPEG has no suffix, and what is called a JPEG is none
    assert "one.gif" in {record.source for record in kept.quarantine}


def test_names_that_meet_are_kept_apart(config: ProtectConfig) -> None:
    shutil.copy(config.images / "photo1.png", config.images / "photo2.png")
    with config.labels.open("a") as stream:
        stream.write("photo2.png,red,1\n")
    result = run(config)
    assert result.protected == 8
    assert (result.release / "photo2.jpg.png").exists()
    assert (result.release / "photo2.png.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["colour"], "exclude": ["round"]}, "cannot be used together"),
        ({"tasks": ["age"]}, "no task 'age'"),
        ({"exclude": ["colour", "round"]}, "no task is left"),
        ({"epsilon": 0}, "expected 1 to 64"),
        ({"epsilon": 65}, "expected 1 to 64"),
        ({"workers": 0}, "--workers"),
        ({"batch_size": 0}, "--batch-size"),
        ({"weights": "absent"}, "absent"),
        ({"device": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_options_write_nothing(config: ProtectConfig, change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        run(config, **change)
    assert message in "\n".join((str(caught.value), *caught.value.faults))
    assert not config.release.exists()


def test_wrong_folders_write_nothing(config: ProtectConfig, tmp_path: Path) -> None:
    for out in (config.images, config.images / "out", tmp_path):
        with pytest.raises(InputError, match="neither may contain the other"):
            run(config, out=out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not empty"):
            run(config, out=foreign, overwrite=overwrite)
    with pytest.raises(InputError, match="is a file"):
        run(config, out=foreign / "mine.txt")
    (config.images / "photo1.png").unlink()
    with pytest.raises(InputError, match="1 of 7 rows"):
        run(config)
    assert not config.release.exists()


def test_labels_that_the_generator_does_not_know(config: ProtectConfig) -> None:
    edit_labels(config.labels, lambda row: [row[0], "mauve" if row[1] == "red" else row[1], row[2]])
    with pytest.raises(InputError) as caught:
        run(config)
    assert "mauve" in caught.value.faults[0]


def test_a_full_disk_stops_the_run_and_can_be_resumed(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: Mapping[Path, bytes], **_: object) -> dict[Path, OSError]:
        return dict.fromkeys(files, OSError(28, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(photo_steps, "write_together", full)
        with pytest.raises(MtlueError, match="No space left"):
            run(config)
    assert run(config).protected == 7


def test_a_folder_may_show_few_classes(config: ProtectConfig) -> None:
    config.labels.write_text("file_name,colour,round\nphoto1.png,blue,\n")
    result = run(config)
    assert read_manifest(result.release).files[0].labels == {"colour": TASKS["colour"].classes[2], "round": None}


def test_a_relative_folder_gets_its_sibling(config: ProtectConfig) -> None:
    relative = os.path.relpath(config.images)
    assert run(config, images=Path(relative)).release == config.images.resolve().with_name("photos-protected")


def test_a_release_keeps_its_jpeg_quality(config: ProtectConfig) -> None:
    kept = replace(config, image_format=ImageFormat.KEEP)
    run(kept)
    with pytest.raises(InputError, match="other settings") as caught:
        run(kept, quality=Quality.SAME)
    assert "quality: the release has 95, this run same" in str(caught.value.faults)
    run(kept, quality=Quality.SAME, overwrite=True)
    assert run(kept, quality=Quality.SAME).kept > 0


def test_jpeg_xl_takes_no_metadata(config: ProtectConfig) -> None:
    with pytest.raises(InputError) as caught:
        run(config, image_format=ImageFormat.JXL, keep_metadata=True)
    assert "keeps no metadata" in str(caught.value.faults)
