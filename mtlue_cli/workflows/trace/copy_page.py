"""The result of ``mtlue trace copy`` as one self-contained page: no script, no request."""

from importlib.resources import files
from typing import TYPE_CHECKING

from mtlue_cli.choices import ExitCode
from mtlue_cli.verification.reports.wording import clean_text

if TYPE_CHECKING:
    from mtlue_cli.workflows.trace.copy import CopyFile, CopyResult

LISTED = 500
"""Copies that the page lists: those that were not measured and those with the least left come first."""

_LOOKS = {ExitCode.SUCCESS: ("protected", "✓"), ExitCode.NOT_PROTECTED: ("not-protected", "✗")}


def write_page(result: "CopyResult") -> str:
    """The result as an HTML page; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mtlue_cli.workflows", "trace"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            clean_text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
        ),
    )
    from markupsafe import Markup

    look, sign = _LOOKS.get(result.exit_code, ("inconclusive", "?"))
    style = files("mtlue_cli.verification.reports").joinpath("report.css").read_text(encoding="utf-8")
    heading = "Nothing measured" if result.share is None else f"{result.share.mean:.0%} of the perturbation is left"
    return environment.get_template("copy.html.jinja").render(
        result=result,
        rows=result.rows(),
        files=sorted(result.files, key=_least_first)[:LISTED],
        below=frozenset(result.below),
        heading=heading,
        look=look,
        sign=sign,
        css=Markup(style),
    )


def _least_first(one: "CopyFile") -> tuple[bool, float]:
    return one.share is not None, one.share or 0.0
