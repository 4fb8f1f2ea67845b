"""Masks and maps: the label of every pixel, read from a picture or a NumPy array and checked.

A mask holds one number per pixel: grey, also in three equal channels, or palette (the index, not the colour) or array;
-1 is no class. Colour-coded masks are numbered by a palette file. Depth is grey of 8 or 16 bits, floating-point TIFF or
array; 0, NaN and infinite mean not measured. Normals are an array of unit vectors, or an 8-bit RGB picture that holds
``(n + 1) / 2``; what has no direction was not measured. An array may carry its channel first or last.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import ImageError
from mtlue_cli.images.arrays import Array, decode_array, encode_array, is_array
from mtlue_cli.images.decode import check_size, is_deep_colour, is_long_call, opened_image, read_content
from mtlue_cli.images.metadata import TURNS
from mtlue_cli.tasks.spec import UNLABELLED, LabelTable, Task, TaskSet, number_range
from mtlue_cli.tasks.wording import quoted

_MODES = frozenset({"1", "L", "P", "I", "F", "RGB"})
_LEAST_GAP = 16
"""Of two numbers, or of two colours in some channel, that a compression with loss cannot have made out of one."""
_MOST_COLOURS = 256
_SHORTEST_VECTOR, _LONGEST_VECTOR = 0.1, 1.5
_SHORTEST_ENCODED = 0.5
"""Of a normal in 8 bits: grey (127, 127, 127) stands for no direction, and rounding turns it into a short vector."""
_UNIT = (0.95, 1.05)
"""Lengths of normals in 8 bits."""
_LOOKED_AT = 128
"""Rows and columns of a picture that are looked at to tell normals from colours."""
_FEW_COLOURS = 32
"""Different colours of a picture all of which must be unit vectors if it holds normals."""
_SHOWN_VALUES = 5


def read_target(
    path: Path, task: Task, orientation: int = 1, numbers: Mapping[int, int] | None = None
) -> npt.NDArray[Any]:
    """One mask or map at its own size.

    Args:
        path: The file.
        task: What it stands for.
        orientation: EXIF orientation of its photo, with which it is turned upright.
        numbers: Id to the number that it stands for, where pixels hold the ids of this file alone.

    Returns:
        Segmentation: ``(h, w)`` int64 class indices, -1 where there is no class. Depth: ``(h, w)`` float32 in the
        task's unit, 0 where it was not measured. Normals: ``(h, w, 3)`` float32 unit vectors, zero where not measured.

    Raises:
        ImageError: The file cannot be read, or holds something else.
    """
    stored = stored_array(read_content(path), colours=bool(task.colours))
    if numbers is not None:
        stored = numbers_of_ids(stored, numbers)
    return as_target(turned(stored, orientation), task)


def stored_array(content: bytes, *, colours: bool = False) -> Array:
    """The numbers in a file's content, as they are: ``(h, w)`` or ``(h, w, 3)``; with ``colours`` those of a palette.

    Raises:
        ImageError: The file is damaged, too large, changed by compression, or holds another number of channels.
    """
    if is_long_call(content):
        from mtlue_cli.images.isolated import stored_isolated

        return stored_isolated(content, colours)
    return stored_here(content, colours)


def stored_here(content: bytes, colours: bool) -> Array:
    """:func:`stored_array` in this process, whatever time a library takes."""
    if is_array(content):
        array = channels_last(decode_array(content))
    else:
        with opened_image(content) as opened:
            if is_deep_colour(opened, content):
                raise ImageError("has more than 8 bits per colour, which would be cut to 8; save it as .npy")
            opened.load()
            picture: Image.Image = opened
            if picture.mode in ("LA", "RGBA") and picture.getchannel("A").getextrema() == (255, 255):
                picture = picture.convert(picture.mode[:-1])
            # The palette of a GIF is its encoder's: only the colours are the owner's.
            if picture.mode == "P" and (colours or picture.format == "GIF"):
                picture = picture.convert("RGB")
            if picture.mode not in _MODES and not picture.mode.startswith("I;16"):
                raise ImageError(f"has {picture.mode} pixels, expected one number per pixel, or RGB for normals")
            array = np.array(picture)
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            if is_lossy(content):
                _refuse_soft(array, str(opened.format))
    check_size(array.shape[1], array.shape[0])
    return array


def is_lossy(content: bytes) -> bool:
    """Whether a map's file may have been compressed with loss, which changes numbers at edges."""
    start = content[:64]
    if start.startswith(b"RIFF"):
        return b"VP8 " in start
    return start.startswith((b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")) or start[4:8] == b"ftyp"


def _refuse_soft(array: Array, name: str) -> None:
    """Refuse what compression may have changed: numbers or colours that lie close together."""
    values = np.unique(array.reshape(-1, array.shape[2]) if array.ndim == 3 else array.reshape(-1, 1), axis=0)
    near = values[:1]
    if len(values) <= _MOST_COLOURS:
        apart = np.abs(values[:, None].astype(np.int64) - values[None]).max(axis=2) + (np.eye(len(values)) * _LEAST_GAP)
        near = values[(apart < _LEAST_GAP).any(axis=1)]
    if near.size:
        raise ImageError(
            f"is compressed with loss ({name}), which changes numbers at edges: it holds {len(values)} different ones; "
            "save masks and maps as PNG (a JPEG of two levels: as numbers above 127)"
        )


def single_channel(stored: Array) -> Array:
    """``(h, w)`` of a grey picture that is stored in three equal channels; anything else as it is."""
    if stored.ndim == 3 and stored.dtype.kind != "f" and (stored == stored[..., :1]).all():
        return stored[..., 0]
    return stored


def turned(stored: Array, orientation: int) -> Array:
    """A stored map ``(h, w)`` or ``(h, w, c)``, upright as its photo with this EXIF orientation is seen."""
    if orientation > 4:
        stored = stored.swapaxes(0, 1)
    rows, columns = _STEPS.get(orientation, (1, 1))
    return stored[::rows, ::columns]


_STEPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""Of an EXIF orientation: along rows and columns, after height and width were swapped."""


def turned_map(content: bytes, orientation: int) -> bytes:
    """The file of a map, turned upright as its photo is: same format, numbers and palette.

    Raises:
        ImageError: It cannot be read, or its format cannot hold the turned map exactly.
    """
    if is_array(content):
        array = decode_array(content)
        first = array.ndim == 3 and array.shape[2] not in (1, 3)
        upright = turned(np.moveaxis(array, 0, 2) if first else array, orientation)
        return encode_array(np.ascontiguousarray(np.moveaxis(upright, 2, 0) if first else upright))
    stream = io.BytesIO()
    with opened_image(content) as opened:
        opened.load()
        kept = opened.info.keys() & {"transparency", "compression", "icc_profile"}
        options: dict[str, Any] = {str(key): opened.info[key] for key in kept}
        if opened.format == "WEBP":
            options |= {"lossless": True, "exact": True}
        opened.transpose(TURNS[orientation]).save(stream, format=opened.format, **options)
    upright_content = stream.getvalue()
    if not np.array_equal(stored_array(upright_content), turned(stored_array(content), orientation)):
        raise ImageError(f"is a {opened.format}, which cannot be turned upright with its photo exactly; save it as PNG")
    return upright_content


def as_target(stored: Array, task: Task) -> npt.NDArray[Any]:
    """What :func:`read_target` returns, of an array as stored.

    Raises:
        ImageError: It does not hold what ``task`` is labelled by.
    """
    return _CHECKS[task.kind](stored, task)


def class_numbers(stored: Array) -> npt.NDArray[np.int64]:
    """The numbers of a mask, ``(h, w)`` int64; -1 where an array holds NaN.

    Raises:
        ImageError: It is no mask: colours, fractions, or numbers beyond all classes.
    """
    stored = single_channel(stored)
    if stored.ndim != 2:
        raise ImageError(
            "is a colour picture, expected one class index per pixel (grey or palette); of a colour-coded mask, name "
            "the palette file with segmentation:colours=FILE"
        )
    if stored.dtype.kind == "f":
        stored = np.where(np.isnan(stored), UNLABELLED, stored)
        if not (np.isfinite(stored).all() and (stored == np.rint(stored)).all()):
            raise ImageError("holds fractions, expected class indices")
    if stored.min() < -_FURTHEST or stored.max() > _FURTHEST:
        raise ImageError(f"holds numbers up to {np.abs(stored.astype(np.float64)).max():.0f}, expected class indices")
    return stored.astype(np.int64)


def to_size(target: npt.NDArray[Any], task: Task, size: int) -> npt.NDArray[Any]:
    """A target of :func:`read_target`, stretched to a square by nearest neighbour: no value is mixed with another.

    Returns:
        ``(S, S)`` int64 for segmentation, ``(1, S, S)`` float32 for depth, ``(3, S, S)`` float32 for normals.
    """
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(np.int64) for side in target.shape[:2])
    square: npt.NDArray[Any] = target[rows[:, None], columns]
    if task.kind is TaskKind.SEGMENTATION:
        return square
    return np.ascontiguousarray(np.atleast_3d(square).transpose(2, 0, 1))


def unlabelled_target(task: Task, size: int) -> npt.NDArray[Any]:
    """What :func:`to_size` makes of a map without any label."""
    if task.kind is TaskKind.SEGMENTATION:
        return np.full((size, size), UNLABELLED, dtype=np.int64)
    return np.zeros((task.channels, size, size), dtype=np.float32)


def row_maps(table: LabelTable, tasks: TaskSet, row: int, size: int) -> dict[str, npt.NDArray[Any]]:
    """The map of each dense task in one row, as :func:`to_size` returns it; wholly unlabelled where a cell is empty.

    Raises:
        ImageError: One cannot be read; the message names it.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for task in tasks.dense:
        file = table.maps[task.name][row]
        if file is None:
            found[task.name] = unlabelled_target(task, size)
            continue
        try:
            numbers = task.ids[file] if task.ids else None
            target = read_target(table.maps_folder / file, task, table.turns.get(file, 1), numbers)
            found[task.name] = to_size(target, task, size)
        except ImageError as error:
            raise ImageError(f"column {quoted(task.name)}: {quoted(file)} {error}") from error
    return found


_FURTHEST = 2**31
"""Numbers beyond it are no class."""


def channels_last(array: Array) -> Array:
    """``(h, w)`` or ``(h, w, 3)`` of an array that may have its channel first."""
    if array.ndim == 2:
        return array
    last = np.moveaxis(array, 0, 2) if array.ndim == 3 and array.shape[2] not in (1, 3) else array
    if last.ndim != 3 or last.shape[2] not in (1, 3):
        raise ImageError(f"is an array of the shape {array.shape}, expected height x width, with 1 or 3 channels")
    return last[..., 0] if last.shape[2] == 1 else last


def _classes(stored: Array, task: Task) -> npt.NDArray[np.int64]:
    numbers = _colour_numbers(stored, task.colours) if task.colours else class_numbers(stored)
    ignored = np.isin(numbers, (*task.ignore, UNLABELLED))
    classes = _positions(numbers, task.numbers)
    missing = ~ignored & (classes < 0)
    if missing.any():
        left_out = f" (ignored: {', '.join(map(str, task.ignore))})" if task.ignore else ""
        expected = number_range(task.numbers)
        raise ImageError(
            f"holds {_shown(np.unique(numbers[missing]).tolist())}, "
            f"expected classes {'from ' * (' to ' in expected)}{expected}{left_out}"
        )
    return np.where(ignored, UNLABELLED, classes)


def _positions(values: Array, known: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Position of each value in ``known``, -1 where it is not there."""
    listed = np.asarray(known, dtype=np.int64)
    if not listed.size:
        return np.full(values.shape, -1)
    order = np.argsort(listed)
    position = order[np.searchsorted(listed, values, sorter=order).clip(max=len(listed) - 1)]
    return np.where(listed[position] == values, position, -1)


def _shown(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:_SHOWN_VALUES])) + (", ..." if len(values) > _SHOWN_VALUES else "")


def _colour_numbers(stored: Array, colours: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.int64]:
    """The position of each pixel's colour in ``colours``, ``(h, w)`` int64."""
    if stored.dtype not in (np.uint8, np.bool_):
        raise ImageError(f"holds {stored.dtype} numbers, expected the colours of a palette in 8 bits")
    found = packed_colours(stored)
    numbers = _positions(found, packed_colours(np.array([colours]))[0])
    if numbers.min() < 0:
        raise ImageError(
            "holds colours that the palette file does not name: "
            f"{_shown(unpacked_colours(np.unique(found[numbers < 0])))}; add them there (as void, if they are no "
            "class), or save the mask without smoothing and loss"
        )
    return numbers


def numbers_of_ids(stored: Array, ids: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """The number that stands for each pixel's id in ``ids``, ``(h, w)`` int64.

    Source: COCO's panoptic format: the id of a pixel ``(R, G, B)`` is ``R + 256 G + 65536 B``, of a grey one its level.

    Raises:
        ImageError: A pixel has another id.
    """
    if stored.dtype.kind not in "bui":
        raise ImageError(f"holds {stored.dtype} numbers, expected ids of segments or categories")
    found = stored.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16]) if stored.ndim == 3 else stored.astype(np.int64)
    position = _positions(found, list(ids))
    if position.min() < 0:
        raise ImageError(
            f"holds {_shown(np.unique(found[position < 0]).tolist())}, which the annotations of its image do not name "
            "as the id of a segment or category; take annotations and masks of the same release of the data set"
        )
    return np.array([*ids.values()], dtype=np.int64)[position]


def packed_colours(picture: Array) -> npt.NDArray[np.int64]:
    """The colours of a picture ``(h, w)`` or ``(h, w, 3)`` as numbers that sort alike."""
    levels: npt.NDArray[np.int64] = picture.astype(np.int64)
    return levels * 0x010101 if levels.ndim == 2 else levels @ np.array([1 << 16, 1 << 8, 1])


def unpacked_colours(packed: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """The colours that :func:`packed_colours` turned into numbers."""
    return [(value >> 16, value >> 8 & 255, value & 255) for value in packed.tolist()]


def _depth(stored: Array, task: Task) -> npt.NDArray[np.float32]:
    stored = single_channel(stored)
    if stored.ndim != 2:
        raise ImageError("is a colour picture, expected one depth per pixel")
    with np.errstate(over="ignore"):
        depth = (stored.astype(np.float64) * task.scale).astype(np.float32)
    depth[~np.isfinite(depth) | np.isin(stored, task.ignore)] = 0
    if depth.min() < 0:
        raise ImageError(f"holds the negative depth {depth.min():g}; write 0 or NaN where it was not measured")
    return depth


def _normals(stored: Array, task: Task) -> npt.NDArray[np.float32]:  # noqa: ARG001 - the shape of every such check
    if stored.ndim != 3:
        raise ImageError("holds one number per pixel, expected three, a unit vector")
    if stored.dtype.kind != "f" and stored.dtype != np.uint8:
        raise ImageError(f"holds {stored.dtype} numbers, expected floating point or 8-bit RGB")
    encoded = stored.dtype == np.uint8
    with np.errstate(over="ignore"):
        vectors = stored.astype(np.float32)
    if encoded:
        vectors = vectors / np.float32(127.5) - 1
    vectors[~np.isfinite(vectors).all(axis=2)] = 0
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    if not encoded and length.max() > _LONGEST_VECTOR:
        raise ImageError(f"holds a vector of the length {length.max():g}, expected unit vectors")
    if encoded and not looks_like_normals(stored):
        raise ImageError(
            "is not a map of normals: most of its colours are not unit vectors; if it is a colour-coded mask, declare "
            "the column as segmentation:colours=FILE"
        )
    measured = (length > (_SHORTEST_ENCODED if encoded else _SHORTEST_VECTOR)) & (length <= _LONGEST_VECTOR)
    return np.where(measured, vectors / np.maximum(length, _SHORTEST_VECTOR), 0).astype(np.float32)


def looks_like_normals(stored: Array) -> bool:
    """Whether most pixels of an 8-bit RGB picture are unit vectors, as ``(n + 1) / 2``, or stand for no direction."""
    rows, columns = (max(1, side // _LOOKED_AT) for side in stored.shape[:2])
    pixels = stored[::rows, ::columns].reshape(-1, 3)
    unit, counts = np.unique(pixels, axis=0, return_counts=True)
    length = np.linalg.norm(unit.astype(np.float32) / np.float32(127.5) - 1, axis=1)
    right = (length > _UNIT[0]) & (length < _UNIT[1])
    grey = (np.ptp(unit, axis=1) <= 1) & ~right
    # A palette may have a unit vector among its colours, by chance.
    few = len(unit) <= _FEW_COLOURS and bool((~right & ~grey).any())
    return not few and bool(2 * counts[right].sum() >= counts[~grey].sum())


_CHECKS: Mapping[TaskKind, Callable[[Array, Task], npt.NDArray[Any]]] = {
    TaskKind.SEGMENTATION: _classes,
    TaskKind.DEPTH: _depth,
    TaskKind.NORMALS: _normals,
}
