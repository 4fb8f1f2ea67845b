"""Orthogonal projection: the linear shortcut is gone, what is orthogonal to it stays."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.verification.countermeasures.orthogonal_projection import (
    OrthogonalProjection,
    mean_image,
    orthonormal_basis,
)
from tests.multitask_sample import TASKS
from tests.verification.countermeasures.toy_release import ToyRelease, class_signal, make_release, with_seed

QUICK = OrthogonalProjection(epochs=8, batch_size=256)


def probe_accuracy(fit: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> float:
    """Accuracy on ``test`` of ridge regression onto one-hot labels, fitted to ``fit``."""
    mean = fit.double().flatten(1).mean(0)
    known, unseen = fit.double().flatten(1) - mean, test.double().flatten(1) - mean
    normal = known.T @ known
    normal.diagonal().add_(normal.diagonal().mean())
    weights = torch.linalg.solve(normal, known.T @ nn.functional.one_hot(labels, classes).double())
    return float(((unseen @ weights).argmax(1) == test_labels).double().mean())


def shortcut_learned(toy: ToyRelease, images: Tensor) -> dict[str, float]:
    """Accuracy a task of a linear probe fitted to ``images`` on other protected images, which carry the shortcut."""
    other = make_release(600, seed=7)
    return {
        task.name: probe_accuracy(
            images, toy.labels[task.name], other.release, other.labels[task.name], task.num_classes
        )
        for task in TASKS
    }


def test_a_linear_probe_falls_from_certainty_to_chance() -> None:
    toy = make_release(1000)
    before = shortcut_learned(toy, toy.release)
    after = shortcut_learned(toy, QUICK.before_training(toy.release, toy.view))
    assert min(before.values()) > 0.97
    assert after["colour"] < 1 / 3 + 0.1
    assert after["bright"] < 1 / 2 + 0.1


def test_the_shortcut_goes_and_the_content_stays() -> None:
    toy = make_release(1000)
    cleaned = QUICK.before_training(toy.release, toy.view).double()
    content, release = (images.double() - images.double().mean(0) for images in (toy.originals, toy.release))
    assert (cleaned - cleaned.mean(0) - content).square().mean() < 0.1 * (release - content).square().mean()
    assert class_signal(cleaned, toy.labels) < 0.1 * class_signal(toy.release, toy.labels)
    assert (cleaned.mean(0) - toy.release.double().mean(0)).abs().max() < 0.2


def test_a_basis_worked_out_by_hand_drops_what_depends_on_the_rest() -> None:
    directions = torch.tensor([[3.0, 0.0, 4.0], [6.0, 0.0, 8.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])[:3]
    basis = orthonormal_basis(directions)
    assert basis.shape == (3, 2)
    assert torch.allclose(basis[:, 0].abs(), torch.tensor([0.6, 0.0, 0.8]))
    assert torch.allclose(basis[:, 1].abs(), torch.tensor([0.8, 0.0, 0.6]))
    assert torch.allclose(basis.T @ basis, torch.eye(2), atol=1e-6)


def test_nothing_labelled_leaves_the_release_as_it_was() -> None:
    toy = make_release(40)
    nothing = {name: torch.full_like(column, UNLABELLED) for name, column in toy.labels.items()}
    kept = QUICK.before_training(toy.release, replace(toy.view, labels=nothing))
    assert torch.equal(kept, toy.release)


def test_a_class_less_than_classes_gives_the_directions() -> None:
    toy = make_release(60)
    directions = QUICK.directions(toy.release, mean_image(toy.release), toy.view)
    assert directions.shape == (2 + 1, 3, 16, 16)
    assert torch.linalg.matrix_rank(directions.flatten(1)) == 3


def test_the_directions_of_an_averaging_model_are_constant_within_its_squares() -> None:
    toy = make_release(60)
    coarse = replace(QUICK, resolution=4).directions(toy.release, mean_image(toy.release), toy.view)
    squares = coarse.unfold(2, 4, 4).unfold(3, 4, 4)
    assert torch.equal(squares, squares[..., :1, :1].expand_as(squares))
    assert coarse.abs().sum() > 0


def test_images_to_be_judged_are_not_projected() -> None:
    toy = make_release(10)
    assert QUICK.at_inference(toy.originals) is toy.originals


@pytest.mark.parametrize(
    "other",
    [
        replace(QUICK, epochs=1),
        replace(QUICK, batch_size=16),
        replace(QUICK, learning_rate=1.0),
        replace(QUICK, resolution=4),
    ],
    ids=["epochs", "batch_size", "learning_rate", "resolution"],
)
def test_each_setting_changes_the_result(other: OrthogonalProjection) -> None:
    toy = make_release(60)
    first = QUICK.before_training(toy.release, toy.view)
    assert not torch.equal(first, other.before_training(toy.release, toy.view))


def test_the_same_seed_repeats_it_and_another_does_not() -> None:
    toy = make_release(300)
    shares: list[float] = []
    first = QUICK.before_training(toy.release, toy.view)
    torch.rand(3)
    assert torch.equal(first, QUICK.before_training(toy.release, replace(toy.view, on_progress=shares.append)))
    assert not torch.equal(first, QUICK.before_training(toy.release, with_seed(toy.view, 1)))
    assert shares[-1] == 1.0
