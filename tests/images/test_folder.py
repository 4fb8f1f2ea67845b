import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.images.folder import find_images, match_labels, refuse_nesting, released_names
from mtlue_cli.tasks.spec import LabelTable, TaskSet


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def table(*names: str) -> LabelTable:
    return LabelTable(names, {"t": np.zeros(len(names), dtype=np.int64)}, TaskSet(()))


def test_images_are_found_sorted_without_hidden_ones(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "sub/c.webp", "notes.txt", ".mtlue/d.png", ".e.png")
    assert find_images(tmp_path) == ["a.png", "b.JPG", "sub/c.webp"]
    with pytest.raises(InputError):
        find_images(tmp_path / "absent")


def test_rows_without_file_are_all_listed_and_images_without_row_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.odd")
    assert match_labels(tmp_path, table("b.jpg", "c.odd")).unlabelled == ("a.jpg",)
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, table("a.jpg", "x.jpg", "sub/y.jpg", "../z.jpg"))
    assert caught.value.faults == (
        "file name '../z.jpg' leaves the image folder",
        f"no file 'x.jpg' in {tmp_path}",
        f"no file 'sub/y.jpg' in {tmp_path}",
    )


def test_rows_of_other_parts_are_not_unlabelled(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    assert match_labels(tmp_path, table("a.jpg"), {"b.jpg"}).unlabelled == ("c.jpg",)


def test_a_row_that_nearly_names_a_file_is_told_which(tmp_path: Path) -> None:
    touch(tmp_path, "Case.jpg", "e\u0301.jpg", "suffix.jpg")
    places = ("row 2", "row 3", "row 4", "row 5")
    rows = replace(table("case.JPG", "\u00e9.jpg", "suffix.png", "x" * 5000), places=places)
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, rows)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["row 5", "row 2", "row 3", "row 4"]
    assert [fault.split(", but ")[-1] for fault in caught.value.faults[1:]] == [
        "'Case.jpg', which differs in upper and lower case",
        f"{'e' + chr(0x301) + '.jpg'!r}, which differs in how its accents are encoded (NFC or NFD)",
        "'suffix.jpg'",
    ]


def test_links_out_of_the_folder_are_refused_and_links_within_it_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    touch(tmp_path, "photos/a.jpg", "other/b.jpg")
    (folder / "inside.jpg").symlink_to("a.jpg")
    (folder / "outside.jpg").symlink_to("../other/b.jpg")
    (folder / "away").symlink_to("../other", target_is_directory=True)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    assert match_labels(folder, table("a.jpg", "inside.jpg")).labelled == 2
    with pytest.raises(InputError) as caught:
        match_labels(folder, table("inside.jpg", "outside.jpg", "away/b.jpg", "loop.jpg"))
    assert caught.value.faults == (
        "file name 'outside.jpg' leaves the image folder by a symbolic link",
        "file name 'away/b.jpg' leaves the image folder by a symbolic link",
    )


def test_names_that_differ_in_the_encoding_of_accents_keep_their_suffixes() -> None:
    names = released_names(["\u00e9.jpg", "e\u0301.png", "E\u0301.bmp"], ".png")
    assert list(names.values()) == ["\u00e9.jpg.png", "e\u0301.png.png", "E\u0301.bmp.png"]


def test_names_keep_their_stem_and_never_meet() -> None:
    sources = ["a.jpg", "a.png", "a.jpg.png", "sub/a.jpg", "B.jpg", "b.bmp", "c.tar.jpg"]
    names = released_names(sources, ".png")
    assert names["a.jpg"] == "a.jpg.png"
    assert names["a.png"] == "a.png.png"
    assert names["sub/a.jpg"] == "sub/a.png"
    assert names["c.tar.jpg"] == "c.tar.png"
    assert names["B.jpg"] == "B.jpg.png"
    assert names["b.bmp"] == "b.bmp.png"
    assert len({name.casefold() for name in names.values()}) == len(sources)
    for order in itertools.islice(itertools.permutations(sources), 0, 5040, 500):
        assert released_names(order, ".png") == names


def test_keeping_suffixes_keeps_names() -> None:
    assert released_names(["a.jpg", "a.png"], None) == {"a.jpg": "a.jpg", "a.png": "a.png"}


@pytest.mark.parametrize("out", ["images", "images/out", "."])
def test_nested_folders_are_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError):
        refuse_nesting(tmp_path / "images", tmp_path / out)
    refuse_nesting(tmp_path / "images", tmp_path / "images-protected")
