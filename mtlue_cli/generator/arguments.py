"""Images and labels as a caller of the API gives them: arrays, PIL images and tensors, class names and indices."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.generator.inference import Labels
from mtlue_cli.images.targets import as_target, channels_last, to_size, unlabelled_target
from mtlue_cli.perturbation.bound import Pixels
from mtlue_cli.tasks.dense import as_labels
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from mtlue_cli.tasks.wording import listed, quoted

_MODES = ("L", "RGB", "I;16")
_TYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)


def is_one(images: object) -> bool:
    """Whether ``images`` is a single image: an array, a PIL image, or a tensor without a batch dimension."""
    return isinstance(images, np.ndarray | Image.Image) or (isinstance(images, Tensor) and images.ndim < 4)


def read_images(images: Any) -> tuple[list[Pixels], Callable[[Sequence[Pixels]], Any]]:  # noqa: ANN401 - many kinds
    """Pixels of images, and what gives others back in the kind of these.

    Args:
        images: One image or several: ``(H, W)`` or ``(H, W, 3)`` arrays of uint8, uint16, or floating point in [0, 1];
            PIL images of the modes L, RGB or I;16; ``(3, H, W)``, ``(1, H, W)`` or ``(B, 3, H, W)`` tensors of the same
            types, on any device.

    Returns:
        ``(H, W)`` or ``(H, W, 3)`` each; and a function that takes as many of the same shapes and types.

    Raises:
        InputError: Lists every image that is something else.
    """
    each = [images] if is_one(images) else list(images)
    pixels: list[Pixels] = []
    faults: list[str] = []
    for index, image in enumerate(each):
        try:
            pixels.append(_pixels(image))
        except ImageError as error:
            faults.append(f"image {index} {error}")
    if faults:
        raise InputError(f"{len(faults)} of {len(each)} images are of an unsupported kind", faults)

    def back(changed: Sequence[Pixels]) -> Any:  # noqa: ANN401 - the kind of the images
        found = [_like(image, own) for image, own in zip(each, changed, strict=True)]
        if is_one(images):
            return found[0]
        return torch.stack(found).as_subclass(type(images)) if isinstance(images, Tensor) else found

    return pixels, back


def _pixels(image: object) -> Pixels:
    if isinstance(image, Image.Image):
        if image.mode not in _MODES:
            raise ImageError(f"has the mode {image.mode}, expected {', '.join(_MODES)}; convert it first")
        pixels = np.asarray(image)
    elif isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ImageError(f"is a tensor of the shape {tuple(image.shape)}, expected (3, H, W)")
        if image.dtype is torch.bfloat16:
            raise ImageError("is a tensor of bfloat16, which is too coarse for the bound; convert it to float32")
        planes = image.detach().cpu().as_subclass(Tensor)
        pixels = (planes[0] if len(planes) == 1 else planes.permute(1, 2, 0)).contiguous().numpy()
    elif isinstance(image, np.ndarray):
        pixels = image
    else:
        raise ImageError(f"is {type(image).__name__}, expected an array, a PIL image or a tensor")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not pixels.size:
        raise ImageError(f"has the shape {pixels.shape}, expected (H, W) or (H, W, 3)")
    if pixels.dtype not in _TYPES:
        raise ImageError(f"has values of {pixels.dtype}, expected uint8, uint16 or floating point in [0, 1]")
    # The comparison fails for NaN too.
    if pixels.dtype.kind == "f" and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError("has values that are not colours: floating-point values must be in [0, 1]")
    return pixels


def _like(image: object, pixels: Pixels) -> Any:  # noqa: ANN401 - the kind of the image
    if isinstance(image, Image.Image):
        return Image.fromarray(pixels)
    if isinstance(image, Tensor):
        planes = torch.from_numpy(pixels)
        planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1).contiguous()
        return planes.to(image.device).as_subclass(type(image))
    return pixels


def read_labels(labels: Mapping[str, Any], tasks: TaskSet, count: int, size: int, *, one: bool = False) -> Labels:
    """Labels of images as a network takes them.

    Args:
        labels: Task name to a label per image: a class name, a class index, or the label map of a dense task as its
            file would hold it; None where there is none.
        tasks: All of them must be there.
        count: Number of images.
        size: Side in pixels of the maps.
        one: Whether a label may stand alone, for the only image.

    Raises:
        InputError: Lists every task and label that does not fit.
    """
    faults = [
        f"there is no task {quoted(name)}, only {listed(list(tasks.names))}" for name in labels if name not in tasks
    ]
    found: dict[str, list[Any]] = {}
    for task in tasks:
        if task.name not in labels:
            faults.append(f"the task {quoted(task.name)} has no labels; None per image leaves images unlabelled")
            continue
        values = labels[task.name]
        alone = one and not isinstance(values, list | tuple) and (task.is_dense or np.ndim(values) == 0)
        values = [values] if alone else list(values)
        if len(values) != count:
            faults.append(f"the task {quoted(task.name)} has {len(values)} labels for {count} images")
            continue
        found[task.name] = []
        for index, value in enumerate(values):
            try:
                found[task.name].append(_map(value, task, size) if task.is_dense else _class_index(value, task))
            except ImageError as error:
                faults.append(f"labels[{task.name!r}][{index}] {error}")
    if faults:
        raise InputError("the labels do not fit the images or the generator", faults)
    return found


def unlabelled(labels: Labels, tasks: TaskSet) -> set[int]:
    """The images that no task says anything about; ``labels`` as :func:`read_labels` returns them."""
    each = [labelled_rows(as_labels(torch.from_numpy(np.stack(labels[task.name]))), task) for task in tasks]
    return set((~torch.stack(each).any(dim=0)).nonzero().flatten().tolist())


def is_missing(value: object) -> bool:
    """Whether a label stands for none: None, NaN, or the class index of an empty cell."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, Integral) and int(value) == UNLABELLED


def _class_index(value: object, task: Task) -> int:
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if is_missing(value):
        return UNLABELLED
    if isinstance(value, str):
        if value not in task.classes:
            raise ImageError(f"is {quoted(value)}, expected {listed(list(task.classes))}")
        return task.classes.index(value)
    if isinstance(value, Integral):
        if not 0 <= int(value) < task.num_classes:
            raise ImageError(
                f"is {int(value)}, expected an index from 0 to {task.num_classes - 1}, or a class name as text"
            )
        return int(value)
    raise ImageError(f"is {value!r}, expected a class name, a class index or None")


def _map(value: object, task: Task, size: int) -> npt.NDArray[Any]:
    if is_missing(value):
        return unlabelled_target(task, size)
    stored = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    return to_size(as_target(channels_last(stored), task), task, size)
