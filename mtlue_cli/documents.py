"""JSON documents: their types are their schema."""

import json
from typing import Any, TypeVar

import msgspec


class Document(msgspec.Struct, frozen=True):
    """A JSON object that the program reads or writes: its fields are the object's, in the order of the class."""

    def to_json(self) -> dict[str, Any]:
        """The document as a JSON reader gets it; values of no type that JSON has as text.

        Raises:
            ValueError: A number is not finite, which JSON cannot hold.
        """
        found: dict[str, Any] = json.loads(json.dumps(msgspec.to_builtins(self, enc_hook=str), allow_nan=False))
        return found


Part = TypeVar("Part", bound=Document)


def part_of(whole: Document, kind: type[Part]) -> Part:
    """The fields of ``whole`` that ``kind``, a base of its class, has."""
    return kind(**{name: getattr(whole, name) for name in kind.__struct_fields__})
