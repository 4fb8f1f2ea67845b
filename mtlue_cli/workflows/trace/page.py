"""The page of ``trace judge``, for readers who do not know the program."""

from mtlue_cli.verification.reports.wording import clean_text
from mtlue_cli.workflows.trace.judge import JudgeResult, TraceVerdict

SIGNS = {
    TraceVerdict.TRAINED: ("protected", "\N{HEAVY CHECK MARK}"),
    TraceVerdict.NO_EVIDENCE: ("inconclusive", "\N{EN DASH}"),
    TraceVerdict.TOO_FEW: ("inconclusive", "?"),
}
"""Verdict to its colour and the sign beside its word."""


def write_page(result: JudgeResult) -> str:
    """A result as one self-contained HTML page: no script, no request. All texts are escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("mtlue_cli.workflows", "trace"), PackageLoader("mtlue_cli.verification", "reports")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: (
            clean_text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
        ),
    )
    environment.filters["p"] = p_in_words
    colour, sign = SIGNS[result.verdict]
    return environment.get_template("trace.html.jinja").render(result=result, colour=colour, sign=sign)


def p_in_words(p: float | None) -> str:
    """A p-value for a reader."""
    if p is None:
        return "\N{EN DASH}"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _finalize(value: object) -> object:
    """Text as a page can carry it; what a macro made is escaped already and stays."""
    return clean_text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
