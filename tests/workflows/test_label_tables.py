"""Whatever the labels are: what is shown is what is then protected, and labels.csv holds every row and value."""

import csv
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from mtlue_cli.choices import Unlabelled
from mtlue_cli.errors import InputError
from mtlue_cli.generator import shipped
from mtlue_cli.keys import VARIABLE
from mtlue_cli.release.records import read_manifest
from mtlue_cli.tasks.labels import read_label_file, released_labels, released_options
from mtlue_cli.tasks.overview import overview_lines
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.own_weights import find_weights
from mtlue_cli.workflows.protect.plan import ProtectPlan, Weights, plan_protection, read_inputs
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint

ROWS = 12
NAMES = [f"photo {row}.png" for row in range(ROWS)]
HEADERS = ("smile", "id", "patient_id", "Unnamed: 0", "width, height", "width", "split", "score", "t=1", "é", "tags")
MISSING = st.sampled_from(("", "  ", "NA"))
KINDS: tuple[st.SearchStrategy[Any], ...] = (
    st.sampled_from(("0", "1")),
    st.sampled_from(("0", "1", "0.0", "True", " false ")),
    st.sampled_from(("a", "b", "c", "A", "no finding")),
    st.sampled_from(("smile|hat", "hat", "smile")),
    st.integers(0, 10**6).map(str),
    st.floats(0, 9).map("{:.2f}".format),
    st.integers(1, 28).map("2020-01-{:02}".format),
    st.integers(0, 99).map("https://example.org/{}".format),
    st.text("abc 12", min_size=1, max_size=30),
)
TYPED: tuple[st.SearchStrategy[Any], ...] = (
    st.booleans(),
    st.sampled_from((0, 1, 2, 1.0)),
    st.sampled_from((0.5, 1.5, math.nan)),
    st.none(),
    st.lists(st.sampled_from(("a", "b")), max_size=2),
)


@st.composite
def tables(draw: st.DrawFn, kinds: tuple[st.SearchStrategy[Any], ...]) -> dict[str, list[Any]]:
    """Columns of :data:`ROWS` cells, each of one kind, with gaps."""
    found = {}
    for name in draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=4, unique=True)):
        kind = draw(st.sampled_from(kinds))
        cell = st.one_of(kind, kind, kind, MISSING) if draw(st.booleans()) else kind
        found[name] = draw(st.lists(cell, min_size=ROWS, max_size=ROWS))
    return found


def documented(cell: Any) -> str | None:  # noqa: ANN401 - whatever a table holds
    """A cell as ``docs/labels.md`` says that it is read."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, list):
        return "|".join(cell) or None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip() or None


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("set") / "photos"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name in NAMES:
        Image.fromarray(rng.integers(90, 160, (4, 4, 3), dtype=np.uint8)).save(folder / name)
    write_checkpoint(folder.parent / "weights" / "default.safetensors", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "weights_folder", lambda: folder.parent / "weights")
        patch.setenv(VARIABLE, "5aa5" * 16)
        yield folder


def planned(folder: Path, labels: Path, **options: Any) -> ProtectPlan:  # noqa: ANN401 - any field of the config
    config = ProtectConfig(folder, labels, out=folder.parent / "release", quick=True, **options)
    inputs = read_inputs(config)
    weights = find_weights(config, inputs, SilentProgress())
    assert isinstance(weights, Weights)
    return plan_protection(config, inputs, weights)


def check(folder: Path, labels: Path, table: dict[str, list[Any]], **options: Any) -> None:  # noqa: ANN401 - likewise
    try:
        plan = planned(folder, labels, **options)
    except InputError as error:
        said = (str(error), *error.faults)
        assert any("can be protected" in line or "several ways" in line or "no task" in line for line in said), said
        return
    shown = overview_lines(plan.columns, "protected")[1 : len(table) + 1]
    assert [use.name for use in plan.columns] == list(table)
    assert {use.name for use in plan.columns if use.used} == set(plan.tasks.names)
    assert [line.endswith("  protected") for line in shown] == [name in plan.tasks for name in table]
    assert all(use.used or use.reason for use in plan.columns)
    released = folder.parent / "labels of the release.csv"
    released.write_bytes(released_labels(plan.labels, dict(enumerate(plan.table.file_names))))
    again = read_label_file(released, released_options("file_name"), for_learning=False)
    assert again.table.file_names == tuple(NAMES)
    for name, cells in table.items():
        assert [again.table.class_name(name, row) for row in range(ROWS)] == [documented(cell) for cell in cells]


QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@QUICK
@given(table=tables(KINDS), data=st.data())
def test_a_table_of_text_is_protected_as_shown(photos: Path, table: dict[str, list[Any]], data: st.DataObject) -> None:
    labels = photos.parent / "labels.csv"
    with labels.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file_name", *table))
        writer.writerows(zip(NAMES, *table.values(), strict=True))
    chosen = data.draw(st.none() | st.lists(st.sampled_from(list(table)), min_size=1, unique=True))
    kind = data.draw(st.sampled_from(("tasks", "exclude")))
    check(photos, labels, table, **({} if chosen is None else {kind: tuple(chosen)}))


@QUICK
@given(table=tables(TYPED))
def test_a_table_of_values_is_protected_as_shown(photos: Path, table: dict[str, list[Any]]) -> None:
    labels = photos.parent / "labels.jsonl"
    rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    assume(all(len(row) == len(table) for row in rows))
    lines = [json.dumps({"file_name": name, **row}) for name, row in zip(NAMES, rows, strict=True)]
    labels.write_text("\n".join(lines), encoding="utf-8")
    check(photos, labels, table)


@settings(QUICK, max_examples=25)
@given(table=tables(KINDS), gaps=st.integers(0, ROWS // 3), draws=st.booleans())
def test_every_row_is_released_with_changed_pixels_or_listed(
    photos: Path, table: dict[str, list[Any]], gaps: int, draws: bool
) -> None:
    table = {**table, "label": ["", "a", "b"] * gaps + ["a", "b"] * ((ROWS - 3 * gaps) // 2) + [""] * (gaps % 2)}
    labels, release = photos.parent / "labels.csv", photos.parent / "released"
    with labels.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file_name", *table))
        writer.writerows(zip(NAMES, *table.values(), strict=True))
    shutil.rmtree(release, ignore_errors=True)
    config = ProtectConfig(
        photos, labels, out=release, quick=True, unlabelled=Unlabelled.PROTECT if draws else Unlabelled.SKIP
    )
    try:
        result = protect_folder(config, SilentProgress())
    except InputError:
        assert not release.exists()
        return
    manifest = read_manifest(release)
    left_out = {record.source for record in result.quarantine}
    assert {record.source for record in manifest.files} | left_out == set(NAMES)
    assert {record.source for record in manifest.files}.isdisjoint(left_out)
    assert sorted(path.name for path in release.glob("*.png")) == sorted(record.file_name for record in manifest.files)
    for record in manifest.files:
        change = pixels(release / record.file_name) - pixels(photos / record.source)
        assert 0 < np.abs(change).max() <= manifest.run.epsilon


def pixels(path: Path) -> npt.NDArray[np.int16]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int16)
