"""Properties of codes: their angles, what they depend on, and what a longer class list leaves as it was."""

import math
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator import codebook
from mtlue_cli.generator.codebook import (
    CODE_VERSION,
    COMMON,
    Codebook,
    Origin,
    centred_codes,
    evenness,
    normal_numbers,
    origins,
    reserved_axes,
)
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet

KEY = Key(bytes(range(32)))
REPEATABLE = settings(derandomize=True, deadline=None, database=None)
keys = st.binary(min_size=32, max_size=32).map(Key)
names = st.text(max_size=8)
sizes = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def tasks_of(counts: list[int]) -> TaskSet:
    return TaskSet(
        tuple(
            Task(f"task {number}", TaskKind.CATEGORICAL, tuple(f"class {index}" for index in range(count)))
            for number, count in enumerate(counts)
        )
    )


def cosines(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit = [codes / np.linalg.norm(codes, axis=1, keepdims=True) for codes in (first, second)]
    product: npt.NDArray[np.float64] = unit[0] @ unit[1].T
    return product


@settings(REPEATABLE, max_examples=40)
@given(keys, sizes)
def test_codes_of_a_task_form_a_simplex_and_tasks_are_orthogonal(key: Key, counts: list[int]) -> None:
    tasks = tasks_of(counts)
    book = Codebook(key, tasks, sum(reserved_axes(count) for count in counts))
    for task in tasks:
        if task.num_classes > 1:
            codes = book.of_task(task.name)
            codes = codes - codes.mean(axis=0)
            expected = np.where(np.eye(len(codes)), 1.0, -1 / (len(codes) - 1))
            np.testing.assert_allclose(cosines(codes, codes), expected, atol=1e-9)
            np.testing.assert_allclose(np.linalg.norm(codes, axis=1), np.sqrt(1 - 1 / len(codes)))
    stacked = [book.of_task(name) for name in tasks.names]
    for index, codes in enumerate(stacked):
        for other in stacked[:index]:
            np.testing.assert_allclose(codes @ other.T, 0.0, atol=1e-9)


@settings(REPEATABLE, max_examples=40)
@given(keys, st.integers(1, 40), st.integers(1, 40), st.integers(2, 48))
def test_added_classes_leave_the_codes_of_the_old_ones(key: Key, few: int, more: int, dimension: int) -> None:
    before, after = (Codebook(key, tasks_of([3, count, 2]), dimension) for count in (few, few + more))
    old, new = before.of_task("task 1"), after.of_task("task 1")[:few]
    np.testing.assert_allclose(new, old, atol=1e-9)
    same = (before.of_task(name) - after.of_task(name) for name in ("task 0", "task 2"))
    first, last = (float(np.abs(difference).max()) for difference in same)
    assert first == 0
    assert last == 0 or reserved_axes(few) != reserved_axes(few + more)


@settings(REPEATABLE, max_examples=30)
@given(keys, keys, names, names)
def test_other_keys_tasks_and_classes_are_unrelated(key: Key, other: Key, task: str, name: str) -> None:
    drawn = normal_numbers(key, [("class", task, name)], 4096)[0]
    assert abs(drawn.mean()) < 0.1
    assert drawn.std() == pytest.approx(1.0, abs=0.1)
    others = [
        normal_numbers(key, [("class", task, f"{name}x")], 4096)[0],
        normal_numbers(key, [("class", name, task)], 4096)[0],
    ]
    others += [normal_numbers(key, [("class", f"{task}{name}", "")], 4096)[0]] if task and name else []
    others += [normal_numbers(other, [("class", task, name)], 4096)[0]] if other != key else []
    related = [abs(np.corrcoef(drawn, numbers)[0, 1]) > 0.1 for numbers in others]
    assert related == [False, task == name, *related[2:]]
    assert not any(related[2:])


def test_numbers_are_those_of_the_documented_stream() -> None:
    # Pinned: another machine or version must draw the same codes from the same key.
    drawn = normal_numbers(KEY, [("class", "age", "0-2")], 5)[0]
    assert (drawn * 2**20).tolist() == [-2120524, -1173320, -2036989, -1240262, 421269]


def test_codes_are_those_of_this_version() -> None:
    # Pinned with the number: who changes the construction raises it, so that releases do not go on with other codes.
    book = Codebook(KEY, tasks_of([3, 2]), 4)
    drawn = np.concatenate([book.of_task("task 0"), book.of_task("task 1")])
    expected = [
        *([0.0, 0.0, 0.0, 0.0], [0.321, -0.0485, -0.9458, 1.0], [0.5006, 0.5546, -1.1754, -0.2455]),
        *([0.0, 0.0, 0.0, 0.0], [-1.2088, 0.6661, -0.2408, 0.1926]),
    ]
    assert CODE_VERSION == 2
    np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_a_number_that_is_zero_is_no_direction_and_the_first_axis_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal_numbers

    def zeros(key: Key, names: Iterable[tuple[str, ...]], count: int) -> npt.NDArray[np.float64]:
        named = list(names)
        return rows(key, named, count) * (named[0][0] == "axis")

    monkeypatch.setattr(codebook, "normal_numbers", zeros)
    codes = Codebook(KEY, tasks_of([2]), 3).of_task("task 0")
    assert np.linalg.norm(codes[1] - codes[0]) == pytest.approx(math.sqrt(2))


def test_another_process_draws_the_same() -> None:
    program = (
        "from tests.generator.test_codebook import KEY, tasks_of; from mtlue_cli.generator.codebook import Codebook;"
        "print(Codebook(KEY, tasks_of([5, 2]), 30).of_task('task 1').tobytes().hex())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.decode().strip()
    assert printed == Codebook(KEY, tasks_of([5, 2]), 30).of_task("task 1").tobytes().hex()


def test_beyond_the_space_codes_are_nearly_orthogonal() -> None:
    tasks = tasks_of([2] * 100)
    book = Codebook(KEY, tasks, 60)
    apart = {name: np.diff(book.of_task(name), axis=0) for name in tasks.names}
    between = np.array([cosines(apart[a], apart[b])[0, 0] for a in tasks.names for b in tasks.names if a < b])
    assert np.abs(between).max() < 0.6
    # 60 tasks of an axis fill a frame, 40 begin the next.
    exact = 60 * 59 // 2 + 40 * 39 // 2
    assert int((np.abs(between) < 1e-9).sum()) == exact
    many = Codebook(KEY, tasks_of([400]), 135).of_task("task 0")
    many = many - many[:136].mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), math.sqrt(135 / 136))
    off = cosines(many, many)[~np.eye(400, dtype=bool)]
    assert np.abs(off).max() < 0.5
    assert np.sqrt(np.square(off).mean()) < 0.1


def test_a_space_has_a_dimension() -> None:
    with pytest.raises(ValueError, match="at least one dimension"):
        Codebook(KEY, tasks_of([2]), 0)
    assert np.abs(np.diff(Codebook(KEY, tasks_of([2]), 1).of_task("task 0"), axis=0)) == pytest.approx(math.sqrt(2))


def test_the_rarest_class_can_be_painted_as_nothing_and_the_others_as_orthogonal() -> None:
    shares = np.array([0.3, 0.3, 0.1, 0.3])
    drawn = centred_codes(np.eye(4), shares, Origin(1.0, 1.0))
    assert not drawn[2].any()
    others = np.delete(drawn, 2, axis=0)
    np.testing.assert_allclose(others @ others.T, 4 / 3 * np.eye(3), atol=1e-12)
    for misleads in (1.0, 0.5, 0.0):
        for even in (0.5, 0.0):
            whole, less = (centred_codes(np.eye(4), shares, Origin(misleads, share)) for share in (1.0, even))
            np.testing.assert_allclose(shares @ less, even * (shares @ whole), atol=1e-12)
            np.testing.assert_allclose(np.diff(less, axis=0), np.diff(whole, axis=0), atol=1e-12)
            np.testing.assert_allclose(less[0] - less[1], drawn[0] - drawn[1], atol=1e-12)


def test_in_the_middle_codes_are_a_simplex_of_unit_length() -> None:
    drawn = centred_codes(np.eye(5), np.array([0.1, 0.3, 0.2, 0.2, 0.2]), Origin(0.0, 1.0))
    np.testing.assert_allclose(drawn @ drawn.T, np.where(np.eye(5), 1.0, -0.25), atol=1e-12)


def test_a_clean_image_passes_for_rare_classes_where_all_are_frequent_and_for_the_usual_one_where_one_is_rare() -> None:
    even, uneven = np.array([0.6, 0.4]), np.array([0.98, 0.02])
    # Columns of many classes may mislead nearly altogether; columns of two would take too much of the power.
    assert origins([np.full(9, 1 / 9)]) == [Origin(0.9, 1.0)]
    assert 0.4 < origins([even])[0].towards_rarest < 0.9
    assert origins([even] * 40) == origins([even]) * 40
    both = origins([even, uneven])
    assert (both[0].from_mean, both[0].towards_rarest) == (1.0, both[1].towards_rarest)
    assert both[1].from_mean < 0.3
    for own, origin, nearest in ((even, both[0], 1), (uneven, both[1], 0)):
        assert int(np.linalg.norm(centred_codes(np.eye(2), own, origin), axis=1).argmin()) == nearest
    assert evenness(np.array([0.5, 0.5])) == pytest.approx(1)
    assert evenness(uneven) == pytest.approx(0.1414, abs=1e-4)


def test_a_task_of_one_class_and_no_task_at_all() -> None:
    assert origins([]) == []
    (alone,) = origins([np.array([1.0])])
    assert not centred_codes(np.eye(1), np.array([1.0]), alone).any()


columns = st.lists(st.lists(st.integers(1, 500), min_size=2, max_size=12), min_size=1, max_size=5)


@given(columns)
def test_every_class_is_drawn_and_what_is_common_is_limited(counts: list[list[int]]) -> None:
    shares = [np.array(own) / sum(own) for own in counts]
    power = common = 0.0
    for own, origin in zip(shares, origins(shares), strict=True):
        drawn = evenness(own) * centred_codes(np.eye(len(own)), own, origin)
        assert np.linalg.norm(drawn, axis=1).min() > 0
        common += float(np.square(own @ drawn).sum())
        power += float(own @ np.square(drawn).sum(axis=1))
    assert common <= COMMON * power
