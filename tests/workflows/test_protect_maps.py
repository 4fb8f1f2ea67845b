"""Masks and maps travel with their images: byte for byte, recorded, resumed, checked, and left out together."""

import csv
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import ExitCode, ImageFormat, LabelFormat, TaskKind, Unlabelled
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.generator.checkpoint import read_card, save_checkpoint
from mtlue_cli.generator.closed_form import Labels
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.images.metadata import TURNS
from mtlue_cli.images.targets import read_target, row_maps, to_size
from mtlue_cli.perturbation.effect import measure_change
from mtlue_cli.release.records import (
    FOLDER,
    MANIFEST_NAME,
    FileRecord,
    QuarantineRecord,
    Record,
    read_manifest,
    write_planned,
)
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.spec import Task, TaskSet, numbered_classes
from mtlue_cli.verification.audit import audit_release
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.photos import Encoded, PhotoSteps, Pipeline, Prepared
from mtlue_cli.workflows.protect.plan import ProtectPlan, named_weights, plan_protection, read_inputs
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.small_set import SHAPE, TASKS, write_checkpoint, write_images

READING = LabelOptions(declarations=parse_declarations(["far=depth:scale=0.5"]))
SHARED = "maps/shared.npy"
DELTA = np.random.default_rng(0).uniform(-8, 8, (3, 16, 16)).astype(np.float32)


def add_maps(labels: Path) -> None:
    """A mask beside each photo, called as its release would be, and a depth map that all photos but the first share."""
    folder = labels.parent
    header, *rows = csv.reader(labels.read_text().splitlines())
    (folder / "maps").mkdir()
    np.save(folder / SHARED, np.full((4, 4), 6, dtype=np.uint16))
    for index, row in enumerate(rows):
        with Image.open(folder / row[0]) as photo:
            size = photo.size
        mask = "maps/0.png" if index == 0 else Path(row[0]).with_suffix(".mask.png").as_posix()
        mask = Path(row[0]).with_suffix(".png").as_posix() if row[0].endswith("0.jpg") else mask
        classes = (np.indices(size[::-1]).sum(axis=0) // 4 + index) % 3
        Image.fromarray(classes.astype(np.uint8)).save(folder / mask, compress_level=index % 9)
        row += ["" if index == 5 else mask, "" if index == 0 else SHARED]
    with labels.open("w", newline="") as stream:
        csv.writer(stream).writerows([[*header, "mask", "far"], *rows])


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    add_maps(labels)
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, reading=READING, weights=str(weights), device="cpu")


def run(config: ProtectConfig, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field of the config
    return protect_folder(replace(config, **changes), SilentProgress())


def planned(config: ProtectConfig, **changes: Any) -> ProtectPlan:  # noqa: ANN401 - any field of the config
    config = replace(config, **changes)
    inputs = read_inputs(config)
    return plan_protection(config, inputs, named_weights(config, inputs, str(config.weights)))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def inspected(config: ProtectConfig) -> tuple[str, ...]:
    return inspect_release(config.release, SilentProgress(), config.images, 1).faults


def audited(config: ProtectConfig) -> tuple[str, ...]:
    table = read_folder_labels(config.images, config.labels, config.reading, for_learning=False).table
    return audit_release(config.release, config.images, table).faults


def test_maps_are_released_byte_for_byte_where_the_labels_name_them(config: ProtectConfig) -> None:
    result = run(config)
    release = result.release
    given = read_folder_labels(config.images, config.labels, READING).table
    saved = read_folder_labels(release, release / "labels.csv", READING).table
    assert saved.maps == given.maps
    assert (result.exit_code, result.protected, result.maps) == (ExitCode.SUCCESS, 7, 7)
    for name in given.all_map_files:
        assert (release / name).read_bytes() == (config.images / name).read_bytes()
    manifest = read_manifest(release)
    for record in manifest.files:
        row = given.file_names.index(record.source)
        assert record.maps == {name: file_digest(config.images / name) for name in given.map_files(row)}
    assert manifest.run.counts["maps"] == 7
    assert inspected(config) == audited(config) == ()
    assert inspect_release(release, SilentProgress(), None, 1).maps == 7


def test_an_image_gives_way_to_a_mask_of_its_name(config: ProtectConfig) -> None:
    release = run(config).release
    record = next(record for record in read_manifest(release).files if record.source == "sub/photo0.jpg")
    assert record.file_name == "sub/photo0.jpg.png"
    assert (release / "sub/photo0.png").read_bytes() == (config.images / "sub/photo0.png").read_bytes()


def test_a_release_without_maps_is_recorded_as_before(tmp_path: Path) -> None:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    release = run(ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")).release
    assert '"maps"' not in (release / FOLDER / MANIFEST_NAME).read_text()
    assert "maps" not in read_manifest(release).run.counts


def test_run_again_nothing_is_done_and_what_is_missing_comes_back(config: ProtectConfig) -> None:
    release = run(config).release
    before = {name: (release / name).stat().st_mtime_ns for name in files_of(release) if not name.startswith(FOLDER)}
    assert run(config).protected == 0
    after = {name: (release / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if after[name] != before[name]} == {"labels.csv"}
    (release / SHARED).unlink()
    (release / "photo1.mask.png").write_bytes(b"else")
    assert run(config).protected == 6
    assert inspected(config) == ()


def test_a_mask_that_changed_is_released_anew(config: ProtectConfig) -> None:
    release = run(config).release
    mask = config.images / "photo1.mask.png"
    Image.fromarray(np.ones((25, 24), dtype=np.uint8)).save(mask)
    assert any("photo1.png: protected with other bytes of photo1.mask.png" in fault for fault in audited(config))
    assert run(config).protected == 1
    assert (release / mask.name).read_bytes() == mask.read_bytes()
    assert audited(config) == ()


def test_an_image_in_quarantine_leaves_its_maps_behind(config: ProtectConfig) -> None:
    release = run(config).release
    assert (release / "photo1.mask.png").is_file()
    (config.images / "photo1.png").write_bytes(b"no photo")
    result = run(config)
    assert [record.source for record in result.quarantine] == ["photo1.png"]
    assert not {"photo1.png", "photo1.mask.png"} & files_of(release)
    assert (release / SHARED).is_file()
    assert inspected(config) == ()


def test_a_photo_that_is_its_own_map_is_not_released_as_one(config: ProtectConfig) -> None:
    shutil.copyfile(config.images / "photo1.mask.png", config.images / "photo1.png")
    result = run(config)
    (left,) = result.quarantine
    assert (left.source, "is the photo itself" in left.reason) == ("photo1.png", True)
    assert not {"photo1.png", "photo1.mask.png"} & files_of(config.release)


def test_what_a_killed_run_left_is_removed(config: ProtectConfig) -> None:
    release = run(config).release
    rows = config.labels.read_text().splitlines()
    config.labels.write_text("\n".join([*rows[:2], *rows[3:]]) + "\n")
    write_planned(release, ["maps/left.npy", "photo1.mask.png"])
    (release / "maps/left.npy").write_bytes(b"half a map")
    run(config)
    assert not {"maps/left.npy", "photo1.mask.png", "photo1.png"} & files_of(release)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda path: path.unlink(), "photo1.mask.png: missing in the release"),
        (lambda path: path.write_bytes(b"else"), "photo1.mask.png: its bytes are not those of the manifest"),
    ],
)
def test_inspection_and_audit_find_a_harmed_map(config: ProtectConfig, harm: Any, expected: str) -> None:  # noqa: ANN401
    harm(run(config).release / "photo1.mask.png")
    assert any(expected in fault for fault in inspected(config))
    assert any(expected in fault for fault in audited(config))


def test_another_mask_among_the_images_of_a_release_is_found(config: ProtectConfig) -> None:
    release = run(config).release
    (release / "maps/more.png").write_bytes((release / "photo1.mask.png").read_bytes())
    assert any("maps/more.png: not in the manifest" in fault for fault in inspected(config))
    assert any("maps/more.png: not in the manifest" in fault for fault in audited(config))


def test_a_bad_map_is_reported_before_anything_is_written(config: ProtectConfig) -> None:
    (config.images / "photo1.mask.png").write_bytes(b"no mask")
    with pytest.raises(InputError) as caught:
        run(config)
    assert "row 3: column 'mask': 'photo1.mask.png' is not a supported image" in caught.value.faults[0]
    assert not config.release.exists()


def dense_weights(path: Path) -> Path:
    """A checkpoint whose card knows dense tasks; its weights are not built here."""
    write_checkpoint(path)
    known = (*TASKS, Task("mask", TaskKind.SEGMENTATION, numbered_classes(5)), Task("far", TaskKind.DEPTH, ()))
    generator = PerturbationGenerator(GeneratorConfig(**SHAPE), TASKS)
    save_checkpoint(path, generator, replace(read_card(path), tasks=TaskSet(known)))
    return path


def test_the_generator_is_given_the_maps_in_its_size(config: ProtectConfig, tmp_path: Path) -> None:
    weights = dense_weights(tmp_path / "dense.safetensors")
    plan = planned(config, weights=str(weights), exclude=["round"])
    assert plan.tasks.names == ("colour", "mask", "far")
    given: list[Labels] = []
    records: dict[int, Record] = {}

    def perturb(squares: Sequence[npt.NDArray[np.uint8]], labels: Labels) -> list[npt.NDArray[np.float32]]:
        given.append(labels)
        return [DELTA for _ in squares]

    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(1) as disk:
        pipeline = Pipeline(PhotoSteps(plan, config.images), perturb, pool, disk, 2, 7, records.__setitem__)
        pipeline.run(range(7))
    (labels,) = given
    assert labels.keys() == {"colour", "mask", "far"}
    assert [np.shape(value) for value in labels["mask"]] == [(16, 16)] * 7
    assert (np.asarray(labels["mask"])[5] == -1).all()
    assert np.unique(np.asarray(labels["mask"])[:5]).tolist() == [0, 1, 2]
    assert np.asarray(labels["far"]).shape == (7, 1, 16, 16)
    assert np.unique(np.asarray(labels["far"])[1:]).tolist() == [3.0]
    assert (np.asarray(labels["far"])[0] == 0).all()
    record = records[1]
    assert isinstance(record, FileRecord)
    assert record.labels == {"colour": "green", "mask": "photo1.mask.png", "far": SHARED}


def test_a_column_that_the_weights_do_not_know_may_be_left_out(config: ProtectConfig) -> None:
    everything = planned(config).tasks.names
    assert planned(config, exclude=["far", "round"]).tasks.names == tuple(
        name for name in everything if name != "round"
    )
    with pytest.raises(InputError, match="no task 'nowhere'"):
        planned(config, exclude=["nowhere"])
    with pytest.raises(InputError, match="no task 'far'"):
        planned(config, tasks=["far"])


def test_a_mask_that_changes_while_its_image_is_protected_keeps_both_out(config: ProtectConfig) -> None:
    plan = planned(config)
    steps = PhotoSteps(plan, config.images)
    content = steps.read(1)
    assert isinstance(content, bytes)
    prepared = steps.prepare(1, content)
    assert isinstance(prepared, Prepared)
    Image.fromarray(np.ones((25, 24), dtype=np.uint8)).save(config.images / "photo1.mask.png")
    encoded = steps.encode(prepared, DELTA)
    assert isinstance(encoded, Encoded)
    (record,) = steps.write([encoded])
    assert isinstance(record, QuarantineRecord)
    assert record.status == "quarantined"
    assert record.reason == "its map 'photo1.mask.png' changed while the image was protected"
    assert "photo1.png" not in files_of(plan.release.folder)


@pytest.mark.parametrize("image_format", ImageFormat)
def test_the_folders_of_nyuv2_are_released_as_folders_of_arrays(image_format: ImageFormat, tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "rooms"
    for name in ("image", "label", "depth", "normal"):
        (folder / name).mkdir(parents=True)
    kinds = [np.float32, np.float64, np.float16, np.uint8]
    for index, kind in enumerate(kinds):
        pixels = rng.random((30, 40, 3)) if kind is not np.uint8 else rng.integers(0, 256, (30, 40, 3))
        pixels = np.moveaxis(pixels, 2, 0) if index == 1 else pixels
        np.save(folder / f"image/{index}.npy", pixels.astype(kind))
        np.save(folder / f"label/{index}.npy", rng.integers(-1, 3, (30, 40)))
        np.save(folder / f"depth/{index}.npy", rng.random((30, 40, 1)))
        np.save(folder / f"normal/{index}.npy", np.tile([0.0, 0.6, 0.8], (30, 40, 1)))
    only = TaskSet((Task("segmentation", TaskKind.SEGMENTATION, numbered_classes(3)),))
    weights = tmp_path / "weights.safetensors"
    write_checkpoint(weights)
    generator = PerturbationGenerator(GeneratorConfig(**SHAPE), TASKS)
    save_checkpoint(weights, generator, replace(read_card(weights), tasks=only))
    reading = LabelOptions(LabelFormat.NYUV2)
    config = ProtectConfig(
        folder, folder, reading=reading, weights=str(weights), device="cpu", image_format=image_format
    )
    plan = planned(config)
    steps, delta = PhotoSteps(plan, folder), rng.normal(0, 9, (3, 16, 16)).astype(np.float32)
    for row, kind in enumerate(kinds):
        content = steps.read(row)
        assert isinstance(content, bytes)
        prepared = steps.prepare(row, content)
        assert isinstance(prepared, Prepared)
        encoded = steps.encode(prepared, delta)
        assert isinstance(encoded, Encoded), encoded
        (record,) = steps.write([encoded])
        assert isinstance(record, FileRecord), record
        assert record.file_name == f"image/{row}.npy"
        before, after = (np.load(root / record.file_name) for root in (folder, plan.release.folder))
        assert (after.shape, after.dtype) == (before.shape, np.dtype(kind))
        levels = 1 if kind is np.uint8 else 255
        change = np.abs(after.astype(np.float64) - before.astype(np.float64))
        assert levels * change.max() > 7
        assert change.max() <= (8 if kind is np.uint8 else 8 / 255)
        assert record.max_change == pytest.approx(levels * change.max(), abs=1e-6)
        assert record.max_change <= 8
        assert measure_change(before, after).largest == record.max_change
        assert {"label", "depth", "normal"} == {name.split("/")[0] for name in record.maps}


def test_nothing_of_the_decoders_reaches_the_terminal(config: ProtectConfig, capfd: pytest.CaptureFixture[str]) -> None:
    mask = config.images / "photo2.mask.png"
    mask.write_bytes(mask.read_bytes()[:50])
    Image.new("L", (24, 25)).save(config.images / "photo1.tif", compression="tiff_lzw")
    torn = (config.images / "photo1.tif").read_bytes()
    (config.images / "photo1.tif").write_bytes(torn.replace(torn[8:20], b"\xff" * 12))
    config.labels.write_text(config.labels.read_text().replace("photo1.mask.png", "photo1.tif"))
    with reading_photos(), pytest.raises(InputError):
        run(
            config,
            reading=replace(READING, declarations=parse_declarations(["mask=segmentation", "far=depth:scale=1"])),
        )
    assert capfd.readouterr() == ("", "")


def test_the_limit_of_photos_is_that_of_maps(config: ProtectConfig) -> None:
    with limited_to(Budget(max_pixels=15)), pytest.raises(InputError) as caught:
        run(config)
    assert any("the limit is 15" in fault for fault in caught.value.faults)


@pytest.fixture
def turned(config: ProtectConfig) -> ProtectConfig:
    """The photos with EXIF orientations, and their masks as the pixels are stored."""
    rows = list(csv.DictReader(config.labels.read_text().splitlines()))
    for index, row in enumerate(rows):
        exif = Image.Exif()
        exif[0x0112] = (3, 6, 1)[index % 3]
        name = row["file_name"]
        with Image.open(config.images / name) as photo:
            photo.convert("RGB").save(config.images / name, exif=exif)
            if row["mask"]:
                mask = (np.arange(photo.width * photo.height) % 3).reshape(photo.height, photo.width)
                Image.fromarray(mask.astype(np.uint8)).save(config.images / row["mask"])
        row["far"] = ""
    with config.labels.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return config


def test_maps_of_turned_photos_are_released_upright_and_checked(turned: ProtectConfig) -> None:
    result = run(turned)
    release, table = result.release, read_folder_labels(turned.images, turned.labels, READING, for_learning=False).table
    assert result.turned_maps == len(table.turns) > 2
    assert "turned upright with their photos (EXIF)" in result.rows()["masks and maps"]
    for record in read_manifest(release).files:
        (name,) = record.maps or (None,)
        if name is None:
            continue
        with Image.open(release / record.file_name) as photo, Image.open(release / name) as mask:
            assert photo.size == mask.size
            with Image.open(turned.images / record.source) as original, Image.open(turned.images / name) as before:
                turn = TURNS.get(original.getexif().get(0x0112, 1))
                upright = before if turn is None else before.transpose(turn)
                assert np.array_equal(np.asarray(mask), np.asarray(upright))
        assert np.array_equal(
            row_maps(table, table.tasks.subset(["mask"]), table.file_names.index(record.source), 9)["mask"],
            to_size(read_target(release / name, table.tasks["mask"]), table.tasks["mask"], 9),
        )
    assert audited(turned) == inspected(turned) == ()
    assert run(turned).protected == 0
    name = next(iter(table.turns))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(turned.images / name)
    assert any(f"other bytes of {name}" in fault for fault in audited(turned))


def test_maps_without_a_row_are_not_released_as_images(config: ProtectConfig) -> None:
    lines = config.labels.read_text().splitlines()
    lines[2] = ",".join([*lines[2].split(",")[:-2], "", ""])  # photo1.mask.png stays in the folder
    config.labels.write_text("\n".join(lines) + "\n")
    release = run(config, unlabelled=Unlabelled.PROTECT).release
    assert "photo1.mask.png" not in files_of(release)
    assert not any("photo1.mask" in record.file_name for record in read_manifest(release).files)
