"""Limits of what a file may cost hold for a call and its threads, and stop work that nobody waits for."""

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from mtlue_cli.budget import Budget, ReadingThreads, budget, check_table, deadline, limited_to
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.options import option_fields, range_faults

TABLE = Path("labels.csv")


def test_each_limit_has_an_option_a_help_and_a_range() -> None:
    for found in option_fields(Budget):
        assert found.option.flag == f"--{found.name.replace('_', '-')}"
        assert found.option.help.startswith("Refuse ")
        assert range_faults(Budget(**{found.name: 0})) == [f"{found.option.flag} is 0, expected at least 1"]
    assert range_faults(Budget()) == []


@pytest.mark.parametrize(
    ("rows", "columns", "hint"), [(11, 1, "--max-rows"), (1, 6, "--max-columns"), (8, 4, "--max-cells")]
)
def test_a_table_beyond_a_limit_is_refused_with_the_option_that_sets_it(rows: int, columns: int, hint: str) -> None:
    with limited_to(Budget(max_rows=10, max_columns=5, max_cells=30)):
        check_table(TABLE, 10, 3)
        with pytest.raises(InputError, match="the limit is") as caught:
            check_table(TABLE, rows, columns)
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    check_table(TABLE, rows, columns)


def test_threads_have_the_limits_of_whoever_submits() -> None:
    with ReadingThreads(1) as threads:
        with limited_to(Budget(max_scans=3)):
            inside = threads.submit(budget)
        outside = threads.submit(budget)
    assert inside.result().max_scans == 3
    assert outside.result() == Budget()


def test_a_photo_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("mtlue_cli.budget.time.monotonic", lambda: now)
    with limited_to(Budget(max_seconds=2)):
        check = deadline()
    now = 102.0
    check()
    now = 102.5
    with pytest.raises(ImageError, match="takes more than 2 s to decode; set another limit with --max-seconds"):
        check()


@pytest.mark.parametrize("queued", [0, 3])
def test_an_interrupted_caller_waits_for_no_photo(queued: int) -> None:
    begun = threading.Event()

    def decode() -> None:
        check = deadline()
        while True:
            begun.set()
            check()
            time.sleep(0.001)

    threads = ReadingThreads(1)
    running, *waiting = [threads.submit(decode) for _ in range(1 + queued)]
    begun.wait()
    with pytest.raises(KeyboardInterrupt), threads:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        running.result()
    for each in waiting:
        with pytest.raises(CancelledError):
            each.result()


def test_threads_that_end_in_order_finish_their_work() -> None:
    with ReadingThreads(1) as threads:
        found = [threads.submit(deadline()) for _ in range(5)]
    assert [each.result() for each in found] == [None] * 5


def test_results_come_in_order_and_no_more_work_is_begun_than_threads_need() -> None:
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        return number**2

    with ReadingThreads(2) as threads:
        found = threads.map(square, range(10_000), chunksize=3)
        assert next(found) == 0
        threads.submit(lambda: None).result()
        assert len(begun) <= 3 * 6
        assert list(found) == [number**2 for number in range(1, 10_000)]
