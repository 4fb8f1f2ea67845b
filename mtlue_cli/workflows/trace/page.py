"""The page of ``trace judge``, for readers who do not know the program."""

from mtlue_cli.verification.reports.pages import page_environment
from mtlue_cli.verification.reports.wording import NOTHING
from mtlue_cli.workflows.trace.judge import JudgeResult, TraceVerdict
from mtlue_cli.workflows.trace.ranks import p_in_words

SIGNS = {
    TraceVerdict.TRAINED: ("protected", "\N{HEAVY CHECK MARK}"),
    TraceVerdict.NO_EVIDENCE: ("inconclusive", "\N{EN DASH}"),
    TraceVerdict.TOO_FEW: ("inconclusive", "?"),
}
"""Verdict to its colour and the sign beside its word."""


def write_page(result: JudgeResult) -> str:
    """A result as one self-contained HTML page: no script, no request. All texts are escaped."""
    environment = page_environment("mtlue_cli.workflows", "trace")
    environment.filters["p"] = lambda p: NOTHING if p is None else p_in_words(p)
    colour, sign = SIGNS[result.verdict]
    return environment.get_template("trace.html.jinja").render(result=result, colour=colour, sign=sign)
