"""Tiles: which colour or texture stands for which code, and whose map is painted."""

import numpy as np
import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.inference import PreparedGenerator
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.tiles import (
    COLOURS,
    PRECEDENCE,
    SIDE,
    carrier,
    carrier_tiles,
    class_tints,
    depth_tints,
    normal_tints,
    tint_tiles,
)
from mtlue_cli.tasks.label_tensors import as_labels, class_shares, empty_maps
from mtlue_cli.tasks.spec import TaskSet
from tests.dense_sample import DEPTH, NORMALS, PARTS, TASKS, draw_scenes

DENSE = TASKS.dense
SIZE = 32


def generator(tasks: TaskSet = DENSE) -> PerturbationGenerator:
    _, labels = draw_scenes(16, SIZE)
    return PerturbationGenerator(GeneratorConfig(image_size=SIZE), tasks, 0, class_shares(labels, tasks)).eval()


def test_the_most_frequent_classes_are_green_and_every_second_of_the_others() -> None:
    shares = [0.05, 0.3, 0.4, 0.12, 0.1, 0.02, 0.01]  # 0.4 and 0.3 make up two thirds; the last is rare
    tints = class_tints(shares)
    green = [-1.0, 1.0, -1.0]
    assert tints.tolist() == [[0] * 3, green, green, [0] * 3, green, green, [0] * 3]


@pytest.mark.parametrize("shares", [[0.99, 0.01], [0.5, 0.5], [1 / 60] * 60])
def test_a_clean_pixel_looks_like_one_class_at_least(shares: list[float]) -> None:
    tints = class_tints(shares)
    assert tints.shape == (len(shares), COLOURS)
    assert not tints[-1].any()
    assert tints[0].any()


def test_neighbouring_depths_differ_in_one_colour_and_opposite_normals_are_opposite() -> None:
    depths = depth_tints([0.125] * 8)
    assert ((depths[1:] != depths[:-1]).sum(dim=1) == 1).all()
    assert len({tuple(tint) for tint in depths.tolist()}) == 8
    normals = normal_tints([1 / 6] * 6)
    assert torch.equal(normals[:COLOURS], -normals[COLOURS:])


def test_two_tasks_of_one_kind_have_tints_of_their_own() -> None:
    kinds, priors = [TaskKind.SEGMENTATION] * 2, [[0.5, 0.3, 0.2]] * 2
    first, second = tint_tiles(kinds, priors, torch.Generator().manual_seed(0))
    assert first.shape == (3, COLOURS, SIDE, SIDE)
    assert not torch.equal(first, second)


def strengths(kind: TaskKind, shares: list[float]) -> list[bool]:
    tiles = carrier_tiles([kind], [shares])[0]
    assert tiles.shape == (len(shares), COLOURS, SIDE, SIDE)
    painted = tiles.abs().amax(dim=(1, 2, 3)) > 0
    assert all(torch.equal(tile, tiles[painted][0]) for tile in tiles[painted])
    return [bool(own) for own in painted]


def test_a_step_across_and_a_mirror_reverse_the_carrier_and_two_steps_down_do() -> None:
    wave = carrier()
    assert set(wave.flatten().tolist()) == {-1.0, 1.0}
    assert float(wave.sum()) == 0
    for moved in (wave.roll(1, dims=1), wave.flip(1), wave.roll(2, dims=0)):
        assert torch.equal(moved, -wave)
    assert float((wave * wave.roll(1, dims=0)).sum()) == 0


def test_of_classes_those_that_have_a_tint_have_the_carrier() -> None:
    assert strengths(TaskKind.SEGMENTATION, [0.33, 0.42, 0.16, 0.09]) == [True, True, False, True]


def test_of_depths_the_nearest_have_it_and_the_farthest_never() -> None:
    assert strengths(TaskKind.DEPTH, [0.3, 0.3, 0.2, 0.1, 0.1]) == [True, True, True, False, False]
    assert strengths(TaskKind.DEPTH, [0.1, 0.9]) == [True, False]


def test_of_normals_the_most_frequent_direction_has_it() -> None:
    assert strengths(TaskKind.NORMALS, [0.05, 0.05, 0.0, 0.05, 0.6, 0.25]) == [False] * 4 + [True, False]


def test_every_kind_of_map_has_a_rank() -> None:
    assert {task.kind for task in DENSE} == set(PRECEDENCE)


def test_pixels_without_the_carrier_stay_as_they_were_whatever_training_does() -> None:
    model = generator()
    images, labels = draw_scenes(2, SIZE, 9)
    photos = images.float() / 255
    before = model.perturb(photos, labels)
    size = before.abs().amax(dim=1)
    assert set(size.gt(0.01).flatten().tolist()) == {True, False}
    assert float(size[size > 0.01].min()) > 7
    # One of the classes has none, and what is not labelled.
    bare = set(labels["parts"][size == 0].tolist())
    assert -1 in bare
    assert len(bare) == 2
    model(photos, labels).square().sum().backward()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.add_(0.5)
    assert not any(model.dense_embeddings.of_task(name).tiles.requires_grad for name in DENSE.names)
    assert torch.equal(model.perturb(photos, labels), before)
    np.testing.assert_allclose(PreparedGenerator(model).perturb(photos, labels), before, atol=1e-3)


@pytest.mark.parametrize(("left_out", "painted"), [((), PARTS), (("parts",), NORMALS), (("parts", "normals"), DEPTH)])
def test_one_map_is_painted_that_of_the_first_protected_task(left_out: tuple[str, ...], painted: object) -> None:
    model = generator()
    images, labels = draw_scenes(2, SIZE, 9)
    _, other = draw_scenes(2, SIZE, 77)
    blank = {name: as_labels(empty_maps(TASKS[name], 2, SIZE)) for name in left_out}
    kept = {name: column for name, column in labels.items() if name not in left_out}
    delta = model.perturb(images.float() / 255, kept)
    assert torch.equal(model.perturb(images.float() / 255, {**kept, **blank}), delta)
    for task in (PARTS, DEPTH, NORMALS):
        changed = model.perturb(
            images.float() / 255, {**kept, task.name: other[task.name]} if task.name in kept else kept
        )
        assert torch.equal(changed, delta) == (task != painted)
