"""Images and labels as a caller of the API gives them: arrays, PIL images and tensors, class names and indices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.generator.closed_form import Labels
from mtlue_cli.images.targets import as_target, channels_last, to_size, unlabelled_target
from mtlue_cli.perturbation.bound import Pixels
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_tensors import as_labels
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from mtlue_cli.tasks.wording import listed, quoted

_MODES = ("L", "LA", "RGB", "RGBA", "I;16")
_TYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class GivenImages:
    """One or several images as a caller gave them; ``(H, W)`` or ``(H, W, 3)`` pixels and ``(H, W)`` opacity of each.

    Pixels are uint8, uint16, or floating point in [0, 1]; opacity is uint8, None where the image is opaque.
    """

    images: Any
    one: bool
    pixels: list[Pixels]
    alphas: list[npt.NDArray[np.uint8] | None]

    def like(self, changed: Sequence[Pixels]) -> Any:  # noqa: ANN401 - the kind of the images
        """Other pixels of the same shapes and types in the kind of these images."""
        each = [self.images] if self.one else self.images
        found = [_like(image, own) for image, own in zip(each, changed, strict=True)]
        if self.one:
            return found[0]
        return torch.stack(found).as_subclass(type(self.images)) if isinstance(self.images, Tensor) else found


def read_images(images: Any) -> GivenImages:  # noqa: ANN401 - many kinds
    """Pixels of images as :meth:`~mtlue_cli.generator.generator.Generator.protect` takes them; tensors on any device.

    Raises:
        InputError: Lists every image that is something else.
    """
    one = isinstance(images, np.ndarray | Image.Image) or (isinstance(images, Tensor) and images.ndim < 4)
    images = images if one or isinstance(images, Tensor) else list(images)
    given = GivenImages(images, one, [], [])
    faults: list[str] = []
    for index, image in enumerate([images] if one else images):
        try:
            given.pixels.append(_pixels(image))
            given.alphas.append(np.asarray(image.getchannel("A")) if _is_transparent(image) else None)
        except ImageError as error:
            faults.append(f"image {index} {error}")
    if faults:
        count = len(faults) + len(given.pixels)
        raise InputError(f"{len(faults)} of {count} images are of an unsupported kind", faults)
    return given


def _is_transparent(image: object) -> TypeGuard[Image.Image]:
    return isinstance(image, Image.Image) and image.mode in ("LA", "RGBA")


def _pixels(image: object) -> Pixels:
    if isinstance(image, Image.Image):
        if image.mode not in _MODES:
            raise ImageError(f"has the mode {image.mode}, expected {', '.join(_MODES)}; convert it first")
        pixels = np.asarray(image.convert(image.mode.removesuffix("A")) if _is_transparent(image) else image)
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
        found = Image.fromarray(pixels)
        if _is_transparent(image):
            found.putalpha(image.getchannel("A"))
        return found
    if isinstance(image, Tensor):
        planes = torch.from_numpy(pixels)
        planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1).contiguous()
        return planes.to(image.device).as_subclass(type(image))
    return pixels


def read_labels(labels: Mapping[str, Any], tasks: TaskSet, count: int, size: int, *, one: bool = False) -> Labels:
    """Labels of ``count`` images, as :meth:`~.generator.Generator.protect` takes them, as a network takes them.

    Label maps get the side ``size`` in pixels. ``one``: a label may stand alone, for the only image.

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


def labelled_images(labels: Labels, tasks: TaskSet) -> list[bool]:
    """Which images have a label of any task; ``labels`` as :func:`read_labels` returns them."""
    if not all(map(len, labels.values())):
        return []
    each = [labelled_rows(as_labels(torch.from_numpy(np.stack(labels[task.name]))), task) for task in tasks]
    found: list[bool] = torch.stack(each).any(dim=0).tolist()
    return found


def is_missing(value: object) -> bool:
    """Whether a label stands for none: None, NaN, or the class index of an empty cell."""
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or (isinstance(value, Integral) and int(value) == UNLABELLED)


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
            last = task.num_classes - 1
            raise ImageError(f"is {int(value)}, expected an index from 0 to {last}, or a class name as text")
        return int(value)
    raise ImageError(f"is {value!r}, expected a class name, a class index or None")


def _map(value: object, task: Task, size: int) -> npt.NDArray[Any]:
    if is_missing(value):
        return unlabelled_target(task, size)
    stored = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    return to_size(as_target(channels_last(stored), task), task, size)
