"""A verification as one self-contained page: no script, no request, light and dark, wide and narrow."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mtlue_cli.images.contact_sheet import AMPLIFICATION
from mtlue_cli.verification.reports import curves, wording
from mtlue_cli.verification.reports.heat_map import heat_map
from mtlue_cli.verification.reports.samples import Sample
from mtlue_cli.verification.reports.wording import NOTHING, SIGNS, Document

TEMPLATE = "report.html.jinja"

LISTED_FAULTS = 500
"""Faults of the audit that are shown; the rest is counted."""


def write_html(document: Document, samples: Sequence[Sample] = ()) -> str:
    """The result document of ``mtlue verify`` as an HTML page.

    Every text of the document is escaped. A content security policy in the page forbids scripts and everything that
    would have to be loaded; pictures are data URIs.

    Args:
        document: As read from JSON.
        samples: Pictures to show, from :func:`~mtlue_cli.verification.reports.samples.draw_samples`.

    Returns:
        A page in UTF-8 that names its encoding. The same arguments give the same page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mtlue_cli.verification", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
    environment.filters.update(
        average_learned=wording.average_learned,
        counted=wording.counted,
        elapsed=wording.elapsed,
        figure=lambda value, task: wording.figure_of(task, value),
        fraction=wording.fraction,
        mean=wording.mean_of,
        percent=wording.percent,
        setting=_setting,
        victim=wording.victim_in_words,
    )
    conditions = wording.worst_first(document["conditions"])
    worst = next((one for one in conditions if one["name"] == document["worst_condition"]), None)
    return environment.get_template(TEMPLATE).render(
        document=document,
        conditions=conditions,
        judged=[one for one in conditions if one["role"] == "judged"],
        worst=worst,
        counts=document.get("counts"),
        flip=wording.flip_in_words(document["flip"]),
        worst_learned=wording.average_learned(worst) if worst else None,
        several_seeds=any(len(one["seeds"]) > 1 for one in conditions),
        sign=SIGNS[document["verdict"]],
        heat_map=heat_map(document),
        charts=curves.charts(document),
        plot=curves,
        samples=samples,
        amplification=AMPLIFICATION,
        listed_faults=LISTED_FAULTS,
        nothing=NOTHING,
    )


def _finalize(value: object) -> object:
    """Text as a page can carry it, a missing figure as a dash; what a macro made is escaped already and stays."""
    if value is None:
        return NOTHING
    return wording.clean_text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _setting(value: Any) -> str:  # noqa: ANN401 - whatever a settings dataclass holds
    """A value of the settings for a reader."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_setting, value)) or NOTHING
    return str(value)
