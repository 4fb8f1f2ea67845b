"""Removal by recomputing: exact with all that the owner has, useless without his key."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.inference import BatchedPerturbation
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.tasks.label_tensors import class_shares
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from mtlue_cli.verification.countermeasures.base import AttackerView
from mtlue_cli.verification.countermeasures.recompute_removal import RecomputeRemoval, known_labels
from tests import dense_sample
from tests.multitask_sample import TASKS
from tests.small_set import write_checkpoint

CPU = torch.device("cpu")
KEY = Key(bytes(range(32)))
SIDE = 16


def protected(weights: Path, count: int = 70) -> tuple[Tensor, Tensor, AttackerView]:
    """Originals, what their owner releases, and what an attacker with the weights has."""
    rng = torch.Generator().manual_seed(0)
    originals = torch.randint(40, 216, (count, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8)
    labels = {task.name: torch.randint(task.num_classes, (count,), generator=rng) for task in TASKS}
    labels["colour"][::7] = UNLABELLED
    loaded = load_checkpoint(weights).bound(KEY, TASKS)
    columns = {name: column.tolist() for name, column in labels.items()}
    deltas = BatchedPerturbation(loaded.generator, CPU)(list(originals.numpy()), columns)
    released = [
        torch.from_numpy(protect_pixels(image.permute(1, 2, 0).contiguous().numpy(), delta, 8)).permute(2, 0, 1)
        for image, delta in zip(originals, deltas, strict=True)
    ]
    return originals, torch.stack(released), AttackerView(labels, TASKS, None, SIDE, 0, CPU, weights=weights)


def error(images: Tensor, originals: Tensor) -> float:
    return float((images.double() - originals.double()).square().mean().sqrt())


def test_weights_without_a_key_give_the_originals_back(tmp_path: Path) -> None:
    originals, release, view = protected(write_checkpoint(tmp_path / "own.safetensors", TASKS))
    given = error(release, originals)
    once, twice = (error(RecomputeRemoval(rounds).before_training(release, view), originals) for rounds in (1, 2))
    assert given > 4
    assert twice <= once < 0.1 * given


def test_weights_with_a_wrong_key_leave_the_perturbation_and_add_another(tmp_path: Path) -> None:
    originals, release, view = protected(write_checkpoint(tmp_path / "any.safetensors", None))
    cleaned = RecomputeRemoval().before_training(release, view)
    assert error(cleaned, originals) > 1.2 * error(release, originals)
    other = RecomputeRemoval().before_training(release, replace(view, seed=1))
    assert not torch.equal(other, cleaned)


@pytest.mark.parametrize("universal", [True, False])
@pytest.mark.parametrize("stored", [32, 48])
def test_tints_of_masks_come_off_with_any_key(tmp_path: Path, universal: bool, stored: int) -> None:
    """Where they lie the published masks tell; labels may be kept as small numbers, at another size."""
    tasks = dense_sample.TASKS.subset(["bright", "parts"])
    images, labels = dense_sample.draw_scenes(24, SIDE)
    labels = {name: labels[name] for name in tasks.names}
    shares = dict(zip(tasks.names, class_shares(labels, tasks), strict=True))
    path = write_checkpoint(tmp_path / "any.safetensors", None if universal else tasks)
    loaded = load_checkpoint(path).bound(KEY, tasks, shares)
    originals = images.clamp(40, 215)
    delta = (loaded.generator.perturb(originals.float() / 255, labels)).round()
    release = (originals + delta).to(torch.uint8)
    kept = {"bright": labels["bright"], "parts": labels["parts"].to(torch.int16)}
    if stored != SIDE:
        larger = nn.functional.interpolate(labels["parts"][:, None].float(), size=stored, mode="nearest-exact")
        kept["parts"] = larger[:, 0].to(torch.int16)
    cleaned = RecomputeRemoval().before_training(release, AttackerView(kept, tasks, None, SIDE, 0, CPU, weights=path))
    assert error(release, originals) > 4
    assert error(cleaned, originals) < 0.2 * error(release, originals)


def test_the_bound_of_the_release_scales_what_is_subtracted(tmp_path: Path) -> None:
    _, release, view = protected(write_checkpoint(tmp_path / "own.safetensors", TASKS), count=4)
    for epsilon in (2, 8):
        cleaned = RecomputeRemoval().before_training(release, replace(view, epsilon=epsilon))
        moved = (cleaned.int() - release.int()).abs()
        assert epsilon - 1 <= moved.max() <= epsilon


def test_images_of_another_side_are_cleaned_too(tmp_path: Path) -> None:
    _, _, view = protected(write_checkpoint(tmp_path / "own.safetensors", TASKS), count=4)
    images = torch.full((4, 3, 50, 50), 128, dtype=torch.uint8)
    reported: list[float] = []
    cleaned = RecomputeRemoval().before_training(images, replace(view, on_progress=reported.append))
    assert cleaned.shape == images.shape
    assert not torch.equal(cleaned, images)
    assert reported == [1.0]


def test_labels_are_recoded_by_name() -> None:
    mine = TaskSet((Task("a", TaskKind.CATEGORICAL, ("x", "y", "z")), Task("b", TaskKind.BINARY, ("0", "1"))))
    theirs = TaskSet((Task("a", TaskKind.BINARY, ("z", "x")), Task("c", TaskKind.BINARY, ("0", "1"))))
    found = known_labels({"a": torch.tensor([0, 1, 2, -1]), "b": torch.zeros(4, dtype=torch.int64)}, mine, theirs)
    assert {name: column.tolist() for name, column in found.items()} == {"a": [1, -1, 0, -1]}


def test_it_needs_weights_and_a_round() -> None:
    assert RecomputeRemoval.needs_weights
    view = AttackerView({}, TASKS, None, SIDE, 0, CPU)
    with pytest.raises(ValueError, match="needs the weights"):
        RecomputeRemoval().before_training(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), view)
    with pytest.raises(ValueError, match="rounds is 0, expected a whole number >= 1"):
        RecomputeRemoval(0)
