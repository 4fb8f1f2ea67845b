import itertools
import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.errors import InputError
from mtlue_cli.images import folder as image_folder
from mtlue_cli.images.folder import (
    find_files_and_links,
    find_images,
    list_folder,
    match_labels,
    may_be_photo,
    refuse_nesting,
    released_names,
)
from mtlue_cli.tasks.paths import folded
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


def test_rows_without_file_are_all_listed_and_images_without_row_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.odd")
    assert match_labels(tmp_path, table("b.jpg", "c.odd")).unlabelled == ("a.jpg",)
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, table("a.jpg", "x.jpg", "sub/y.jpg", "../z.jpg"))
    assert caught.value.faults == (
        f"no file 'x.jpg' in {tmp_path}",
        f"no file 'sub/y.jpg' in {tmp_path}",
        "file name '../z.jpg' leaves the image folder",
    )


def test_rows_of_other_parts_are_not_unlabelled(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    assert match_labels(tmp_path, table("a.jpg"), {"b.jpg"}).unlabelled == ("c.jpg",)


def test_a_row_that_nearly_names_a_file_is_reported_with_that_name(tmp_path: Path) -> None:
    touch(tmp_path, "Case.jpg", "e\u0301.jpg", "suffix.jpg")
    places = ("row 2", "row 3", "row 4", "row 5")
    rows = replace(table("case.JPG", "\u00e9.jpg", "suffix.png", "x" * 5000), places=places)
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, rows)
    assert [fault.split(":")[0] for fault in caught.value.faults] == list(places)
    assert [fault.split(", but ")[-1] for fault in caught.value.faults[:-1]] == [
        "'Case.jpg', which differs in upper and lower case",
        f"{'e' + chr(0x301) + '.jpg'!r}, which differs in how its accents are encoded (NFC or NFD)",
        "'suffix.jpg'",
    ]


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
    assert list_folder(folder).links == [
        "far.jpg", "farther", "loop.jpg", "near.jpg", "nearby", "nothing.jpg", "round", "up",
    ]  # fmt: skip
    inside = table("a.jpg", "near.jpg", "nearby/b.jpg", "round/round/a.jpg", "up/photos/a.jpg")
    assert match_labels(folder, inside).unlabelled == ("far.jpg", "loop.jpg", "nothing.jpg", "sub/b.jpg")
    outside = ("far.jpg", "farther/c.jpg", "up/elsewhere/c.jpg")
    rows = replace(table("a.jpg", *outside, "nothing.jpg", "loop.jpg"), places=tuple(f"row {n}" for n in range(2, 8)))
    with pytest.raises(InputError, match="5 of 6 rows") as caught:
        match_labels(folder, rows)
    *leaving, nothing, loop = caught.value.faults
    assert leaving == [
        f"row {number}: file name {name!r} leaves the image folder by a symbolic link"
        for number, name in enumerate(outside, 3)
    ]
    assert nothing == "row 6: file 'nothing.jpg' is a broken symbolic link"
    assert loop.startswith("row 7: file 'loop.jpg' cannot be read: Too many levels")


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "photos", "a.jpg")
    (tmp_path / "link").symlink_to("photos")
    assert match_labels(tmp_path / "link", table("a.jpg")).unlabelled == ()
    with pytest.raises(InputError):
        refuse_nesting(tmp_path / "link", tmp_path / "photos" / "out")


def test_what_is_no_ordinary_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.odd")
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, table("folder.jpg", "pipe.jpg", "pipe.odd", "pipe.jpg/a.jpg"))
    assert caught.value.faults == (
        "file 'folder.jpg' is a folder, expected a file",
        "file 'pipe.jpg' is a FIFO, expected a file",
        "file 'pipe.odd' is a FIFO, expected a file",
        f"no file 'pipe.jpg/a.jpg' in {tmp_path}",
    )


def test_keeping_suffixes_keeps_names() -> None:
    assert released_names(["a.jpg", "a.png"], None) == {"a.jpg": "a.jpg", "a.png": "a.png"}


@pytest.mark.parametrize("out", ["images", "images/out", "."])
def test_nested_folders_are_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError):
        refuse_nesting(tmp_path / "images", tmp_path / out)
    refuse_nesting(tmp_path / "images", tmp_path / "images-protected")


def test_photos_that_are_not_read_are_named_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "reads_heic", lambda: False)
    touch(tmp_path, "a.jpg", "raw/b.CR2", "raw/c.cr2", "d.psd", "notes.txt", "g.jp2", "h.tga", ".x.cr2")
    (tmp_path / "e.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "f.jpg_large").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "scan").write_bytes(b"\x89PNG\r\n\x1a\n")
    match = match_labels(tmp_path, table("a.jpg"))
    assert match.unlabelled == ("g.jp2", "h.tga")
    assert set(match.unread) == {"raw/b.CR2", "raw/c.cr2", "d.psd", "e.HEIC", "f.jpg_large", "scan"}
    assert match.notes == (
        "1 photo not read and left out (.jpg_large: give the suffix of their format, such as .jpg): f.jpg_large",
        "1 photo not read and left out (.psd: convert to PNG first): d.psd",
        "1 photo not read and left out (HEIC: pip install 'mtlue[heic]', or convert to PNG first): e.HEIC",
        "2 photos not read and left out (RAW, .cr2: develop to TIFF or PNG first): raw/b.CR2, raw/c.cr2",
        "1 photo not read and left out (no suffix: give the suffix of their format, such as .jpg): scan",
    )
    with pytest.raises(InputError) as caught:
        match_labels(tmp_path, table("raw/b.CR2", "e.HEIC", "f.jpg_large"))
    first, second = caught.value.faults
    assert "'raw/b.CR2' is a RAW photo" in first
    assert "pip install 'mtlue[heic]'" in second
    monkeypatch.setattr(image_folder, "reads_heic", lambda: True)
    assert match_labels(tmp_path, table("a.jpg")).unlabelled == ("e.HEIC", "g.jp2", "h.tga")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.jpg", "A.png"),
        ("e\u0301.jpg", "\u00e9.png"),
        ("a\ufe0f.jpg", "a.png"),
        ("a\u200b.jpg", "a.png"),
        ("a\u00ad.jpg", "A.png"),
    ],
)
def test_names_that_some_file_system_takes_for_one_do_not_meet(one: str, other: str) -> None:
    names = released_names([one, other], ".png")
    assert folded(names[one]) != folded(names[other])


def test_what_may_be_a_photo_is_recognised_by_its_name_or_content(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    for name in ("orphan", "orphan.bak", ".orphan", "orphan.heic", "raw.dng", "drawing.svg"):
        (tmp_path / name).write_bytes(content if "orphan" in name else b"")
        assert may_be_photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("notes")
    assert not may_be_photo(tmp_path / "notes.txt")
    files, links = find_files_and_links(tmp_path)
    assert (".orphan" in files, links) == (True, [])
