"""What the documentation says of label files is what the program has."""

import re
from pathlib import Path

import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.images.folder import match_labels
from mtlue_cli.tasks.bins import parse_bins
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.readers.registry import READERS
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.tasks.label_files import DOCUMENT, faults_of, write

JSON_ROW = '{"file_name": "a.jpg", "t": 1}\n'
FAULTY: dict[str, tuple[str | bytes, str]] = {
    "a row is too short or too long": ("file_name,t,u\na.jpg,1\n", ".csv"),
    "text after a closing quote": ('file_name,t\na.jpg,"1"x\n', ".csv"),
    "a quote that is not closed": ('file_name,t\na.jpg,1\nb.jpg,"1\n', ".csv"),
    "the same file twice, labels differ": ("file_name,t\na.jpg,0\na.jpg,1\n", ".csv"),
    "another encoding": (b"file_name,t\n\xff\xfe.jpg,1\n", ".csv"),
    "UTF-16 without its mark": ("file_name,t\n".encode("utf-16-le"), ".csv"),
    "not JSON": (JSON_ROW + '{"file_name": b.jpg}', ".jsonl"),
    "nothing but a nested column": (JSON_ROW + '{"file_name": "b.jpg", "t": {"u": 1}}', ".jsonl"),
    "a key twice": (JSON_ROW + '{"file_name": "b.jpg", "t": 1, "t": 1}', ".jsonl"),
    "CelebA: another value": ("1\nSmiling Young\na.jpg 1 0\n", ".txt"),
    "CelebA: rows are missing": ("3\nSmiling Young\na.jpg 1 1\n", ".txt"),
    "NIH: an unknown finding": ("Image Index,Finding Labels\na.png,Efusion\n", ".csv"),
    "NIH: both at once": ("Image Index,Finding Labels\na.png,No Finding|Mass\n", ".csv"),
    "a number that is none": ("file_name,age\na.jpg,old\n", ".csv"),
    "no file column": ("photo,t\na.jpg,1\n", ".csv"),
    "a column twice": ("file_name,t,t\na.jpg,1,1\n", ".csv"),
    "nothing but row numbers": (",file_name\n0,a.jpg\n", ".csv"),
    "no column but one of missing cells (training)": ("file_name,t\na.jpg,\n", ".csv"),
    "no column but one of one class (training)": ("file_name,t\na.jpg,1\n", ".csv"),
    "no column but an identifier (training)": (
        "file_name,t\n" + "".join(f"{i}.jpg,x{i % 7}y{i}\n" for i in range(1001)),
        ".csv",
    ),
    "several spellings of a class": ("file_name,t\na.jpg,1\nb.jpg,1.0\nc.jpg,true\n", ".csv"),
    "outside the folder": ("file_name,t\n../b.jpg,1\n", ".csv"),
    "absolute, or a drive": ("file_name,t\nC:/b.jpg,1\n", ".csv"),
    "a backslash, UNC": ("file_name,t\n\\\\host\\b.jpg,1\n", ".csv"),
    "a NUL": ("file_name,t\na\0.jpg,1\n", ".csv"),
    "too long": (f"file_name,t\n{'x' * 256},1\n", ".csv"),
}
ELSEWHERE = {"a class that the generator does not know", "a link out of the folder", "no such file"}


def documented(fault: str) -> str:
    found = re.search(rf"\| {re.escape(fault)} \| `(.*)` \|", DOCUMENT)
    assert found is not None, fault
    return found[1].replace("\\|", "|")


def test_the_table_of_formats_is_the_registry() -> None:
    table = DOCUMENT.split("| `--label-format` |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert rows == [
        [f"`{reader.name.value}`", reader.title, ", ".join(f"`{suffix}`" for suffix in reader.suffixes)]
        for reader in READERS.values()
    ]


def test_every_documented_fault_is_tried() -> None:
    section = DOCUMENT.split("## Faults", 1)[1]
    listed = re.findall(r"^\| (.*?) \| `", section, re.MULTILINE)
    assert set(listed) == FAULTY.keys() | ELSEWHERE


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_has_the_documented_message(fault: str, tmp_path: Path) -> None:
    content, suffix = FAULTY[fault]
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    bins = parse_bins(["age=2,9"]) if "age" in str(content) else ()
    assert documented(fault) in faults_of(path, bins=bins)


def test_an_unknown_class_has_the_documented_message(tmp_path: Path) -> None:
    labels = read_label_file(write(tmp_path, "file_name,t\na.jpg,1\nb.jpg,2\n"))
    known = TaskSet((Task("t", TaskKind.BINARY, ("0", "1")),))
    assert known.unmet_by(labels.table.tasks) == [documented("a class that the generator does not know")]


def test_files_that_cannot_be_used_have_the_documented_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    (folder / "a.jpg").touch()
    (tmp_path / "outside.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    for fault, name in (("a link out of the folder", "link.jpg"), ("no such file", "A.JPG")):
        labels = read_label_file(write(tmp_path, f"file_name,t\n{name},1\n"), for_learning=False)
        with pytest.raises(InputError) as caught:
            match_labels(folder, labels.table)
        assert caught.value.faults == (documented(fault),)
