"""Tasks of images and of pixels together, from files: train, protect, verify."""

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from mtlue_cli.choices import BackboneName, MetricName, ObjectiveName
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import load_checkpoint, read_card, save_checkpoint
from mtlue_cli.generator.codebook import CODE_VERSION
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.tiles import class_tints
from mtlue_cli.images.decode import decode_image
from mtlue_cli.keys import VARIABLE
from mtlue_cli.release.records import read_manifest, read_run
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.label_tensors import DEPTH_CODES, class_shares
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from mtlue_cli.workflows.trace.config import ProbesConfig
from mtlue_cli.workflows.trace.probes import make_probes
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.train.generator import train_generator
from mtlue_cli.workflows.train.start import read_start
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.run import verify_release
from tests.dense_sample import TASKS, draw_scenes
from tests.generator.test_checkpoint import make_card

pytestmark = pytest.mark.usefixtures("tiny_small")

COUNT, SIDE = 32, 40
READING = LabelOptions(declarations=parse_declarations(["depth=depth:scale=0.001", "normals=normals"]))


def write_scenes(folder: Path, seed: int = 0) -> Path:
    """Images, masks (255: not labelled), depths in millimetres and arrays of normals; the path of their labels."""
    images, labels = draw_scenes(COUNT, SIDE, seed)
    (folder / "maps").mkdir(parents=True)
    rows: list[list[str]] = []
    for row in range(COUNT):
        Image.fromarray(images[row].permute(1, 2, 0).numpy()).save(folder / f"{row:02}.png")
        mask = labels["parts"][row].numpy()
        Image.fromarray(np.where(mask < 0, 255, mask).astype(np.uint8)).save(folder / f"maps/{row:02}-parts.png")
        depth = (1000 * labels["depth"][row, 0]).round().numpy().astype(np.uint16)
        np.save(folder / f"maps/{row:02}-depth.npy", depth)
        np.save(folder / f"maps/{row:02}-normals.npy", labels["normals"][row].numpy())
        maps = [f"maps/{row:02}-{name}" for name in ("parts.png", "depth.npy", "normals.npy")]
        rows.append([f"{row:02}.png", str(int(labels["bright"][row])), *maps])
    rows[3][2] = ""  # an image whose mask is missing
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file_name", *TASKS.names], *rows])
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dense") / "scenes"
    write_scenes(target)
    return target


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    out = folder.parent / "scenes.safetensors"
    config = TrainConfig(
        images=folder,
        labels=folder / "labels.csv",
        out=out,
        reading=READING,
        objective=ObjectiveName.TAP,
        size=32,
        epochs=2,
        surrogate_epochs=1,
        batch_size=16,
        device="cpu",
    )
    train_generator(config, SilentProgress())
    return out


def protect(folder: Path, weights: Path, out: Path, left_out: tuple[str, ...] = (), **changes: object) -> Path:
    config = ProtectConfig(folder, folder / "labels.csv", out, READING, weights=str(weights), device="cpu")
    result = protect_folder(replace(config, **changes), SilentProgress())  # type: ignore[arg-type]  # any field
    assert [record.source for record in result.quarantine] == list(left_out)
    return result.release


def pixels(folder: Path) -> list[npt.NDArray[np.int16]]:
    return [decode_image(folder / f"{row:02}.png").pixels.astype(np.int16) for row in range(COUNT)]


def test_a_checkpoint_knows_kinds_and_span(weights: Path) -> None:
    card = read_card(weights)
    assert [task.kind for task in card.tasks] == [task.kind for task in TASKS]
    span = card.tasks["depth"].span
    assert span is not None
    assert 1.4 < span[0] < span[1] < 5.1
    assert load_checkpoint(weights).card.tasks == card.tasks


def test_a_release_keeps_the_bound_and_tells_maps_apart(folder: Path, weights: Path, tmp_path: Path) -> None:
    released = pixels(protect(folder, weights, tmp_path / "release"))
    change = [after - before for after, before in zip(released, pixels(folder), strict=True)]
    assert 0 < max(int(np.abs(one).max()) for one in change) <= 8
    assert all(np.abs(one).mean() > 1 for one in change)


def test_weights_for_any_labels_tint_masks_beside_one_label(folder: Path, tmp_path: Path) -> None:
    """Such a release cannot be traced, and says so."""
    clean = tmp_path / "clean"
    clean.mkdir()
    for row in range(4):
        shutil.copy(folder / f"{row:02}.png", clean)
    shape = GeneratorConfig(image_size=SIDE)
    card = replace(make_card(), tasks=TaskSet(()), universal=True, image_size=SIDE, generator=asdict(shape))
    save_checkpoint(tmp_path / "any.safetensors", PerturbationGenerator(shape, None), card)
    (tmp_path / "key").write_text("abba" * 16)
    (tmp_path / "key").chmod(0o600)
    key = tmp_path / "key"
    probes = ProbesConfig(
        clean, tmp_path / "bright", tmp_path / "probes", queries=8, key=key, weights=tmp_path / "any.safetensors"
    )
    released = pixels(protect(folder, tmp_path / "any.safetensors", tmp_path / "release", key=key))
    images, labels = draw_scenes(COUNT, SIDE)
    parts = labels["parts"].numpy()
    tinted = class_tints(class_shares(labels, TASKS.subset(["parts"]))[0])[:, 1] > 0
    assert sorted(tinted.tolist()) == [False, True, True]
    for row in range(COUNT):
        change = released[row] - images[row].permute(1, 2, 0).numpy().astype(np.int16)
        painted = tinted.numpy()[parts[row]] & (parts[row] >= 0)
        if row == 3:  # its mask is missing: the code of its other label
            assert np.abs(change).mean() > 2
            continue
        assert not change[~painted].any()
        assert (change[painted] * np.array([-1, 1, -1])).min() >= 5
    lost = tmp_path / "release" / "07.png"
    before = lost.read_bytes()
    lost.unlink()
    protect(folder, tmp_path / "any.safetensors", tmp_path / "release", key=key)
    assert lost.read_bytes() == before
    noted = read_run(tmp_path / "release")
    assert (noted.code_version, noted.code_cells) == (CODE_VERSION, shape.pattern_grid)
    # Masks alone take no codes: another construction of these changes nothing.
    masks = protect(folder, tmp_path / "any.safetensors", tmp_path / "masks", ("03.png",), key=key, tasks=("parts",))
    noted = read_run(masks)
    assert (noted.code_version, noted.code_cells) == (0, 0)
    for release in (tmp_path / "release", masks):
        with pytest.raises(InputError, match="protects masks or maps: 'parts'"):
            make_probes(replace(probes, release=release), SilentProgress())
    # Masks that are only copied are no obstacle.
    image_level = protect(folder, tmp_path / "any.safetensors", probes.release, key=key, tasks=("bright",))
    assert any(record.maps for record in read_manifest(image_level).files)
    assert make_probes(probes, SilentProgress()).tasks == ["bright"]


def test_training_with_maps_begins_with_weights_for_any_labels_or_with_others(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "abba" * 16)
    shape = GeneratorConfig()
    card = replace(make_card(), tasks=TaskSet(()), universal=True, image_size=shape.image_size, generator=asdict(shape))
    save_checkpoint(tmp_path / "any.safetensors", PerturbationGenerator(shape, None), card)
    table = LabelTable(("a.png",), {"bright": np.zeros(1, dtype=np.int64)}, load_checkpoint(weights).card.tasks)
    priors = [[1 / count] * count for count in (2, 3, DEPTH_CODES, 6)]
    for start, same in ((tmp_path / "any.safetensors", False), (weights, True)):
        begun = read_start(str(start), None, table)
        made = begun.generator(table.tasks, epsilon=8, image_size=32, seed=5, priors=priors, gain=0.5)
        known = load_checkpoint(weights).generator
        for name in ("parts", "depth", "normals"):
            tiles = [one.dense_embeddings.of_task(name).see.weight for one in (made, known)]
            assert torch.equal(*tiles) is same
        maps = [one.label_embedding.of_task("bright") for one in (made, begun.loaded.generator)]
        assert torch.equal(*maps)


@pytest.mark.parametrize("left_out", ["parts", "depth"])
def test_a_task_left_out_leaves_no_trace_of_its_maps(
    folder: Path, weights: Path, tmp_path: Path, left_out: str
) -> None:
    """The same images with the maps of other images in this column give the same files, to the pixel."""
    other = tmp_path / "other"
    write_scenes(other)
    header, *rows = csv.reader((other / "labels.csv").read_text().splitlines())
    column = header.index(left_out)
    swapped = [[*row[:column], rows[-1 - index][column], *row[column + 1 :]] for index, row in enumerate(rows)]
    with (other / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *swapped])
    own = protect(folder, weights, tmp_path / "own", exclude=(left_out,))
    theirs = protect(other, weights, tmp_path / "theirs", exclude=(left_out,))
    assert all(np.array_equal(one, two) for one, two in zip(pixels(own), pixels(theirs), strict=True))
    seen = protect(other, weights, tmp_path / "seen")
    assert not all(np.array_equal(one, two) for one, two in zip(pixels(own), pixels(seen), strict=True))


def verification(folder: Path, **changes: Any) -> VerifyConfig:  # noqa: ANN401 - any field
    """Short victims of the scenes in ``folder``."""
    return VerifyConfig(
        clean=folder,
        labels=folder / "labels.csv",
        reading=READING,
        backbones=(BackboneName.SMALL,),
        size=32,
        epochs=1,
        batch_size=8,
        device="cpu",
        cache=None,
        **changes,
    )


def test_a_release_with_maps_is_verified(folder: Path, weights: Path, tmp_path: Path) -> None:
    release = protect(folder, weights, tmp_path / "release")
    config = verification(folder, protected=release)
    result = verify_release(config, SilentProgress())
    assert result.audit is not None
    assert result.audit.faults == ()
    document = result.to_json()
    json.dumps(document, allow_nan=False)
    metrics = {task["task"]: task["metric"] for task in document["conditions"][0]["tasks"]}
    assert metrics == {
        "bright": MetricName.ACCURACY,
        "parts": "miou",
        "depth": "absolute_error",
        "normals": "mean_angle",
    }
    depth = document["conditions"][0]["tasks"][2]
    assert 0.2 < depth["floor"] < 2  # in metres, though the files hold millimetres


def test_pairs_of_the_owners_service_have_no_maps(folder: Path, weights: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "other", seed=5)
    shutil.rmtree(tmp_path / "other" / "maps")
    config = verification(
        folder,
        weights=str(weights),
        attacker_images=tmp_path / "other",
        countermeasures=("pair-purification:steps=2,pairs=8",),
        control=False,
        probes=False,
    )
    result = verify_release(config, SilentProgress())
    assert "the owner protected 8 images for the attacker, as a service" in result.notes


def test_test_maps_without_a_label_are_refused_before_training(folder: Path, weights: Path, tmp_path: Path) -> None:
    labels = write_scenes(tmp_path / "test", seed=5)
    for mask in (tmp_path / "test" / "maps").glob("*-parts.png"):
        pixels = np.asarray(Image.open(mask))
        Image.fromarray(np.full_like(pixels, 255)).save(mask)
    config = verification(folder, weights=str(weights), test=tmp_path / "test", test_labels=labels)
    with pytest.raises(InputError, match="'parts' has no labelled pixel"):
        verify_release(config, SilentProgress())
