"""The page of ``trace judge``, for readers who do not know the program."""

from mtlue_cli.verification.reports.pages import page_environment
from mtlue_cli.verification.reports.wording import NOTHING
from mtlue_cli.workflows.trace.judge import JudgeResult, TraceVerdict

SIGNS = {
    TraceVerdict.TRAINED: ("protected", "\N{HEAVY CHECK MARK}"),
    TraceVerdict.NO_EVIDENCE: ("inconclusive", "\N{EN DASH}"),
    TraceVerdict.TOO_FEW: ("inconclusive", "?"),
}
"""Verdict to its colour and the sign beside its word."""


def write_page(result: JudgeResult) -> str:
    """A result as one self-contained HTML page: no script, no request. All texts are escaped."""
    environment = page_environment("mtlue_cli.workflows", "trace")
    environment.filters["p"] = p_in_words
    colour, sign = SIGNS[result.verdict]
    return environment.get_template("trace.html.jinja").render(result=result, colour=colour, sign=sign)


def p_in_words(p: float | None) -> str:
    """A p-value for a reader."""
    if p is None:
        return NOTHING
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
