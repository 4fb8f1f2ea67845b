"""Views of images and label maps: random crops and flips for training, the centre for scoring."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.tasks.label_tensors import MAPS, as_labels
from mtlue_cli.tasks.spec import Task, TaskSet


@dataclass(frozen=True)
class View:
    """One augmentation of a batch: a square window in pixels, common to it, and ``(B,)`` bool: each image's flip."""

    top: int
    left: int
    side: int
    flip: Tensor


def draw_crop(image_size: int, crop_size: int, batch: int, rng: torch.Generator) -> View:
    """A random window of ``crop_size`` pixels, half of the images flipped."""
    room = image_size - crop_size + 1
    top, left = torch.randint(room, (2,), generator=rng).tolist()
    return View(top, left, crop_size, torch.rand(batch, generator=rng) < 0.5)


def draw_zoom(image_size: int, smallest: float, batch: int, rng: torch.Generator) -> View:
    """A random window whose side is uniform between ``smallest`` and 1 of the image's."""
    low = max(1, round(image_size * smallest))
    side = int(torch.randint(low, image_size + 1, (1,), generator=rng))
    return draw_crop(image_size, side, batch, rng)


def apply_view(images: Tensor, view: View, out_size: int) -> Tensor:
    """Cut, flip and resize ``(B, 3, H, W)`` images to ``(B, 3, out_size, out_size)``, bilinearly; differentiable."""
    window = images[..., view.top : view.top + view.side, view.left : view.left + view.side]
    flip = view.flip.to(images.device).view(-1, 1, 1, 1)
    window = torch.where(flip, window.flip(-1), window)
    if view.side == out_size:
        return window
    return nn.functional.interpolate(
        window, size=(out_size, out_size), mode="bilinear", align_corners=False, antialias=view.side > out_size
    )


def labels_of(labels: Mapping[str, Tensor], tasks: TaskSet, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
    """The labels of some rows, ``(B,)`` int64, on ``device``, as losses expect them."""
    return {task.name: as_labels(labels[task.name][rows].to(device)) for task in tasks}


def centred_labels(labels: Mapping[str, Tensor], tasks: TaskSet, size: int) -> dict[str, Tensor]:
    """All labels, as losses expect them, for images of which only the centre of side ``size`` is seen."""

    def centre(maps: Tensor) -> Tensor:
        offset = (maps.shape[-1] - size) // 2
        return as_labels(maps[..., offset : offset + size, offset : offset + size])

    return {task.name: centre(labels[task.name]) if task.is_dense else labels[task.name] for task in tasks}


def view_labels(labels: Mapping[str, Tensor], tasks: TaskSet, view: View, out_size: int) -> dict[str, Tensor]:
    """The labels of what :func:`apply_view` gives: maps of the images' size are cut, flipped and resized like them.

    Maps are resized by the nearest pixel: classes are not interpolated, and a depth keeps its value when its
    window is enlarged. A flip reverses the x of a normal.
    """
    return {
        task.name: _view_map(labels[task.name], task, view, out_size) if task.is_dense else labels[task.name]
        for task in tasks
    }


def _view_map(labels: Tensor, task: Task, view: View, out_size: int) -> Tensor:
    window = labels[..., view.top : view.top + view.side, view.left : view.left + view.side]
    flip = view.flip.to(labels.device).view(-1, *(1,) * (labels.ndim - 1))
    window = torch.where(flip, MAPS[task.kind].mirrored(window), window)
    if view.side == out_size:
        return window
    nearest = ((torch.arange(out_size, device=labels.device) + 0.5) * (view.side / out_size)).long()
    nearest.clamp_max_(view.side - 1)
    return window.index_select(-2, nearest).index_select(-1, nearest)
