import itertools
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.images.folder import find_images, find_links, match_labels, refuse_nesting, released_names
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
    assert [fault.split(":")[0] for fault in caught.value.faults[:2]] == ["x.jpg", "sub/y.jpg"]
    assert len(caught.value.faults) == 3


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


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "\u00e9.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("suffix", [".png", None])
@pytest.mark.parametrize(
    "sources",
    [
        ["A.jpg", "a.jpg", "b.jpg"],
        [COMPOSED, DECOMPOSED, "b.jpg"],
        ["stra\u00dfe/a.jpg", "STRASSE/A.JPG", "b.jpg"],
        ["a.jpg/c.jpg", "A.JPG", "b.jpg"],
    ],
)
def test_twins_are_kept_apart_on_every_file_system(sources: list[str], suffix: str | None) -> None:
    names = released_names(sources, suffix)
    assert released_names(sources[::-1], suffix) == names
    assert names["b.jpg"] == ("b.jpg" if suffix is None else "b.png")
    keys = {unicodedata.normalize("NFC", name).casefold() for name in names.values()}
    assert len(keys) == 3
    assert (
        not {unicodedata.normalize("NFC", source.split("/")[0]).casefold() for source in sources if "/" in source}
        & keys
    )


def test_a_released_file_gives_way_to_a_folder() -> None:
    names = released_names(["a.jpg", "a.png/b.jpg"], ".png")
    assert names == {"a.jpg": "a.jpg.png", "a.png/b.jpg": "a.png/b.png"}


def test_links_are_followed_within_the_folder_and_nowhere_else(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    touch(folder, "a.jpg", "sub/b.jpg")
    touch(elsewhere, "c.jpg")
    (folder / "near.jpg").symlink_to("sub/b.jpg")
    (folder / "nearby").symlink_to("sub")
    (folder / "far.jpg").symlink_to(elsewhere / "c.jpg")
    (folder / "farther").symlink_to(elsewhere)
    (folder / "nothing.jpg").symlink_to("absent.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "round").symlink_to(".")
    (folder / "up").symlink_to("..")
    assert find_images(folder) == ["a.jpg", "far.jpg", "loop.jpg", "near.jpg", "nothing.jpg", "sub/b.jpg"]
    assert find_links(folder) == [
        "far.jpg", "farther", "loop.jpg", "near.jpg", "nearby", "nothing.jpg", "round", "up",
    ]  # fmt: skip
    inside = table("a.jpg", "near.jpg", "nearby/b.jpg", "round/round/a.jpg", "up/photos/a.jpg")
    assert match_labels(folder, inside).labelled == 5
    outside = ("far.jpg", "farther/c.jpg", "up/elsewhere/c.jpg")
    with pytest.raises(InputError, match="5 of 6 rows") as caught:
        match_labels(folder, table("a.jpg", *outside, "nothing.jpg", "loop.jpg"))
    told = dict(fault.split(": ", 1) for fault in caught.value.faults)
    assert all("leaves" in told[name] for name in outside)
    assert told["nothing.jpg"] == "is a link to nothing"
    assert told["loop.jpg"].startswith("cannot be read: Too many levels")


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "photos", "a.jpg")
    (tmp_path / "link").symlink_to("photos")
    assert match_labels(tmp_path / "link", table("a.jpg")).labelled == 1
    with pytest.raises(InputError):
        refuse_nesting(tmp_path / "link", tmp_path / "photos" / "out")


def test_what_is_no_ordinary_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.odd")
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, table("folder.jpg", "pipe.jpg", "pipe.odd", "x" * 256, "pipe.jpg/a.jpg"))
    told = dict(fault.split(": ", 1) for fault in caught.value.faults)
    assert told["folder.jpg"] == "is a folder, expected a file"
    assert told["pipe.jpg"] == told["pipe.odd"] == "is a FIFO, expected a file"
    assert "name too long" in told["x" * 256]
    assert "no such file" in told["pipe.jpg/a.jpg"]


def test_a_missing_file_with_a_twin_is_told_with_it(tmp_path: Path) -> None:
    touch(tmp_path, DECOMPOSED, "B.jpg")
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, table(COMPOSED, "b.JPG"))
    assert "'e\\u0301.jpg' differs only in case or Unicode form" in caught.value.faults[0]
    assert "'B.jpg' differs only" in caught.value.faults[1]


def test_keeping_suffixes_keeps_names() -> None:
    assert released_names(["a.jpg", "a.png"], None) == {"a.jpg": "a.jpg", "a.png": "a.png"}


@pytest.mark.parametrize("out", ["images", "images/out", "."])
def test_nested_folders_are_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError):
        refuse_nesting(tmp_path / "images", tmp_path / out)
    refuse_nesting(tmp_path / "images", tmp_path / "images-protected")
