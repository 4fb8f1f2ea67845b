"""Label files among the images: the release has them too, for the loader that the user has."""

import base64
import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Image as ImageFeature
from pyarrow import parquet

from mtlue_cli.choices import ExitCode, LabelFormat
from mtlue_cli.layouts.tables import rewritten
from mtlue_cli.release.records import read_run
from tests.layouts.sample import draw, encoded, hub_rows, mtlue, pixels_differ, protect, weights_for

ROWS: list[dict[str, Any]] = [
    {"file_name": "a.jpg", "colour": "red", "note": "first, =1+1", "age": 31},
    {"file_name": "sub/b.png", "colour": "green", "note": None, "age": 9},
    {"file_name": "sub/c.jpg", "colour": None, "note": "third", "age": 70},
    {"file_name": "d.jpg", "colour": "red", "note": "fourth\nline", "age": 4},
]
RELEASED = ("a.png", "sub/b.png", "sub/c.png", "d.png")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def loaded(folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Rows as ``datasets`` loads them, by file; the image as its pixels' file."""
    found = hub_rows("imagefolder", cache, data_dir=str(folder)).cast_column("image", ImageFeature(decode=False))
    return sorted(
        ({**row, "image": Path(row["image"]["path"]).relative_to(folder).as_posix()} for row in found),
        key=lambda row: row["image"],
    )


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_datasets_loads_the_release_as_it_loads_the_originals(tmp_path: Path, name: str) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    draw(photos, *(row["file_name"] for row in ROWS))
    write_table(photos / name, ROWS)
    before = loaded(photos, cache / "before")
    weights = weights_for(tmp_path, colour=("green", "red"))
    release, said = protect(photos, weights, "--tasks", "colour", code=ExitCode.QUARANTINE)  # c.jpg has no label
    assert f"labels: {photos / name}" in said
    after = loaded(release, cache / "after")
    renamed = dict(zip((row["file_name"] for row in ROWS), RELEASED, strict=True))
    expected = [{**row, "image": renamed[row["image"]]} for row in before if row["image"] != "sub/c.jpg"]
    assert after == sorted(expected, key=lambda row: row["image"])
    for row in ROWS:
        if row["colour"] is not None:
            assert pixels_differ(photos / row["file_name"], release / renamed[row["file_name"]])
    assert set(read_run(release).digests) == {".mtlue/manifest.jsonl", ".mtlue/run.json", "labels.csv", name}
    mtlue("inspect", release, "--against", photos)
    (release / name).write_bytes((release / name).read_bytes() + b" ")
    assert f"{name}: its bytes are not" in mtlue("inspect", release, code=ExitCode.NOT_PROTECTED).stderr


def test_a_label_file_that_is_gone_leaves_the_release(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, "a.jpg", "b.jpg")
    write_table(photos / "metadata.csv", [{"file_name": f"{name}.jpg", "colour": "red"} for name in "ab"])
    weights = weights_for(tmp_path, colour=("green", "red"))
    release, _ = protect(photos, weights)
    assert (release / "metadata.csv").is_file()
    (photos / "metadata.csv").rename(tmp_path / "elsewhere.csv")
    result = mtlue("protect", photos, "--labels", tmp_path / "elsewhere.csv", "--weights", weights, "--device", "cpu")
    assert "0 protected, 2 already done" in result.stdout
    assert sorted(path.name for path in release.iterdir()) == [".mtlue", "a.png", "b.png", "labels.csv"]


NAMES = {"a.jpg": "a.png", "b/c.jpg": "b/c.png"}


@pytest.mark.parametrize(
    ("form", "name", "before", "after"),
    [
        (
            LabelFormat.CSV,
            "m.csv",
            'sep=;\r\nid; f ;"t"\r\n1;./a.jpg;"x;y"\r\n\r\n2;gone.jpg;z\r\n3;b/c.jpg;\r\n',
            'sep=;\r\nid; f ;t\n1;a.png;"x;y"\n3;b/c.png;\n',
        ),
        (LabelFormat.TSV, "m.tsv", "f\tt\na.jpg\t1,0\ngone.jpg\t2\n", "f\tt\na.png\t1,0\n"),
        (
            LabelFormat.CELEBA,
            "m.txt",
            "3\nA  B\na.jpg  1 -1\ngone.jpg 1 1\nb/c.jpg -1 1\n",
            "2\nA B\na.png 1 -1\nb/c.png -1 1\n",
        ),
        (
            LabelFormat.NIH,
            "m.csv",
            "Image Index,Finding Labels,Age\na.jpg,Mass|Edema,3\ngone.jpg,Mass,3\n",
            "Image Index,Finding Labels\na.png,Mass|Edema\n",
        ),
        (
            LabelFormat.JSONL,
            "m.jsonl",
            '{"t": 1.0, "f": "a.jpg", "é": [1, null]}\n\n{"f": "gone.jpg"}\n{"f": "b/c.jpg"}',
            '{"t": 1.0, "f": "a.png", "é": [1, null]}\n{"f": "b/c.png"}\n',
        ),
    ],
)
def test_rows_of_files_that_are_not_released_go_and_all_else_stays(
    tmp_path: Path, form: LabelFormat, name: str, before: str, after: str
) -> None:
    (tmp_path / name).write_text(before, encoding="utf-8", newline="")
    assert rewritten(tmp_path / name, form, "f", NAMES).decode() == after


def test_the_types_of_a_parquet_file_stay(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("f", pa.dictionary(pa.int32(), pa.string())),
            pa.field("t", pa.int8()),
            pa.field("box", pa.list_(pa.float32())),
        ],
        metadata={"huggingface": "{}"},
    )
    files = pa.array(["a.jpg", "gone.jpg", "b/c.jpg"]).dictionary_encode()
    table = pa.table(
        [files, pa.array([1, 2, None], pa.int8()), pa.array([[1.0], [], None], pa.list_(pa.float32()))], schema
    )
    parquet.write_table(table, tmp_path / "m.parquet")
    content = rewritten(tmp_path / "m.parquet", LabelFormat.PARQUET, "f", NAMES)
    found = parquet.read_table(pa.BufferReader(content))
    assert found.schema.equals(parquet.read_schema(tmp_path / "m.parquet"), check_metadata=True)
    assert found.to_pylist() == [{"f": "a.png", "t": 1, "box": [1.0]}, {"f": "b/c.png", "t": None, "box": None}]


AS_TEXT = base64.b64encode(encoded(1)).decode()


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("metadata.parquet", encoded(1)),
        ("metadata.parquet", [{"bytes": encoded(1), "path": None}]),
        ("metadata.parquet", AS_TEXT),
        ("metadata.jsonl", {"deep": [AS_TEXT]}),
        ("metadata.csv", AS_TEXT),
    ],
)
def test_images_within_a_label_file_are_refused(tmp_path: Path, name: str, cell: Any) -> None:  # noqa: ANN401 - any cell
    photos = tmp_path / "photos"
    draw(photos, "a.jpg", "b.jpg")
    rows = [{"file_name": f"{one}.jpg", "colour": one, "thumb": cell} for one in "ab"]
    write_table(photos / name, rows)
    weights = weights_for(tmp_path, colour=("a", "b"))
    release, said = protect(photos, weights, code=ExitCode.INPUT)
    assert "holds images, which would be released unprotected" in " ".join(said.split())
    assert not release.exists()
    (photos / name).rename(tmp_path / name)  # elsewhere it is not copied, but its columns are
    if isinstance(cell, str):
        _, said = protect(photos, weights, "--labels", tmp_path / name, code=ExitCode.INPUT)
        assert "column 'thumb' holds images" in " ".join(said.split())
        assert not release.exists()
    else:
        protect(photos, weights, "--labels", tmp_path / name)
        assert not (release / name).exists()
        assert "thumb" not in (release / "labels.csv").read_text()


def test_pixels_as_text_are_refused_and_numbers_are_not(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, "a.jpg", "b.jpg")
    weights = weights_for(tmp_path, colour=("a", "b"))
    landmarks = " ".join(str(number) for number in range(136))
    attributes = " ".join(str(number % 2) for number in range(312))
    rows = [
        {"file_name": f"{one}.jpg", "colour": one, "landmarks": landmarks, "attributes": f"{attributes} {value}"}
        for value, one in enumerate("ab")
    ]
    write_table(tmp_path / "labels.csv", rows)
    protect(photos, weights, "--labels", tmp_path / "labels.csv")
    pixels = [" ".join(str((seed + number) % 256) for number in range(48 * 48)) for seed in (0, 1)]
    rows = [{"file_name": f"{one}.jpg", "colour": one, "pixels": text} for one, text in zip("ab", pixels, strict=True)]
    write_table(tmp_path / "faces.csv", rows)
    other = ("--labels", tmp_path / "faces.csv", "--out", tmp_path / "other")
    _, said = protect(photos, weights, *other, code=ExitCode.INPUT)
    assert "column 'pixels' holds images" in " ".join(said.split())


def test_labels_keys_and_weights_do_not_lie_in_the_release(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, "a.jpg", "b.jpg")
    write_table(photos / "labels.csv", [{"file_name": f"{one}.jpg", "colour": one} for one in "ab"])
    weights = weights_for(tmp_path, colour=("a", "b"))
    release, _ = protect(photos, weights)
    written = (release / "labels.csv").read_bytes()
    _, said = protect(photos, weights, "--labels", release / "labels.csv", "--force", code=ExitCode.INPUT)
    assert "lies in the output" in " ".join(said.split())
    assert (release / "labels.csv").read_bytes() == written
    inside = release / weights.name
    inside.write_bytes(weights.read_bytes())
    _, said = protect(photos, inside, code=ExitCode.INPUT)
    assert "the file of weights" in " ".join(said.split())
    key = release / "my.key"
    key.write_text("00" * 31 + "01")
    key.chmod(0o600)
    _, said = protect(photos, weights, "--key", key, code=ExitCode.INPUT)
    assert "the key" in " ".join(said.split())
