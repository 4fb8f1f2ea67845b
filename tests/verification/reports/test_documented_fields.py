"""``docs/verify-result.md`` says what the types of the result document say, and documents are of these types.

``MTLUE_WRITE_DOCS=1 python -m pytest tests/verification/reports/test_documented_fields.py`` writes it anew.
"""

import inspect
import json
import os
import re
import types
from collections.abc import Iterator, Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from mtlue_cli.documents import Document
from mtlue_cli.verification.document import VerifyDocument
from tests.verification.reports import documents

PAGE = Path(__file__).parents[3] / "docs" / "verify-result.md"
MADE = re.compile("(?<=<!-- made from the types -->\n).*(?=<!-- end of what is made -->)", re.DOTALL)
WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any value", types.NoneType: "null"}


def described(kind: type[Document]) -> tuple[str, dict[tuple[str, ...], str]]:
    """What a class is, and its fields, those that share a line together, with their meaning."""
    summary, _, attributes = inspect.cleandoc(kind.__doc__ or "").replace("``", "`").partition("\n\nAttributes:\n")
    lines = re.sub(r"\n {8}", " ", attributes).splitlines()
    pairs = [line.strip().split(": ", 1) for line in lines]
    return summary, {tuple(names.split(", ")): meaning for names, meaning in pairs}


def in_words(kind: Any) -> str:  # noqa: ANN401 - whatever a field is annotated with
    """A type for a reader of JSON."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        return " or ".join(map(in_words, inner))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {several(inner[0])}" if inner[1:] == (...,) else f"pair of {several(inner[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "object" if inner[1] is Any else f"object of {several(inner[1])}"
    if kind in WORDS:
        return WORDS[kind]
    if issubclass(kind, IntEnum):
        return "integer"
    if issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def several(kind: Any) -> str:  # noqa: ANN401 - likewise
    """A type in the plural."""
    words = in_words(kind)
    return f"{words}s" if kind in WORDS else f"({words})" if " or " in words else words


def used(kind: Any) -> Iterator[type[Document]]:  # noqa: ANN401 - likewise
    """Classes of documents in an annotation."""
    if inspect.isclass(kind) and issubclass(kind, Document):
        yield kind
    for inner in get_args(kind):
        yield from used(inner)


def made() -> str:
    """A section for every class, in the order in which a reader meets them."""
    kinds: list[type[Document]] = [VerifyDocument]
    text = ""
    for kind in kinds:
        hints = get_type_hints(kind)
        found = dict.fromkeys(one for hint in hints.values() for one in used(hint))
        kinds += [one for one in found if one not in kinds]
        keys = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        summary, fields = described(kind)
        assert [name for names in fields for name in names] == list(keys), kind
        text += f"\n## {kind.__name__}\n\n{summary}\n\n| field | type | meaning |\n| --- | --- | --- |\n"
        for names, meaning in fields.items():
            shown = dict.fromkeys(in_words(hints[name]) for name in names)
            text += f"| {', '.join(f'`{keys[name]}`' for name in names)} | {'; '.join(shown)} | {meaning} |\n"
    return text + "\n"


def test_the_page_is_what_the_types_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    expected = MADE.sub(lambda _: made(), text)
    if os.environ.get("MTLUE_WRITE_DOCS"):
        PAGE.write_text(expected, encoding="utf-8")
    elif text != expected:
        pytest.fail(f"{PAGE.name} is stale: {(__doc__ or '').splitlines()[2]}")


@pytest.mark.parametrize(
    "document",
    [
        documents.protected(),
        documents.not_protected(),
        documents.stopped_early(),
        documents.with_new_victims(),
        documents.other_metric(),
        documents.inconclusive(),
        documents.failed_audit(),
        documents.generator(),
    ],
    ids=lambda document: document.reason,
)
def test_a_document_is_read_back_by_its_types(document: VerifyDocument) -> None:
    written = json.dumps(document.to_json(), allow_nan=False)
    assert msgspec.json.decode(written, type=VerifyDocument) == document


def test_links_of_the_page_lead_to_a_heading() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, flags=re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings
