"""Files of others in a process of their own: whatever happens to it is an error here, and the next file is read."""

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from mtlue_cli.budget import Budget, ReadingThreads, limited_to
from mtlue_cli.errors import ImageError
from mtlue_cli.isolation import IsolationError, ProcessEndedError, asked, end_idle

ANSWERS = "tests.isolated_answers"


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    yield
    end_idle()


def said(how: str) -> bytes:
    with asked(ANSWERS, {"how": how}, 0) as answer:
        return answer.readall()


def test_one_process_answers_one_request_after_the_other() -> None:
    first = said("number")
    assert first != str(os.getpid()).encode()
    with pytest.raises(IsolationError, match=r"^the reason$"):
        said("refuse")
    assert said("number") == first


def test_the_end_of_the_process_is_an_error_and_the_next_request_starts_another() -> None:
    first = said("number")
    with pytest.raises(ProcessEndedError, match="crashed or took too much memory"):
        said("abort")
    assert said("number") != first


def test_a_process_that_ended_while_it_waited_is_replaced() -> None:
    os.kill(int(said("number")), 9)
    assert said("number")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is of this system")
def test_memory_is_limited() -> None:
    with pytest.raises(IsolationError, match="MemoryError"):
        said("fill")


def test_time_is_limited() -> None:
    with limited_to(Budget(max_seconds=0.5)), pytest.raises(ImageError, match=r"takes more than 0\.5 s"):
        said("hang")


def test_threads_that_are_interrupted_do_not_wait_for_the_answer() -> None:
    begun = threading.Event()

    def wait() -> None:
        with asked(ANSWERS, {"how": "hang"}, 0) as answer:
            begun.set()
            answer.readall()

    threads = ReadingThreads(1)
    waiting = threads.submit(wait)
    begun.wait()
    threads.shutdown(cancel_futures=True)
    with pytest.raises(KeyboardInterrupt):
        waiting.result()


def test_secrets_of_the_environment_are_not_given_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLUE_KEY", "f" * 64)
    process = int(said("number"))
    if sys.platform == "linux":
        with open(f"/proc/{process}/environ", "rb") as stream:
            assert b"MTLUE_KEY" not in stream.read()
