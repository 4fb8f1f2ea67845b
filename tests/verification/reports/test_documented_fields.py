"""The documentation of the result document and the documents agree, field by field."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.verification.reports import documents

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "verify-result.md"
Parts = list[tuple[str, dict[str, Any]]]


def documented_fields() -> dict[str, list[str]]:
    """Heading to the fields in the table below it, and the headings that their types name."""
    sections = re.split(r"^## ", DOCUMENTATION.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {section.splitlines()[0]: re.findall(r"^\| `(\w+)` \|", section, flags=re.M) for section in sections}


def _measures(holder: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for value in holder.values():
        if isinstance(value, dict) and "mean" in value:
            yield "Measure", value


def _learned(holder: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if holder["learned"] is not None:
        yield "Learned", holder["learned"]
        yield from _measures(holder["learned"])


def document_parts(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a document with the heading that describes it."""
    yield "Document", document
    for title, name in (("Audit", "audit"), ("Counts", "counts"), ("Flip", "flip")):
        if document[name] is not None:
            yield title, document[name]
    yield from (("Probe", probe) for probe in document["probes"])
    yield from (("Not tested", part) for part in document["not_tested"])
    for condition in document["conditions"]:
        yield "Condition", condition
        yield "Victim", condition["victim"]
        yield from _learned(condition)
        for task in condition["tasks"]:
            yield "Task", task
            yield from _measures(task)
            yield from _learned(task)
        for average in (condition["average"], condition["best_epoch_average"]):
            if average is not None:
                yield "Average", average
                yield from _measures(average)
        for curve in condition["curves"]:
            yield "Curve", curve
            yield from (("Epoch", epoch) for epoch in curve["epochs"])


@pytest.mark.parametrize(
    "document",
    [
        documents.protected(),
        documents.not_protected(),
        documents.stopped_early(),
        documents.other_metric(),
        documents.inconclusive(),
        documents.failed_audit(),
    ],
    ids=["protected", "not protected", "stopped early", "other metric", "inconclusive", "failed audit"],
)
def test_documents_have_exactly_the_documented_fields(document: dict[str, Any]) -> None:
    documented = documented_fields()
    for title, part in document_parts(document):
        assert sorted(part) == sorted(documented[title]), title


def test_every_documented_object_occurs() -> None:
    assert {title for title, _ in document_parts(documents.not_protected())} == set(documented_fields())


def test_links_of_the_documentation_lead_to_a_heading() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    targets = set(re.findall(r"\]\(#([\w-]+)\)", text))
    assert targets <= {title.lower().replace(" ", "-") for title in documented_fields()}
