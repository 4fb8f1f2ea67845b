from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, LoadedGenerator
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.dataset import load_square_images
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.perturbation.effect import Shortfall
from mtlue_cli.verification.in_memory import protect_in_memory
from tests.verification.made_release import SIDE, MadeSet, make_set

CPU = torch.device("cpu")
SIZE = 16


@pytest.fixture
def made(tmp_path: Path) -> MadeSet:
    return make_set(tmp_path / "clean", count=5)


def _generator(made: MadeSet) -> Generator:
    config = GeneratorConfig(
        epsilon=6, image_size=SIZE, encoder_width=8, encoder_depth=1, label_channels=4, decoder_width=8, decoder_depth=1
    )
    tasks = made.table.tasks
    card = CheckpointCard(tasks, 6, SIZE, "tap", {}, asdict(config), "", "Apache-2.0", {}, "2020-01-01T00:00:00+00:00")
    return Generator(LoadedGenerator(PerturbationGenerator(config, tasks, seed=1), card), CPU)


def _protect(made: MadeSet, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    table = made.table
    images = load_square_images(made.images, table.file_names, side)
    seen: list[int] = []
    protected, _ = protect_in_memory(
        _generator(made), made.images, table.file_names, table.columns, images, on_images=seen.append
    )
    assert sum(seen) == len(table)
    return images, protected


def test_images_of_the_working_size_become_what_protect_would_save(made: MadeSet) -> None:
    images, protected = _protect(made)
    table, generator = made.table, _generator(made)
    for row, name in enumerate(table.file_names):
        photo = decode_image(made.images / name)
        labels = {task: [int(column[row])] for task, column in table.columns.items()}
        delta = generator.perturb([to_square(photo, SIZE)], labels)[0]
        expected = protect_pixels(photo.pixels, delta, 6)
        assert np.array_equal(protected[row].permute(1, 2, 0).numpy(), expected)
    assert not torch.equal(images, protected)


@pytest.mark.parametrize("side", [12, 16, 40])
def test_the_bound_holds_at_any_working_size(made: MadeSet, side: int) -> None:
    images, protected = _protect(made, side)
    assert 0 < int((images.int() - protected.int()).abs().max()) <= 6


def test_labels_decide_about_the_perturbation(made: MadeSet) -> None:
    table = made.table
    images = load_square_images(made.images, table.file_names, SIDE)
    unlabelled = {name: np.full_like(column, -1) for name, column in table.columns.items()}
    neutral, _ = protect_in_memory(_generator(made), made.images, table.file_names, unlabelled, images)
    assert not torch.equal(neutral, _protect(made)[1])


def test_a_grey_photo_stays_grey(made: MadeSet) -> None:
    name = made.table.file_names[0]
    Image.open(made.images / name).convert("L").save(made.images / name)
    images, protected = _protect(made)
    assert torch.equal(protected[0, 0], protected[0, 1])
    assert torch.equal(protected[0, 0], protected[0, 2])
    assert not torch.equal(protected[0], images[0])


def test_every_photo_that_cannot_be_protected_is_listed(made: MadeSet) -> None:
    table = made.table
    images = load_square_images(made.images, table.file_names, SIDE)
    for row in (1, 3):
        (made.images / table.file_names[row]).write_text("no image")
    with pytest.raises(InputError, match="2 of 5 images") as caught:
        protect_in_memory(_generator(made), made.images, table.file_names, table.columns, images)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [table.file_names[1], table.file_names[3]]


def test_photos_without_a_label_or_hardly_visible_are_named(made: MadeSet) -> None:
    table = made.table
    images = load_square_images(made.images, table.file_names, SIDE)
    for row, opacity in ((1, 2), (3, 200)):
        with Image.open(made.images / table.file_names[row]) as image:
            image.putalpha(opacity)
            image.save(made.images / table.file_names[row])
    labels = {name: np.where(np.arange(5) == 4, -1, column) for name, column in table.columns.items()}
    _, before = protect_in_memory(_generator(made), made.images, table.file_names, table.columns, images)
    _, lacking = protect_in_memory(_generator(made), made.images, table.file_names, labels, images)
    assert before == {1: Shortfall.TRANSPARENT}
    assert lacking == {1: Shortfall.TRANSPARENT, 4: Shortfall.UNLABELLED}


def test_photos_without_the_least_effect_are_named(made: MadeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    table = made.table
    white = table.file_names[2]
    with Image.open(made.images / white) as image:
        Image.new("RGB", image.size, "white").save(made.images / white)
    images = load_square_images(made.images, table.file_names, SIDE)
    generator = _generator(made)
    # Adds the whole bound to the left half.
    left = np.zeros((3, SIZE, SIZE), np.float32)
    left[..., : SIZE // 2] = 6
    monkeypatch.setattr(generator, "perturb", lambda squares, _: [left] * len(squares))
    _, lacking = protect_in_memory(generator, made.images, table.file_names, table.columns, images)
    assert lacking == {2: Shortfall.NO_ROOM}
