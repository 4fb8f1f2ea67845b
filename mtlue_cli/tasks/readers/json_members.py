"""A large JSON document, read entry by entry: an element of a list of the document, or a member that is none."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.text import MOST_ENTRY, read_text
from mtlue_cli.tasks.wording import quoted

_SPACE = re.compile(r"[ \t\n\r]*")


def read_members(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and values of the members of an object; for a list, an iterator over its elements, to be used at once.

    Raises:
        InputError: It is no JSON object, a name appears twice, or an entry is too long.
    """
    document = _Document(path, read_text(path))
    if not document.takes("{"):
        document.value()
        raise InputError(f"{path} is not COCO: expected an object with images, annotations and categories")
    names: set[str] = set()
    while not document.takes("}"):
        if names:
            document.expect(",")
        name = document.value()
        if not isinstance(name, str) or name in names:
            raise InputError(f"{path} is not JSON: expected a name that is new, found {quoted(str(name))}")
        names.add(name)
        document.expect(":")
        if document.takes("["):
            elements = document.elements()
            yield name, elements
            for _ in elements:
                pass
        else:
            yield name, document.value()
    document.end()


class _Document:
    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text, self._at = path, text, 0
        self._start, self._window = 0, text[:MOST_ENTRY]
        self._decoder = json.JSONDecoder()

    def takes(self, mark: str) -> bool:
        """Skip space, and the character ``mark`` if it is next; whether it was."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it fits everywhere
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found

    def expect(self, mark: str) -> None:
        """:meth:`takes`, or InputError."""
        if not self.takes(mark):
            raise self._fault(f"Expecting {mark!r}", self._at)

    def end(self) -> None:
        """InputError if anything follows."""
        self.takes("")
        if self._at < len(self._text):
            raise self._fault("Extra data", self._at)

    def elements(self) -> Iterator[Any]:
        """Those of a list whose bracket was taken."""
        is_first = True
        while not self.takes("]"):
            if not is_first:
                self.expect(",")
            is_first = False
            yield self.value()

    def value(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        """The next value."""
        self.takes("")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._at - self._start)
                if end < len(self._window) or self._is_last():  # a number may go on behind the window
                    self._at = self._start + end
                    return value
                fault: Exception | None = None
            except RecursionError as error:
                raise InputError(f"{self._path} is not JSON: {error}") from error
            except ValueError as error:
                fault = error
            if self._start == self._at and self._window:
                if isinstance(fault, json.JSONDecodeError) and self._is_last():
                    raise self._fault(fault.msg, self._start + fault.pos) from fault
                if fault is not None and not isinstance(fault, json.JSONDecodeError):
                    raise self._fault("the entry here holds a number of too many digits", self._at) from fault
                raise self._fault(f"an entry is damaged, or longer than {MOST_ENTRY:,} characters", self._at)
            self._start, self._window = self._at, self._text[self._at : self._at + MOST_ENTRY]
            if not self._window:
                raise self._fault("Expecting value", self._at)

    def _is_last(self) -> bool:
        return self._start + len(self._window) == len(self._text)

    def _fault(self, what: str, at: int) -> InputError:
        row = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        return InputError(f"{self._path} is not JSON: {what}: line {row} column {column} (char {at})")
