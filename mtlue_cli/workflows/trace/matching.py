"""Which released photo a copy may show: by its name, or by how it looks in thumbnails."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import decode_image
from mtlue_cli.release.records import FileRecord
from mtlue_cli.workflows.trace.alignment import WHOLE, Alignment, Box, Grey, part, turned
from mtlue_cli.workflows.trace.pictures import brightness

THUMBNAIL = 32
"""Side in pixels of the thumbnails that released photos are kept as."""

LIKELY = 8
"""Released photos that a copy is aligned with, the most similar first."""

_COMPARED = 16
_WINDOWS: tuple[Box, ...] = (
    WHOLE,
    *((edge, edge, 1.0 - edge, 1.0 - edge) for edge in (0.06, 0.12, 0.2)),
    *((left, top, left + 0.75, top + 0.75) for left in (0.0, 0.25) for top in (0.0, 0.25)),
    *((left, 0.0, left + 0.7, 1.0) for left in (0.0, 0.15, 0.3)),
    *((0.0, top, 1.0, top + 0.7) for top in (0.0, 0.15, 0.3)),
)
"""Parts of a released photo that a copy may show, for the comparison of thumbnails."""

_SIDES = (0.88, 0.78, 0.69, 0.61, 0.54, 0.47, 0.41, 0.36)
_STEP = 0.15


def _crops() -> Iterator[Box]:
    """Parts of all sizes down to about a third of a side, so close together that every crop has one like it."""
    for side in _SIDES:
        starts = np.linspace(0.0, 1.0 - side, math.ceil((1.0 - side) / (_STEP * side)) + 1).tolist()
        yield from ((left, top, left + side, top + side) for left in starts for top in starts)


_ALL_WINDOWS = (*_WINDOWS, *_crops())
"""The same for copies that are not found otherwise: forty times as many."""


class Names:
    """Released files by their names; folders and suffixes may differ."""

    def __init__(self, records: Sequence[FileRecord]) -> None:
        self._exact: dict[str, FileRecord] = {}
        self._stems: dict[str, list[FileRecord]] = defaultdict(list)
        for record in records:
            self._exact[_stem(record.file_name)] = record
            self._stems[PurePosixPath(record.file_name).stem.casefold()].append(record)

    def of(self, name: str) -> list[FileRecord]:
        """The released files that a copy called ``name``, relative POSIX, may come from."""
        exact = self._exact.get(_stem(name))
        return [exact] if exact is not None else self._stems.get(PurePosixPath(name).stem.casefold(), [])


class Thumbnails:
    """A perceptual hash of every released file: a thumbnail, of which crops and mirror images can be compared too.

    A hash of a few bits, such as pHash, saves memory that is not needed here, a kilobyte a photo, and does not find
    crops or mirror images.
    """

    def __init__(self, records: Sequence[FileRecord], pixels: npt.NDArray[np.uint8]) -> None:
        self.records = records
        self._pixels = pixels

    @classmethod
    def of_release(
        cls, release: Path, records: Iterable[FileRecord], workers: int, on_file: Callable[[], None]
    ) -> "Thumbnails":
        """Thumbnails of all files of a release that can be read."""

        def look(record: FileRecord) -> Grey | None:
            try:
                return thumbnail(brightness(decode_image(release / record.file_name)))
            except ImageError:
                return None  # inspect says so

        kept: list[FileRecord] = []
        found: list[npt.NDArray[np.uint8]] = []
        listed = list(records)
        with ReadingThreads(max_workers=max(1, workers)) as pool:
            for record, seen in zip(listed, pool.map(look, listed), strict=True):
                on_file()
                if seen is not None:
                    kept.append(record)
                    found.append(np.rint(seen).clip(0, 255).astype(np.uint8))
        return cls(kept, np.array(found, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL))

    def likely(self, copies: Sequence[Grey], *, cropped: bool = False) -> list[list[tuple[FileRecord, Alignment]]]:
        """Of each copy's thumbnail the released files that look most like it, with a rough alignment.

        Args:
            copies: The thumbnails.
            cropped: Whether small parts of released photos are compared too; takes some forty times as long.
        """
        if not self.records:
            return [[] for _ in copies]
        windows = _ALL_WINDOWS if cropped else _WINDOWS
        whole = _averages(0.0, 1.0)
        seen = [(whole @ turned(copy, turn) @ whole.T).ravel() for copy in copies for turn in range(8)]
        queries = _normal(np.stack(seen)).reshape(len(copies), 8, -1)
        best = np.full((len(copies), len(self.records)), -1.0, np.float32)
        how = np.zeros((len(copies), len(self.records)), np.int32)
        for number, window in enumerate(windows):
            known = self._shown(window)
            for turn in range(8):
                score = queries[:, turn] @ known.T
                better = score > best
                best[better] = score[better]
                how[better] = number * 8 + turn
        found: list[list[tuple[FileRecord, Alignment]]] = []
        for scores, kinds in zip(best, how, strict=True):
            order = np.argsort(-scores, kind="stable")[:LIKELY]
            found.append(
                [
                    (self.records[row], Alignment(int(kinds[row]) % 8, windows[int(kinds[row]) // 8], 0.0))
                    for row in order.tolist()
                ]
            )
        return found

    def _shown(self, window: Box) -> npt.NDArray[np.float32]:
        """What ``window`` shows of every thumbnail, normalised, ``(N, 256)``."""
        left, top, right, bottom = window
        down, across = _averages(top, bottom), _averages(left, right)
        small = np.einsum("ij,njk,lk->nil", down, self._pixels.astype(np.float32), across, optimize=True)
        return _normal(small.reshape(len(small), -1))


def thumbnail(values: Grey) -> Grey:
    """A picture, ``(32, 32)``."""
    return part(values, WHOLE, THUMBNAIL, THUMBNAIL)


def _averages(start: float, end: float) -> npt.NDArray[np.float32]:
    """A matrix that averages the values of a thumbnail's side from ``start`` to ``end`` into :data:`_COMPARED`."""
    edges = np.linspace(start, end, _COMPARED + 1)[:, None] * THUMBNAIL
    pixels = np.arange(THUMBNAIL)[None]
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    weights = overlap.clip(0.0)
    found: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def _normal(values: Grey) -> Grey:
    """Vectors of mean 0 and length 1."""
    centred = values - values.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-6), np.float32)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix().casefold()
