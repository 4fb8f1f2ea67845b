"""The result of ``mtlue trace copy`` as one self-contained page: no script, no request."""

from typing import TYPE_CHECKING

from mtlue_cli.choices import ExitCode
from mtlue_cli.verification.reports.pages import page_environment

if TYPE_CHECKING:
    from mtlue_cli.workflows.trace.copy import CopyFile, CopyResult

LISTED = 500
"""Copies that the page lists: those that were not measured and those with the least left come first."""

_LOOKS = {ExitCode.SUCCESS: ("protected", "✓"), ExitCode.NOT_PROTECTED: ("not-protected", "✗")}


def write_page(result: "CopyResult") -> str:
    """The result as an HTML page; every text is escaped."""
    look, sign = _LOOKS.get(result.exit_code, ("inconclusive", "?"))
    heading = "Nothing measured" if result.share is None else f"{result.share.mean:.0%} of the perturbation is left"
    return (
        page_environment("mtlue_cli.workflows", "trace")
        .get_template("copy.html.jinja")
        .render(
            result=result,
            rows=result.rows(),
            files=sorted(result.files, key=_least_first)[:LISTED],
            below=frozenset(result.below),
            heading=heading,
            look=look,
            sign=sign,
        )
    )


def _least_first(one: "CopyFile") -> tuple[bool, float]:
    return one.share is not None, one.share or 0.0
