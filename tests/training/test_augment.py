"""Images and label maps are cut, flipped and resized together."""

import pytest
import torch
from torch import Tensor

from mtlue_cli.training.augment import View, apply_view, centred_labels, draw_zoom, labels_of, view_labels
from tests.dense_sample import TASKS, draw_scenes


def coded(size: int) -> Tensor:
    """Class maps whose value names the pixel, ``(2, size, size)``."""
    return torch.arange(2 * size * size).view(2, size, size)


def maps_of(classes: Tensor) -> dict[str, Tensor]:
    labels = draw_scenes(len(classes), classes.shape[-1])[1]
    return labels | {"parts": classes, "depth": classes[:, None].float()}


@pytest.mark.parametrize("out_size", [8, 6, 13])
def test_every_pixel_of_a_view_keeps_its_label(out_size: int) -> None:
    """Where the image shows a pixel alone, so do the maps: images are nearest-resized here to be compared."""
    classes = coded(12)
    view = View(1, 3, 8, torch.tensor([False, True]))
    found = view_labels(maps_of(classes), TASKS, view, out_size)
    seen = apply_view(classes[:, None].float().expand(-1, 3, -1, -1), view, 8)
    expected = torch.nn.functional.interpolate(seen, (out_size, out_size), mode="nearest-exact")
    assert torch.equal(found["parts"], expected[:, 0].long())
    assert torch.equal(found["depth"], expected[:, :1])
    assert found["normals"].shape == (2, 3, out_size, out_size)


def test_a_flip_reverses_the_x_of_normals_alone() -> None:
    _, labels = draw_scenes(2, 12)
    found = view_labels(labels, TASKS, View(0, 0, 12, torch.tensor([False, True])), 12)
    assert torch.equal(found["normals"][0], labels["normals"][0])
    mirrored = labels["normals"][1].flip(-1)
    assert torch.equal(found["normals"][1, 0], -mirrored[0])
    assert torch.equal(found["normals"][1, 1:], mirrored[1:])
    assert torch.equal(found["parts"][1], labels["parts"][1].flip(-1))
    assert torch.equal(found["bright"], labels["bright"])


def test_zooming_changes_no_depth_and_makes_no_class() -> None:
    _, labels = draw_scenes(4, 24)
    rng = torch.Generator().manual_seed(5)
    for _ in range(6):
        found = view_labels(labels, TASKS, draw_zoom(24, 0.5, 4, rng), 20)
        assert set(found["parts"].flatten().tolist()) <= {-1, 0, 1, 2}
        assert set(found["depth"].flatten().tolist()) <= set(labels["depth"].flatten().tolist())


def test_labels_of_a_batch_are_widened_and_the_centre_is_that_of_the_image() -> None:
    _, labels = draw_scenes(5, 12)
    stored = labels | {"parts": labels["parts"].to(torch.int16), "depth": labels["depth"].half()}
    rows = torch.tensor([3, 0])
    batch = labels_of(stored, TASKS, rows, torch.device("cpu"))
    assert batch["parts"].dtype is torch.int64
    assert batch["depth"].dtype is torch.float32
    assert torch.equal(batch["parts"], labels["parts"][rows])
    assert torch.equal(batch["bright"], labels["bright"][rows])
    centre = centred_labels(stored, TASKS, 8)
    assert torch.equal(centre["parts"], labels["parts"][:, 2:10, 2:10])
    assert centre["normals"].shape == (5, 3, 8, 8)
    assert torch.equal(centre["bright"], labels["bright"])
    assert list(labels_of(stored, TASKS.subset(["depth"]), rows, torch.device("cpu"))) == ["depth"]
