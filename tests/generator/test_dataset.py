"""Protection on the fly: the transform in a pipeline of torchvision, and the data set in a loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.generator.dataset import ProtectedDataset, ProtectTransform
from mtlue_cli.generator.generator import Generator
from tests.small_set import write_checkpoint

RNG = np.random.default_rng(8)
PHOTOS = [torch.from_numpy(RNG.integers(30, 226, (3, 20, 24), dtype=np.uint8)) for _ in range(5)]
TARGETS = [{"colour": index % 3, "round": index % 2, "name": f"photo {index}"} for index in range(5)]


class Photos(Dataset[tuple[Any, Any]]):
    """Pairs of an image and a target."""

    def __init__(self, images: list[Any], targets: list[Any]) -> None:
        self.pairs = list(zip(images, targets, strict=True))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.pairs[index]


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return Generator.load(write_checkpoint(tmp_path / "own.safetensors"), device="cpu")


def expected(generator: Generator, index: int, epsilon: int | None = None) -> torch.Tensor:
    labels = {name: TARGETS[index][name] for name in ("colour", "round")}
    protected = generator.protect(PHOTOS[index], labels, epsilon)
    assert isinstance(protected, torch.Tensor)
    return protected


def test_a_transform_protects_within_a_pipeline(generator: Generator) -> None:
    pipeline = v2.Compose([ProtectTransform(generator, epsilon=4), v2.ToDtype(torch.float32, scale=True)])
    image, target = pipeline(PHOTOS[1], TARGETS[1])
    torch.testing.assert_close(image, expected(generator, 1, 4).float() / 255)
    assert target == TARGETS[1]
    pair = pipeline((PHOTOS[1], TARGETS[1]))
    assert torch.equal(pair[0], image)
    assert "epsilon=4" in repr(pipeline)


def test_images_of_torchvision_and_pillow_stay_what_they_are(generator: Generator) -> None:
    transform = ProtectTransform(generator)
    image, _ = transform(tv_tensors.Image(PHOTOS[0]), TARGETS[0])
    assert type(image) is tv_tensors.Image
    assert torch.equal(image.as_subclass(torch.Tensor), expected(generator, 0))
    picture, _ = transform(Image.fromarray(PHOTOS[0].permute(1, 2, 0).numpy()), TARGETS[0])
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), expected(generator, 0).permute(1, 2, 0).numpy())


def test_with_one_task_the_target_may_be_the_label(tmp_path: Path, generator: Generator) -> None:
    one = Generator.load(tmp_path / "own.safetensors", tasks=["round"], device="cpu")
    image, target = ProtectTransform(one)(PHOTOS[0], 1)
    assert target == 1
    assert torch.equal(image, one.protect(PHOTOS[0], {"round": "1"}))
    for wrong in (1, {"colour": 1}):
        with pytest.raises(InputError, match="labels do not fit"):
            ProtectTransform(generator)(PHOTOS[0], wrong)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_gives_protected_batches(workers: int, generator: Generator) -> None:
    dataset = ProtectedDataset(Photos(PHOTOS, TARGETS), generator, epsilon=6)
    assert len(dataset) == 5
    assert torch.equal(dataset[3][0], expected(generator, 3, 6))
    batches = list(DataLoader(dataset, batch_size=2, num_workers=workers))
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, torch.stack([expected(generator, index, 6) for index in range(5)]))
    assert batches[1][1]["name"] == ["photo 2", "photo 3"]


def test_images_that_cannot_be_protected_are_named_by_their_index(generator: Generator) -> None:
    photos, targets = [*PHOTOS, PHOTOS[0]], [*TARGETS, {"colour": None, "round": None}]
    dataset = ProtectedDataset(Photos(photos, targets), generator)
    assert len(dataset.__getitems__([0, 1])) == 2
    with pytest.raises(ImageError, match=r"cannot be protected: 5 \(they have no label"):
        dataset.__getitems__([1, 5])
    with pytest.raises(InputError, match="labels do not fit"):
        _ = ProtectedDataset(Photos(PHOTOS, [{"colour": 1}] * 5), generator)[0]
