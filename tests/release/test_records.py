import json
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import InputError
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.release.records import (
    FOLDER,
    LOCK_NAME,
    MANIFEST_NAME,
    RUN_NAME,
    FileRecord,
    QuarantineRecord,
    Record,
    RunRecord,
    is_release,
    read_manifest,
    read_run,
    write_manifest,
    write_run,
)
from mtlue_cli.release.release import Release, sole_writer

RUN = RunRecord(8, "faces", "ab" * 32, ("age", "race"), ImageFormat.PNG, False, versions={"mtlue": "1"})
FILE = FileRecord("sub/ä.png", "sub/ä.jpg", "0" * 64, "1" * 64, {"age": "3-9", "race": None}, 8.0, 34.5)
BAD = QuarantineRecord("b.jpg", "truncated")


def add(folder: Path, *records: Record) -> None:
    """Append to the records of a release, as a run does that continues it."""
    release = Release(folder)
    with release.open(RUN, release.resume(found := release.look(frozenset()), RUN, found.manifest, overwrite=False)):
        for record in records:
            release.add(record)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert not is_release(tmp_path)
    write_run(tmp_path, RUN)
    write_manifest(tmp_path, [FILE, BAD])
    assert is_release(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest.run == RUN
    assert manifest.files == (FILE,)
    assert manifest.quarantine == (BAD,)


@pytest.mark.parametrize(("tasks", "most"), [(2, 650), (40, 1000)])
def test_records_take_little_memory_and_are_written_one_by_one(tmp_path: Path, tasks: int, most: int) -> None:
    count = 3000
    write_run(tmp_path, RUN)

    def labels(number: int) -> dict[str, str | None]:
        return {f"task {task}": ("yes", "not sure", None)[number // (task + 1) % 3] for task in range(tasks)}

    names = [f"{number:07}" for number in range(count)]
    many = (
        replace(FILE, source=name, file_name=f"{name}.png", labels=labels(int(name)), psnr=30 + int(name) % 9 / 8)
        for name in names
    )
    tracemalloc.start()
    try:
        write_manifest(tmp_path, many)
        _, writing = tracemalloc.get_traced_memory()
        found = read_manifest(tmp_path).files
        reading, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert writing < (tmp_path / FOLDER / MANIFEST_NAME).stat().st_size / 2
    assert reading < most * count
    assert [record.psnr for record in found] == [30 + number % 9 / 8 for number in range(count)]
    assert [record.labels for record in found] == [labels(number) for number in range(count)]
    assert pickle.loads(pickle.dumps(found[5])) == found[5]


def test_the_later_record_of_a_source_counts(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    add(tmp_path, QuarantineRecord(FILE.source, "no memory"), FILE)
    assert read_manifest(tmp_path).files == (FILE,)
    assert read_manifest(tmp_path).quarantine == ()


def test_a_torn_last_line_is_ignored_and_cut_off(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    write_manifest(tmp_path, [FILE])
    path = tmp_path / FOLDER / MANIFEST_NAME
    path.write_bytes(path.read_bytes() + b'{"source": "x')
    assert read_manifest(tmp_path).files == (FILE,)
    add(tmp_path, BAD)
    assert read_manifest(tmp_path).files == (FILE,)
    assert read_manifest(tmp_path).quarantine == (BAD,)


@pytest.mark.parametrize(
    "line", [b"nonsense", b'{"status": "other"}', b'{"status": "quarantined"}', b"[]", b"[" * 100_000]
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    write_run(tmp_path, RUN)
    (tmp_path / FOLDER / MANIFEST_NAME).write_bytes(line + b"\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1, "tasks": []}'),
        *("[" * 100_000, '{"schema_version": 1, "counts": ' + '{"a": ' * 100_000),
    ],
    ids=range(7),
)
def test_an_unreadable_run_record_is_an_input_error(tmp_path: Path, text: str) -> None:
    write_run(tmp_path, RUN)
    (tmp_path / FOLDER / RUN_NAME).write_text(text)
    with pytest.raises(InputError):
        read_manifest(tmp_path)


def test_a_folder_without_run_record_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a release"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"epsilon": 4}, "epsilon: the release has 4/255, this run 8/255"),
        ({"weights_sha256": "0123456789abcdef" * 4}, r"weights: the release has \w+ \(0123456789abcdef\), this run"),
        ({"tasks": ("age",)}, "tasks: the release has age, this run"),
        ({"image_format": "webp"}, "format: the release has webp, this run png"),
        ({"keep_metadata": True}, "metadata: the release has kept, this run dropped"),
    ],
)
def test_settings_that_decide_about_bytes_differ(change: dict[str, object], line: str) -> None:
    assert RUN.differences(replace(RUN, complete=True, versions={}, weights_name="renamed")) == []
    (found,) = RUN.differences(replace(RUN, **change))
    assert re.match(line, found)


@pytest.mark.parametrize(
    "change",
    [
        {"max_change": "8"},
        {"max_change": float("nan")},
        {"max_change": 10**400},
        {"psnr": []},
        {"mean_change": "4"},
        {"share": float("inf")},
        {"drawn": 1},
        {"labels": None},
        {"file_name": 3},
        {"sha256": None},
        {"extra": 1},
    ],
)
def test_a_record_of_other_types_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    write_run(tmp_path, RUN)
    write_manifest(tmp_path, [FILE])
    path = tmp_path / FOLDER / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}) + "\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": "8"},
        {"epsilon": True},
        {"epsilon": 10**400},
        {"extra": 1},
        {"image_format": "gif"},
        {"digests": []},
        {"versions": [1]},
        {"file_column": 5},
        {"tasks": 3},
        {"tasks": [3]},
        {"code_version": "2"},
        {"code_cells": -1},
        {"code_cells": 1000},
        {"code_cells": None},
        {"shares": [0.5]},
        {"shares": {"colour": 0.5}},
        {"shares": {"colour": [0.5, "0.5"]}},
        {"shares": {"colour": [1.5, -0.5]}},
        {"flip": None},
        {"flip": {"mean": 0.1}},
        {"flip": {"mean": "0.1", "files": 1, "pixels_per_degree": 67}},
        {"flip": {"mean": float("nan"), "files": 1, "pixels_per_degree": 67}},
        {"flip": {"mean": 0.1, "files": 10**400, "pixels_per_degree": 67}},
        {"flip": {"mean": 0.1, "files": 1, "pixels_per_degree": 67, "extra": 1}},
    ],
)
def test_a_run_record_of_other_types_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    write_run(tmp_path, RUN)
    path = tmp_path / FOLDER / RUN_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match="is damaged"):
        read_run(tmp_path)


def test_a_damaged_record_is_refused_with_its_field_and_what_was_found(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    path = tmp_path / FOLDER / RUN_NAME
    path.write_text(path.read_text().replace('"epsilon": 8', '"epsilon": "8"'))
    with pytest.raises(InputError, match=r"is damaged: Expected `int`, got `str` - at `\$\.epsilon`"):
        read_run(tmp_path)


HOLDER = """
import fcntl, sys
stream = open(sys.argv[1], "w")
fcntl.flock(stream, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_release_that_another_process_holds_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    with sole_writer(tmp_path), pytest.raises(InputError, match="another run"), sole_writer(tmp_path):
        raise AssertionError("two writers")
    words = [sys.executable, "-c", HOLDER, str(tmp_path / FOLDER / LOCK_NAME)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another run"), sole_writer(tmp_path):
            raise AssertionError("two writers")
        process.kill()
    with sole_writer(tmp_path):
        assert (tmp_path / FOLDER / LOCK_NAME).exists()


def test_flip_is_recorded_decides_about_no_byte_and_may_be_absent(tmp_path: Path) -> None:
    measured = replace(RUN, flip={"mean": 0.15, "files": 24, "pixels_per_degree": 67})
    write_run(tmp_path, measured)
    assert read_run(tmp_path) == measured
    assert read_run(tmp_path).measured_flip == MeanFlip(0.15, 24)
    assert RUN.measured_flip is None
    assert RUN.differences(measured) == []
    path = tmp_path / FOLDER / RUN_NAME
    document = json.loads(path.read_text())
    del document["flip"]
    path.write_text(json.dumps(document))
    assert read_run(tmp_path) == RUN


def test_a_run_record_without_its_file_column_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, replace(RUN, file_column="photo"))
    path = tmp_path / FOLDER / RUN_NAME
    assert read_run(tmp_path).file_column == "photo"
    document = json.loads(path.read_text())
    del document["file_column"]
    path.write_text(json.dumps(document))
    assert read_run(tmp_path) == RUN
