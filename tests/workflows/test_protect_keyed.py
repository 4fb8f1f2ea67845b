"""Keyed weights: any columns, one release a key, and a key that is noted by its fingerprint alone."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from msgspec import structs
from PIL import Image

from mtlue_cli.choices import ExitCode, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.generator import shipped
from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.codebook import CODE_VERSION
from mtlue_cli.images.folder import find_images
from mtlue_cli.keys import VARIABLE, Key, own_key_path
from mtlue_cli.release.records import RunRecord, read_manifest, read_run, write_run
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.protect_runs import Notes
from tests.small_set import write_checkpoint, write_images

DIGITS, OTHER = "abba" * 16, "cddc" * 16
FINGERPRINT = "319941f44632fdb6"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    write_checkpoint(tmp_path / "weights" / "default.safetensors", None)
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(VARIABLE, DIGITS)
    return ProtectConfig(tmp_path / "photos", labels, device="cpu")


def run(config: ProtectConfig, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field of the config
    return protect_folder(replace(config, **changes), SilentProgress())


def pictures(release: Path) -> dict[str, bytes]:
    return {name: (release / name).read_bytes() for name in find_images(release)}


def change(release: Path, config: ProtectConfig) -> npt.NDArray[np.float64]:
    """What was added to all images, in a row."""
    parts = []
    for record in read_manifest(release).files:
        with Image.open(release / record.file_name) as saved, Image.open(config.images / record.source) as original:
            parts.append(np.asarray(saved.convert("RGB"), float) - np.asarray(original.convert("RGB"), float))
    return np.concatenate([part.ravel() for part in parts])


def edit(path: Path, changed: Callable[[list[str]], list[str]]) -> None:
    rows = [changed(row) for row in csv.reader(path.read_text().splitlines())]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_the_same_key_gives_the_same_release_and_another_an_unrelated_one(
    config: ProtectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(config, out=tmp_path / "first")
    again = run(config, out=tmp_path / "again")
    assert (first.weights, first.tasks, first.exit_code) == ("default", ("colour", "round"), ExitCode.SUCCESS)
    assert first.max_change is not None
    assert 4 < first.max_change <= 8
    assert pictures(first.release) == pictures(again.release)
    one, alike = change(first.release, config), []
    for number in range(8):  # codes have six dimensions here: a single other key may be near by chance
        monkeypatch.setenv(VARIABLE, f"{number + 1:064x}")
        two = change(run(config, out=tmp_path / str(number)).release, config)
        alike.append(float(np.corrcoef(one, two)[0, 1]))
    assert abs(np.mean(alike)) < 0.3
    assert max(alike) < 0.9


def test_only_the_fingerprint_is_recorded_and_inspection_shows_it(config: ProtectConfig) -> None:
    result = run(config)
    record = read_run(result.release)
    assert record.key_fingerprint == result.key_fingerprint == FINGERPRINT
    written = [path.read_bytes() for path in result.release.rglob("*") if path.is_file()]
    assert not any(DIGITS[:16].encode() in content for content in written)
    assert DIGITS[:16] not in json.dumps(result.to_json())
    report = inspect_release(result.release, SilentProgress(), config.images, 2)
    assert report.faults == ()
    assert report.to_json()["codes"] == {"version": CODE_VERSION, "cells": 3}
    assert report.to_json()["key_fingerprint"] == FINGERPRINT


def test_a_release_continues_under_its_own_key_alone(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    release = run(config).release
    before = pictures(release)
    monkeypatch.setenv(VARIABLE, OTHER)
    with pytest.raises(InputError, match="other settings") as caught:
        run(config)
    assert any(fault.startswith("key: ") and FINGERPRINT in fault for fault in caught.value.faults)
    assert pictures(release) == before
    assert run(config, overwrite=True).protected == len(before)
    assert pictures(release) != before
    monkeypatch.setenv(VARIABLE, DIGITS)
    assert run(config, overwrite=True).protected == len(before)
    assert pictures(release) == before
    assert run(config).kept == len(before)


def test_without_a_key_one_is_made_once_and_named(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    notes, later = Notes(), Notes()
    first = protect_folder(config, notes)
    path = own_key_path({"XDG_CONFIG_HOME": str(config.images.parent / "config")})
    assert any(str(path) in line and str(first.key_fingerprint) in line for line in notes.lines)
    assert any("keep it to yourself" in line for line in notes.lines)
    again = protect_folder(replace(config, out=config.images.parent / "again"), later)
    assert pictures(again.release) == pictures(first.release)
    assert not any("keep it to yourself" in line for line in later.lines)


def patterns(record: RunRecord, config: ProtectConfig) -> npt.NDArray[np.float64]:
    """What is drawn of each class of the first column, by the record of a release."""
    tasks = TaskSet(tuple(Task(name, TaskKind.CATEGORICAL, tuple(own)) for name, own in record.classes.items()))
    loaded = load_checkpoint(config.images.parent / "weights" / "default.safetensors")
    bound = loaded.bound(Key(bytes.fromhex(DIGITS)), tasks, record.shares, record.code_cells)
    found: npt.NDArray[np.float64] = bound.generator.codes.patterns[: len(tasks[tasks.names[0]].classes), 1].numpy()
    return found


@pytest.mark.parametrize("added", [("amber",), ("amber", "black", "cyan")])
def test_a_class_that_is_added_leaves_the_codes_of_the_others(config: ProtectConfig, added: tuple[str, ...]) -> None:
    """Also where so many classes would ask for finer patterns by themselves."""
    config = replace(config, tasks=("colour",))
    release = run(config).release
    before, first = pictures(release), read_run(release)
    assert (first.classes["colour"], first.code_cells) == (["blue", "green", "red"], 3)
    new = dict(zip(("photo1.png", "photo5.png", "sub/photo6.jpg"), added, strict=False))
    edit(config.labels, lambda row: [row[0], new.get(row[0], row[1]), *row[2:]])
    result, second = run(config), read_run(release)
    assert second.classes["colour"] == ["blue", "green", "red", *added]
    assert (result.protected, result.kept) == (len(added), len(before) - len(added))
    after = pictures(release)
    assert {name for name in before if before[name] != after[name]} == {
        str(Path(name).with_suffix(".png")) for name in new
    }
    assert second.code_cells == first.code_cells
    old, now = patterns(first, config), patterns(second, config)
    rarest = int(np.argmin(first.shares["colour"]))
    apart = [own[(rarest + 1) % 3] - own[(rarest + 2) % 3] for own in (old, now)]
    np.testing.assert_allclose(apart[1] / np.linalg.norm(apart[1]), apart[0] / np.linalg.norm(apart[0]), atol=1e-5)
    wider = replace(config, out=config.images.parent / "anew")
    assert read_run(run(wider).release).code_cells == (3 if len(added) == 1 else 5)


def test_files_that_are_added_are_protected_by_the_shares_of_the_first(config: ProtectConfig, tmp_path: Path) -> None:
    rows = config.labels.read_text().splitlines()
    whole = read_run(run(config, out=tmp_path / "whole").release)
    config.labels.write_text("\n".join(rows[:4]) + "\n")
    release = run(config).release
    first = read_run(release)
    assert set(first.shares) == set(first.tasks)
    assert all(sum(own) == pytest.approx(1) for own in first.shares.values())
    assert first.shares != whole.shares
    config.labels.write_text("\n".join(rows) + "\n")
    assert run(config).protected == len(rows) - 4
    assert read_run(release).shares == first.shares
    # A release that is made anew counts anew.
    run(config, epsilon=4, overwrite=True)
    assert read_run(release).shares == whole.shares


@pytest.mark.parametrize(
    ("version", "age"), [(0, "an older"), (CODE_VERSION - 1, "an older"), (CODE_VERSION + 1, "a newer")]
)
@pytest.mark.parametrize("noted", [True, False])
def test_a_release_with_the_codes_of_another_version_is_not_continued(
    config: ProtectConfig, version: int, age: str, noted: bool
) -> None:
    release = run(config).release
    record, before = read_run(release), pictures(release)
    shares = {name: [1 / len(own)] * len(own) for name, own in record.classes.items()} if noted else {}
    write_run(release, structs.replace(record, code_version=version, code_cells=7, shares=shares))
    with pytest.raises(InputError, match="other settings") as caught:
        run(config)
    assert any(fault.startswith("codes:") and f"{age} version" in fault for fault in caught.value.faults)
    assert run(config, overwrite=True).protected == len(before)
    assert read_run(release) == record


def test_a_class_that_is_added_is_not_the_rarest(config: ProtectConfig) -> None:
    release = run(config).release
    before = read_run(release).shares["colour"]
    edit(config.labels, lambda row: ["photo1.png", "amber", *row[2:]] if row[0] == "photo1.png" else row)
    run(config)
    after = read_run(release).shares["colour"]
    assert np.argmin(after) == np.argmin(before)
    np.testing.assert_allclose(np.divide(after[:3], before), after[0] / before[0])
    assert sum(after) == pytest.approx(1)


def vanish(row: list[str]) -> list[str]:
    """No photo is blue any more."""
    return [row[0], row[1].replace("blue", "red"), *row[2:]]


def appear(row: list[str]) -> list[str]:
    """A class that sorts first."""
    return ["photo1.png", "amber", *row[2:]] if row[0] == "photo1.png" else row


@pytest.mark.parametrize("changed", [vanish, appear])
@pytest.mark.parametrize("epsilon", [None, 4])
def test_overwrite_gives_what_a_new_folder_would_get(
    config: ProtectConfig, tmp_path: Path, changed: Callable[[list[str]], list[str]], epsilon: int | None
) -> None:
    release = run(config).release
    edit(config.labels, changed)
    run(config, epsilon=epsilon, overwrite=True)
    fresh = run(config, epsilon=epsilon, out=tmp_path / "fresh").release
    assert read_run(release) == read_run(fresh)
    assert pictures(release) == pictures(fresh)
    again = run(config, epsilon=epsilon, overwrite=True)
    assert (again.protected, again.kept) == (0, len(pictures(fresh)))


def test_columns_without_classes_are_left_out_and_said_so(config: ProtectConfig, tmp_path: Path) -> None:
    def widened(row: list[str]) -> list[str]:
        return [*row, "same" if row[0] == "file_name" else "1"]

    plain = run(config, out=tmp_path / "plain").release
    edit(config.labels, widened)
    notes = Notes()
    result = protect_folder(config, notes)
    assert result.tasks == ("colour", "round")
    assert any(line.startswith("same ") and "there is nothing to learn" in line for line in notes.lines)
    assert pictures(result.release) == pictures(plain)
    with pytest.raises(InputError, match="cannot be protected") as caught:
        run(config, tasks=["same"])
    assert "'same'" in caught.value.faults[0]


def test_part_of_the_columns_can_be_protected(config: ProtectConfig, tmp_path: Path) -> None:
    part = run(config, out=tmp_path / "part", exclude=["round"])
    assert (part.tasks, part.unprotected_tasks) == (("colour",), ("round",))
    edit(config.labels, lambda row: [*row[:2], {"0": "1", "1": "0"}.get(row[2], row[2])])
    assert pictures(run(config, out=tmp_path / "flipped", exclude=["round"]).release) == pictures(part.release)


def test_a_key_for_weights_that_take_none_is_refused(config: ProtectConfig, tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "own.safetensors")
    (tmp_path / "key").write_text(DIGITS)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match="take no key"):
        run(config, weights=str(weights), key=tmp_path / "key")
    assert run(config, weights=str(weights)).key_fingerprint is None
