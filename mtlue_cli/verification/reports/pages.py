"""What all HTML pages share: how their templates are found, and how texts and missing figures are written."""

from typing import TYPE_CHECKING

from mtlue_cli.verification.reports.wording import NOTHING, clean_text

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment(package: str = "mtlue_cli.verification", folder: str = "reports") -> "Environment":
    """Templates of a folder, and ``report.css``; every text is escaped, and an unknown name is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("mtlue_cli.verification", "reports")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )


def _finalize(value: object) -> object:
    """Text as a page can carry it, a missing figure as a dash; what a macro made is escaped already and stays."""
    if value is None:
        return NOTHING
    return clean_text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
