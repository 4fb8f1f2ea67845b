import hashlib
from pathlib import Path

import numpy as np
import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import LabelTable, Task, TaskSet
from mtlue_cli.verification.split import Side, divide, is_held_out, split_by_content

CONTENTS = [hashlib.sha256(bytes([row % 256, row // 256])).hexdigest() for row in range(1000)]


def test_sides_cover_all_rows_in_about_the_asked_share() -> None:
    train, test = split_by_content(CONTENTS, 0.2, seed=0)
    assert sorted(train + test) == list(range(1000))
    assert 150 < len(test) < 250


def test_a_file_stays_on_its_side_whatever_else_is_there() -> None:
    _, test = split_by_content(CONTENTS, 0.2, seed=0)
    alone = [row for row in range(1000) if is_held_out(CONTENTS[row], 0.2, seed=0)]
    _, reversed_test = split_by_content(CONTENTS[::-1], 0.2, seed=0)
    assert alone == test
    assert [999 - row for row in reversed_test][::-1] == test


def test_a_larger_share_holds_the_smaller_and_a_seed_draws_anew() -> None:
    small = set(split_by_content(CONTENTS, 0.2, seed=0)[1])
    assert small < set(split_by_content(CONTENTS, 0.4, seed=0)[1])
    assert small != set(split_by_content(CONTENTS, 0.2, seed=1)[1])


@pytest.fixture
def images(tmp_path: Path) -> Side:
    """Twenty files, the last two of equal content; task ``t`` is labelled in rows 0 to 9."""
    names = tuple(f"{number:02d}" for number in range(20))
    for name in names:
        (tmp_path / name).write_text("same" if name in ("18", "19") else name)
    column = np.array([0, 1] * 5 + [-1] * 10)
    return Side(tmp_path, LabelTable(names, {"t": column}, TaskSet((Task("t", TaskKind.BINARY, ("0", "1")),))))


def test_divide_holds_out_a_share_in_order(images: Side) -> None:
    seen: list[int] = []
    sides = divide(images, None, fraction=0.5, on_file=lambda: seen.append(1))
    train, test = sides.train.table.file_names, sides.test.table.file_names
    assert sorted(train + test) == list(images.table.file_names)
    assert list(train) == sorted(train)
    assert ("18" in train) == ("19" in train)
    assert len(seen) == 20
    assert sides.test.table.columns["t"].tolist() == [images.table.columns["t"][int(name)] for name in test]
    assert sides.notes == (f"only {len(test)} test images: the figures are coarse",)


def test_divide_leaves_out_before_it_limits(images: Side) -> None:
    test = Side(images.folder, images.table.take(range(5, 20)))
    sides = divide(images, test, left_out=["00", "02"], limit=3)
    assert sides.train.table.file_names == ("01", "03", "04")


def test_few_shared_test_images_are_noted_and_many_are_refused(images: Side) -> None:
    mostly_others = Side(images.folder, images.table.take([1, *range(2, 20), *range(2, 20)]))
    sides = divide(images, mostly_others, limit=2)
    assert sides.test is mostly_others
    assert sides.notes[0].startswith("1 of 37 test images are training images too")
    with pytest.raises(InputError, match="2 of 20 test images are training images too") as caught:
        divide(images, images, limit=2)
    assert caught.value.faults == ("00", "01")


def test_too_few_images_are_an_error(images: Side) -> None:
    with pytest.raises(InputError, match="1 training and 20 test images are too few"):
        divide(images, images, limit=1)


def test_a_task_without_test_labels_is_an_error(images: Side) -> None:
    test = Side(images.folder, images.table.take([10, 11]))
    with pytest.raises(InputError, match="cannot be tested") as caught:
        divide(images, test, limit=5)
    assert caught.value.faults == ("task 't': no test image has a label",)


def test_files_that_cannot_be_read_are_named_together(images: Side) -> None:
    for name in ("03", "07"):
        (images.folder / name).unlink()
    with pytest.raises(InputError, match="2 of 20 images") as caught:
        divide(images, None)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["03", "07"]
    intact = Side(images.folder, images.table.take([0, 1]))
    with pytest.raises(InputError, match="2 of 20 images"):
        divide(intact, images)
