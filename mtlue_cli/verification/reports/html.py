"""A verification as one self-contained page: no script, no request, light and dark, wide and narrow."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.images.contact_sheet import AMPLIFICATION
from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.reports import curves, trade_off, wording
from mtlue_cli.verification.reports.heat_map import heat_map
from mtlue_cli.verification.reports.pages import page_environment
from mtlue_cli.verification.reports.wording import NOTHING, SIGNS

TEMPLATE = "report.html.jinja"

LISTED_FAULTS = 500
"""Faults of the audit that are shown; the rest is counted."""

MOST_SAMPLES = 6
MOST_SIDE = 192
"""Longer side of a picture in pixels; larger images are scaled down."""


@dataclass(frozen=True)
class Sample:
    """One image before and after, as PNG data URIs.

    Attributes:
        original, protected: The two images.
        change: ``protected - original`` times :data:`AMPLIFICATION` on grey.
        largest_change: Largest absolute change of a colour value, in 255ths, before any scaling.
        width, height: Size of the images in pixels, before any scaling.
        maps: Names and pictures of its masks and maps.
    """

    original: str
    protected: str
    change: str
    largest_change: int
    width: int
    height: int
    maps: tuple[tuple[str, str], ...] = ()


def write_html(document: VerifyDocument, samples: Sequence[Sample] = ()) -> str:
    """The result document of ``mtlue verify`` as an HTML page.

    Every text of the document is escaped. A content security policy in the page forbids scripts and everything that
    would have to be loaded; the pictures of ``samples`` are data URIs. The same arguments give the same page.
    """
    environment = page_environment()
    environment.filters.update(
        counted=counted,
        elapsed=wording.elapsed,
        epoch_remark=wording.epoch_remark,
        figure=lambda value, task: wording.figure_of(task, value),
        fraction=wording.fraction,
        mean=wording.mean_of,
        percent=wording.percent,
        setting=_setting,
        trajectory=wording.trajectory_in_words,
        victim=wording.victim_in_words,
    )
    conditions = wording.worst_first(document.conditions)
    return environment.get_template(TEMPLATE).render(
        document=document,
        conditions=conditions,
        judged=[one for one in conditions if one.role is Role.JUDGED],
        flip=wording.flip_in_words(document.flip),
        several_seeds=any(len(one.seeds) > 1 for one in conditions),
        sign=SIGNS[document.verdict],
        heat_map=heat_map(document),
        charts=curves.charts(document),
        trajectories=curves.trajectories(document),
        trade_off=trade_off.trade_off(document),
        trade_plot=trade_off,
        plot=curves,
        samples=samples,
        amplification=AMPLIFICATION,
        listed_faults=LISTED_FAULTS,
        nothing=NOTHING,
    )


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


def draw_samples(
    originals: Sequence[npt.NDArray[np.uint8]],
    protected: Sequence[npt.NDArray[np.uint8]],
    maps: Sequence[Mapping[str, npt.NDArray[np.uint8]]] = (),
) -> tuple[Sample, ...]:
    """Draw the first :data:`MOST_SAMPLES` images.

    Args:
        originals: Images of ``(H, W, 3)`` uint8 each.
        protected: Of each the protected version, of the same shape and type.
        maps: Of each its masks and maps, coloured, ``(h, w, 3)`` uint8, by name; none: of no image.

    Raises:
        ValueError: The sequences differ in length, or an image has another shape or type.
    """
    beside = maps or [{}] * len(originals)
    found = list(zip(originals, protected, beside, strict=True))[:MOST_SAMPLES]
    return tuple(_draw(*one) for one in found)


def _draw(
    original: npt.NDArray[np.uint8], protected: npt.NDArray[np.uint8], maps: Mapping[str, npt.NDArray[np.uint8]]
) -> Sample:
    for image in (original, protected):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8, found {image.shape} {image.dtype}")
    if original.shape != protected.shape:
        raise ValueError(f"original and protected differ in shape: {original.shape} and {protected.shape}")
    change = protected.astype(np.int16) - original.astype(np.int16)
    amplified = np.clip(128 + AMPLIFICATION * change, 0, 255).astype(np.uint8)
    height, width, _ = original.shape
    return Sample(
        original=_data_uri(original),
        protected=_data_uri(protected),
        change=_data_uri(amplified),
        largest_change=int(np.abs(change).max()),
        width=width,
        height=height,
        maps=tuple((task, _data_uri(picture, Image.Resampling.NEAREST)) for task, picture in maps.items()),
    )


def _data_uri(pixels: npt.NDArray[np.uint8], how: Image.Resampling = Image.Resampling.LANCZOS) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((MOST_SIDE, MOST_SIDE), how)
    written = io.BytesIO()
    picture.save(written, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
