"""Probes, sealed answers and commitment."""

import hashlib
import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.files import write_atomically
from mtlue_cli.keys import VARIABLE
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from mtlue_cli.workflows.trace.probes import make_probes
from mtlue_cli.workflows.trace.sealed import COMMITMENT, TEMPLATE, opened, sealed_path
from tests.small_set import write_checkpoint
from tests.workflows.trace.linear_victim import CLASSES, Traced, make_release

SEED = "12" * 32


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return make_release(tmp_path_factory.mktemp("trace"))


def test_each_image_of_a_stage_has_every_arm_and_the_same_classes(traced: Traced) -> None:
    result = traced.probes("arms")
    sealed, _ = opened(traced.folder / "arms")
    assert result.count == len(sealed.probes) == result.stages * result.arms * result.images
    for stage in range(sealed.stages):
        by_arm = [
            sorted(
                (probe.image, probe.epsilon, sorted(probe.classes.items()))
                for probe in sealed.probes
                if (probe.stage, probe.arm) == cell
            )
            for cell in ((stage, arm) for arm in range(sealed.arms))
        ]
        assert all(own == by_arm[0] for own in by_arm)
        assert len(by_arm[0]) == sealed.images


def test_a_probe_differs_from_its_image_by_no_more_than_the_bound(traced: Traced) -> None:
    traced.probes("bound", 24)
    sealed, _ = opened(traced.folder / "bound")
    for probe in sealed.probes:
        clean = np.asarray(Image.open(traced.clean / probe.image)).astype(int)
        shown = np.asarray(Image.open(traced.folder / "bound" / probe.file)).astype(int)
        assert 0 < abs(shown - clean).max() <= probe.epsilon <= sealed.epsilon == 16


def test_names_order_and_times_say_nothing(traced: Traced) -> None:
    traced.probes("names")
    folder = traced.folder / "names"
    sealed, _ = opened(folder)
    assert {path.name for path in folder.iterdir()} == {probe.file for probe in sealed.probes} | {COMMITMENT, TEMPLATE}
    assert len({(folder / probe.file).stat().st_mtime for probe in sealed.probes}) == 1
    shutil.make_archive(str(traced.folder / "names"), "zip", folder)  # which refuses times before 1980
    arms = [probe.arm for probe in sorted(sealed.probes, key=lambda probe: probe.file)]
    assert arms != sorted(arms)
    reported = (folder / COMMITMENT).read_text() + (folder / TEMPLATE).read_text()
    assert "arm" not in reported
    assert sealed.seed not in reported


def test_the_sealed_answers_are_private_and_beside_the_folder(traced: Traced) -> None:
    result = traced.probes("private", 24)
    path = sealed_path(traced.folder / "private")
    assert result.sealed == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "0123456789abcdef" * 4 not in path.read_text()  # the key
    commitment = json.loads((traced.folder / "private" / COMMITMENT).read_text())
    assert commitment["sealed_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_seed_makes_the_same_probes_again_and_others_others(traced: Traced) -> None:
    traced.probes("first", 24, SEED)
    traced.probes("second", 24, SEED)
    traced.probes("third", 24)
    first, second, third = (opened(traced.folder / name)[0] for name in ("first", "second", "third"))
    assert first.probes == second.probes
    assert first.seed == SEED != third.seed
    assert {probe.sha256 for probe in first.probes}.isdisjoint(probe.sha256 for probe in third.probes)


@pytest.mark.parametrize("place", ["release/probes", "clean/probes", "first-there", "sealed-there"])
def test_nothing_is_overwritten_and_nothing_lands_among_images(traced: Traced, place: str) -> None:
    target = traced.folder / place
    if place == "first-there":
        target.mkdir(exist_ok=True)
        (target / "mine.txt").write_text("keep")
    if place == "sealed-there":
        sealed_path(target).write_text("keep")
    before = set(traced.folder.rglob("*"))
    with pytest.raises(InputError):
        traced.probes(place)
    assert set(traced.folder.rglob("*")) == before


def test_a_run_that_fails_leaves_nothing(traced: Traced, tmp_path: Path) -> None:
    grey = tmp_path / "grey"
    grey.mkdir()
    Image.new("L", (24, 24), 90).save(grey / "grey.png")
    with pytest.raises(InputError, match="too few images") as found:
        make_probes(replace(traced.config("failing"), images=grey), SilentProgress())
    assert any("grey.png" in fault for fault in found.value.faults)
    assert not (traced.folder / "failing").exists()
    assert not sealed_path(traced.folder / "failing").exists()


def test_another_key_and_other_weights_are_refused(traced: Traced, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("fedcba9876543210" * 4)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match="is not that of"):
        make_probes(replace(traced.config("x"), key=tmp_path / "key"), SilentProgress())
    other = write_checkpoint(tmp_path / "other.safetensors", None, seed=5)
    with pytest.raises(InputError, match="holds other weights"):
        make_probes(replace(traced.config("x"), weights=other), SilentProgress())
    with pytest.raises(InputError, match="seed"):
        traced.probes("x", seed="12")
    with pytest.raises(InputError, match="is the release"):
        make_probes(replace(traced.config("x"), images=traced.release), SilentProgress())


def test_no_key_is_made_for_probes(traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match="no key was given") as found:
        make_probes(replace(traced.config("x"), key=None), SilentProgress())
    assert "--key FILE" in str(found.value.hint)
    assert not (tmp_path / "config").exists()


def test_a_release_without_a_key_cannot_be_traced(traced: Traced, tmp_path: Path) -> None:
    tasks = (Task(name, TaskKind.CATEGORICAL, classes) for name, classes in CLASSES.items())
    weights = write_checkpoint(tmp_path / "learned.safetensors", TaskSet(tuple(tasks)))
    photos = traced.folder / "photos"
    protect_folder(
        ProtectConfig(photos, photos / "labels.csv", out=tmp_path / "out", weights=str(weights), device="cpu"),
        SilentProgress(),
    )
    with pytest.raises(InputError, match="take no key") as found:
        make_probes(replace(traced.config("x"), release=tmp_path / "out"), SilentProgress())
    assert "--quick" in str(found.value.hint)


def change_text(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    write_atomically(path, text.replace(before, after, 1).encode(), private=True)


def test_changed_sealed_answers_are_found(traced: Traced) -> None:
    traced.probes("sealed-changed", 24)
    change_text(sealed_path(traced.folder / "sealed-changed"), '"arm": 0', '"arm": 1')
    with pytest.raises(InputError, match="commits to"):
        opened(traced.folder / "sealed-changed")


def test_a_changed_commitment_is_found(traced: Traced) -> None:
    traced.probes("commitment-changed", 24)
    sealed, _ = opened(traced.folder / "commitment-changed")
    change_text(traced.folder / "commitment-changed" / COMMITMENT, sealed.made, "2020-01-01T00:00:00+00:00")
    with pytest.raises(InputError, match="commits to"):
        opened(traced.folder / "commitment-changed")


def test_changed_and_missing_probes_are_found_by_name(traced: Traced) -> None:
    traced.probes("probes-changed", 24)
    sealed, _ = opened(traced.folder / "probes-changed")
    first, second = (traced.folder / "probes-changed" / probe.file for probe in sealed.probes[:2])
    first.write_bytes(first.read_bytes() + b"x")
    second.unlink()
    with pytest.raises(InputError, match="not those that were made") as found:
        opened(traced.folder / "probes-changed")
    assert [fault.split(":")[0] for fault in found.value.faults] == [first.name, second.name]


def test_originals_of_the_release_among_the_images_are_counted(traced: Traced) -> None:
    mixed = shutil.copytree(traced.clean, traced.folder / "mixed")
    for number in range(40):
        shutil.copy(traced.folder / "photos" / f"{number:03}.png", mixed / f"seen-{number:03}.png")
    alone = make_probes(replace(traced.config("alone", 24), images=traced.folder / "photos"), SilentProgress())
    used = {probe.image for probe in opened(traced.folder / "alone")[0].probes}
    assert f"{len(used)} of {len(used)} images of the probes are originals of the release" in alone.notes[-1]
    made = make_probes(replace(traced.config("of-mixed", seed=SEED), images=mixed), SilentProgress())
    used = {probe.image for probe in opened(traced.folder / "of-mixed")[0].probes}
    seen = sum(name.startswith("seen-") for name in used)
    assert seen
    assert any(line.startswith(f"{seen} of {len(used)} images of the probes are originals") for line in made.notes)
    assert not any("originals" in line for line in traced.probes("unseen", 24).notes)
