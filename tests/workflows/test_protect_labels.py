"""Labels of every kind on their way into a release, and back out of it."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.choices import LabelFormat, SplitPart, Unlabelled
from mtlue_cli.errors import InputError
from mtlue_cli.keys import VARIABLE
from mtlue_cli.release.records import read_manifest
from mtlue_cli.tasks.bins import parse_bins
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file, released_options
from mtlue_cli.tasks.multi_label import parse_multi_labels
from mtlue_cli.workflows.inspect import inspect_path
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.small_set import write_checkpoint
from tests.tasks.label_files import cells_of


def draw(folder: Path, *names: str) -> None:
    """A photo of its own for each name."""
    rng = np.random.default_rng(3)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / name)


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", tmp_path / "labels.csv", weights=str(weights), device="cpu")


def protect(config: ProtectConfig, rows: str, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field
    config.labels.write_text("file_name,colour,round\n" + rows, encoding="utf-8")
    return protect_folder(replace(config, **changes), SilentProgress())


def released(result: ProtectResult) -> dict[str, dict[str, str | None]]:
    labels = read_label_file(result.release / "labels.csv", released_options("file_name"), for_learning=False)
    return cells_of(labels)


def test_names_that_nearly_meet_all_come_out_with_their_own_labels(config: ProtectConfig) -> None:
    long = "x" * 251
    names = ("a.jpg", "a.png", "A.jpg", "\u00e9.jpg", "e\u0301.jpg", "=b.jpg", f"{long}.jpg", "sub/a.bmp")
    draw(config.images, *names)
    found = len({unicodedata.normalize("NFC", path.name) for path in config.images.iterdir()})
    if found < len(names) - 2:
        pytest.skip("this file system takes names that differ in case for one")
    rows = "".join(f"{name},{('red', 'green', 'blue')[at % 3]},{at % 2}\n" for at, name in enumerate(names))
    result = protect(config, rows)
    assert (result.protected, result.quarantine) == (8, ())
    cells = released(result)
    records = {record.source: record.file_name for record in read_manifest(result.release).files}
    assert set(cells) == set(records.values())
    for at, name in enumerate(names):
        assert cells[records[name]] == {"colour": ("red", "green", "blue")[at % 3], "round": str(at % 2)}
        assert (result.release / records[name]).is_file()
    assert inspect_path(result.release, SilentProgress(), against=config.images).exit_code == 0


def test_images_without_a_row(config: ProtectConfig) -> None:
    draw(config.images, "a.jpg", "b.jpg", " c.jpg")
    skipped = protect(config, "a.jpg,red,1\n")
    assert skipped.unlabelled == (" c.jpg", "b.jpg")
    assert released(skipped) == {"a.png": {"colour": "red", "round": "1"}}

    with pytest.raises(InputError) as caught:
        protect(config, "a.jpg,red,1\n", unlabelled=Unlabelled.FAIL)
    assert caught.value.faults == ("' c.jpg'", "'b.jpg'")

    everything = protect(config, "a.jpg,red,1\n", unlabelled=Unlabelled.PROTECT)
    assert (everything.protected, everything.kept, everything.unlabelled) == (2, 1, ())
    nothing = {"colour": None, "round": None}
    assert released(everything) == {"a.png": {"colour": "red", "round": "1"}, " c.png": nothing, "b.png": nothing}
    assert inspect_path(everything.release, SilentProgress(), against=config.images).exit_code == 0

    (config.images / "link.png").symlink_to(config.labels)
    with pytest.raises(InputError) as caught:
        protect(config, "a.jpg,red,1\n", unlabelled=Unlabelled.PROTECT)
    assert "'link.png' leaves the image folder by a symbolic link" in caught.value.faults[0]


def test_masks_whose_paths_lead_nowhere_are_not_released_as_images(config: ProtectConfig) -> None:
    names = [f"{at}.jpg" for at in range(8)]
    draw(config.images, *names, *(f"segments/{at}.png" for at in range(8)))
    rows = "".join(f"{name},{('red', 'green')[at % 2]},1,Masks/{at}.PNG\n" for at, name in enumerate(names))
    config.labels.write_text("file_name,colour,round,mask\n" + rows)
    with pytest.raises(InputError, match="may be masks or maps") as caught:
        protect_folder(replace(config, unlabelled=Unlabelled.PROTECT), SilentProgress())
    assert caught.value.faults[0] == "'segments/0.png': column 'mask'"
    assert len(caught.value.faults) == 8
    assert not config.release.exists()
    skipped = protect_folder(config, SilentProgress())
    assert (skipped.protected, len(skipped.unlabelled)) == (8, 8)


def test_one_part_of_a_divided_data_set(config: ProtectConfig, tmp_path: Path) -> None:
    draw(config.images, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    split = tmp_path / "list_eval_partition.txt"
    split.write_text("a.jpg 0\nb.jpg 1\nc.jpg 2\nelsewhere.jpg 0\n")
    rows = "a.jpg,red,1\nb.jpg,green,1\nc.jpg,red,0\n"
    reading = LabelOptions(split_file=split)
    result = protect(config, rows, reading=reading, unlabelled=Unlabelled.PROTECT)
    assert set(released(result)) == {"a.png", "d.png"}
    other = replace(reading, split=SplitPart.VALIDATION)
    assert set(released(protect(config, rows, reading=other, out=tmp_path / "other"))) == {"b.png"}
    with pytest.raises(InputError) as caught:
        protect(config, rows + "d.jpg,red,1\n", reading=reading)
    assert caught.value.faults == (f"row 5: file 'd.jpg' is not in {split}",)
    split.write_text("a.jpg 0\na.jpg 1\nb.jpg 3\n\nc.jpg\n")
    with pytest.raises(InputError) as caught:
        protect(config, rows, reading=reading)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["row 2", "row 3", "row 5"]


def test_the_release_needs_no_options_to_be_read_again(config: ProtectConfig) -> None:
    draw(config.images, "a.jpg", "b.jpg")
    path = config.images / "metadata.jsonl"
    rows = (
        {"photo": "a.jpg", "colour": "red", "round": 1.0, "size": 3},
        {"photo": "b.jpg", "colour": "?", "round": 0, "size": 12},
    )
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    reading = LabelOptions(LabelFormat.JSONL, "photo", ("?",), parse_bins(["size=5,9"]))
    result = protect(config, "", labels=path, reading=reading)
    lines = (result.release / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["photo,colour,round,size", "a.png,red,1,0-5", "b.png,,0,10+"]
    assert inspect_path(result.release, SilentProgress(), against=config.images).exit_code == 0


def test_the_command_that_is_recommended_reads_the_labels_alike(config: ProtectConfig) -> None:
    reading = LabelOptions(LabelFormat.UTKFACE, "f c", ("NA",), parse_bins(["age=2,9"]), Path("s.txt"), SplitPart.TEST)
    config.images.mkdir()
    own = replace(config, images=config.images, labels=config.images, reading=reading)
    words = (
        "--label-format utkface --file-column 'f c' --missing-value NA --bins age=2,9 --split-file s.txt --split test"
    )
    assert f"train-generator {config.images} {words} --out" in own.training_command


@pytest.fixture
def keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProtectConfig:
    """Twelve photos, to be protected by universal weights."""
    monkeypatch.setenv(VARIABLE, "5aa5" * 16)
    weights = write_checkpoint(tmp_path / "universal.safetensors", None)
    draw(tmp_path / "photos", *(f"{row}.png" for row in range(16)))
    return ProtectConfig(tmp_path / "photos", tmp_path / "labels.csv", weights=str(weights), device="cpu")


def table(config: ProtectConfig, header: str, cells: Sequence[str], **changes: Any) -> ProtectResult:  # noqa: ANN401
    rows = "".join(f"{row}.png,{cell}\n" for row, cell in enumerate(cells))
    config.labels.write_text(f"file_name,{header}\n{rows}", encoding="utf-8")
    return protect_folder(replace(config, **changes), SilentProgress())


@pytest.mark.parametrize("spelled", [("0.0", "1.0"), ("False", "True"), ("00", "01")])
def test_a_release_does_not_take_its_classes_in_another_spelling(
    keyed: ProtectConfig, spelled: tuple[str, str]
) -> None:
    release = table(keyed, "smile", ["0", "1"] * 3).release
    before = (release / "labels.csv").read_bytes()
    with pytest.raises(InputError, match="other spellings") as caught:
        table(keyed, "smile", [*spelled * 4])
    assert caught.value.faults == tuple(
        f"column 'smile' has the class {new!r} (row {row}), which the release spells {old!r}"
        for row, new, old in zip((2, 3), spelled, "01", strict=True)
    )
    assert (release / "labels.csv").read_bytes() == before
    assert table(keyed, "smile", ["0", "1"] * 4).kept == 6
    assert table(keyed, "smile", [*spelled * 4], overwrite=True).protected == 8


def test_a_new_class_in_another_case_is_refused_and_a_new_class_is_not(keyed: ProtectConfig) -> None:
    table(keyed, "sex", ["male", "female"] * 3)
    with pytest.raises(InputError, match="other spellings"):
        table(keyed, "sex", ["male", "female"] * 3 + ["Male"])
    assert table(keyed, "sex", ["male", "female"] * 3 + ["unknown"]).protected == 1


def test_one_class_in_two_spellings_is_refused_where_it_is_protected(keyed: ProtectConfig) -> None:
    cells = ["0,a", "1,b", "0.0,a", "True,b"]
    with pytest.raises(InputError, match="spell a class in several ways") as caught:
        table(keyed, "smile,t", cells)
    assert "'0' (row 2), '0.0' (row 4); use one spelling" in caught.value.faults[0]
    assert not keyed.release.exists()
    assert table(keyed, "smile,t", cells, exclude=("smile",)).tasks == ("t",)


def test_quantiles_that_move_with_new_images_are_refused_with_the_edges_of_the_release(keyed: ProtectConfig) -> None:
    bins = LabelOptions(bins=parse_bins(["age=quantiles:2"]))
    result = table(keyed, "age", [str(age) for age in range(0, 60, 10)], reading=bins)
    assert {cell["age"] for cell in released(result).values()} == {"0-20", "21+"}
    more = [str(age) for age in range(0, 160, 10)]
    with pytest.raises(InputError) as caught:
        table(keyed, "age", more, reading=bins)
    assert caught.value.faults == (
        "column 'age' is sorted into other bins than in the release: give its edges, --bins age=20",
    )
    assert table(keyed, "age", more, reading=LabelOptions(bins=parse_bins(["age=20"]))).kept == 6


def test_what_a_release_protects_stays_its_tasks_whatever_more_rows_make_of_them(keyed: ProtectConfig) -> None:
    first = [f"{row % 2},{row % 2},{row * 3}" for row in range(6)]
    assert table(keyed, "smile,t,code", first).tasks == ("smile", "t")
    # Twelve more rows make `code` a column of few numbers, and a column that was asked for looks like an identifier.
    more = [f"{row % 2},{row % 2},{row * 3 % 18}" for row in range(16)]
    assert table(keyed, "smile,t,code", more).tasks == ("smile", "t")
    keyed = replace(keyed, out=keyed.images.with_name("other"))
    asked = table(keyed, "smile,code", [row[2:] for row in first], tasks=("smile", "code"))
    assert asked.tasks == ("smile", "code")
    again = table(keyed, "smile,code", [row[2:] for row in first])
    assert (again.tasks, again.kept) == (("smile", "code"), 6)


def test_bookkeeping_is_released_and_not_protected(keyed: ProtectConfig) -> None:
    cells = [f"{row},{row % 2},https://example.org/{row},{row * 1.37:.2f},2020-01-{row + 1:02}" for row in range(12)]
    result = table(keyed, "Unnamed: 0,smile,url,score,date", cells)
    assert result.tasks == ("smile",)
    assert result.unprotected_tasks == ("Unnamed: 0", "url", "score", "date")
    assert [column["used"] for column in result.to_json()["columns"]] == [False, True, False, False, False]
    assert released(result)["3.png"]["url"] == "https://example.org/3"


def test_a_column_of_lists_is_protected_label_by_label(keyed: ProtectConfig) -> None:
    reading = LabelOptions(multi_labels=parse_multi_labels(["tags"]))
    result = table(keyed, "tags", ["smile|hat", "hat", "smile", "smile|hat"], reading=reading)
    assert result.tasks == ("hat", "smile")
    assert released(result)["1.png"] == {"hat": "1", "smile": "0"}


def test_a_missing_number_of_a_data_frame_is_no_class(keyed: ProtectConfig, tmp_path: Path) -> None:
    import math

    import pyarrow
    from pyarrow import parquet

    file = tmp_path / "labels.parquet"
    columns = {"file_name": [f"{row}.png" for row in range(6)], "grade": [0.0, 1.0, math.nan, 0.0, 1.0, 1.0]}
    parquet.write_table(pyarrow.table(columns), file)
    result = protect_folder(replace(keyed, labels=file), SilentProgress())
    assert [record.source for record in result.quarantine] == ["2.png"]
    assert {cells["grade"] for cells in released(result).values()} == {"0", "1"}
