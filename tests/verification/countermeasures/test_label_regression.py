"""Label regression: what is fixed for a class is gone, what is not stays."""

from dataclasses import replace

import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from mtlue_cli.verification.countermeasures.base import AttackerView
from mtlue_cli.verification.countermeasures.label_regression import LabelRegression, centred_design
from tests.verification.countermeasures.toy_release import class_signal, make_release, with_seed

BINARY = TaskSet((Task("bright", TaskKind.BINARY, ("0", "1")),))
CPU = torch.device("cpu")


def test_two_images_of_two_classes_worked_out_by_hand() -> None:
    images = torch.tensor([100, 120], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2).contiguous()
    view = AttackerView({"bright": torch.tensor([0, 1])}, BINARY, None, 2, 0, CPU)
    without = LabelRegression(ridge=1e-9).before_training(images, view)
    assert (without == 110).all()
    # Centred one-hots are +-1/2: Z^T Z = [[.5, -.5], [-.5, .5]], eigenvalue 1 along (1, -1); ridge 1 halves the part.
    half = LabelRegression(ridge=1.0).before_training(images, view)
    assert (half[0] == 105).all()
    assert (half[1] == 115).all()


@pytest.mark.parametrize("unlabelled", [0.0, 0.3])
def test_it_removes_fixed_patterns_up_to_rounding(unlabelled: float) -> None:
    toy = make_release(300, unlabelled=unlabelled)
    attack = LabelRegression(ridge=1e-6)
    cleaned = attack.before_training(toy.release, toy.view)
    # The pattern must be gone without a trace: what is left is what the same regression leaves of the originals.
    content = attack.before_training(toy.originals, toy.view).double()
    known = torch.stack(list(toy.labels.values())).amin(0) >= 0
    difference = (cleaned.double() - content)[known] - (cleaned.double() - content)[known].mean(0)
    assert difference.abs().max() < 2.5
    assert difference.square().mean().sqrt() < 0.6
    assert class_signal(toy.release, toy.labels) > 2.0
    if unlabelled == 0.0:
        assert class_signal(cleaned, toy.labels) < 0.06


def test_the_mean_image_stays() -> None:
    toy = make_release(600)
    cleaned = LabelRegression().before_training(toy.release, toy.view)
    assert (cleaned.double().mean(0) - toy.release.double().mean(0)).abs().max() < 0.1
    assert cleaned.dtype == torch.uint8
    assert cleaned.shape == toy.release.shape


def test_the_same_seed_repeats_it_and_another_does_not() -> None:
    toy = make_release(50)
    first = LabelRegression().before_training(toy.release, toy.view)
    torch.rand(3)
    assert torch.equal(first, LabelRegression().before_training(toy.release, toy.view))
    assert not torch.equal(first, LabelRegression().before_training(toy.release, with_seed(toy.view, 1)))


def test_labels_matter_and_without_them_nothing_changes() -> None:
    toy = make_release(100)
    nothing = {name: torch.full_like(column, UNLABELLED) for name, column in toy.labels.items()}
    kept = LabelRegression().before_training(toy.release, replace(toy.view, labels=nothing))
    assert torch.equal(kept, toy.release)
    swapped = {**toy.labels, "bright": 1 - toy.labels["bright"]}
    rolled = {**toy.labels, "bright": toy.labels["bright"].roll(1)}
    cleaned = LabelRegression().before_training(toy.release, toy.view)
    # The names of the classes do not matter, who is in them does.
    renamed = LabelRegression().before_training(toy.release, replace(toy.view, labels=swapped))
    assert (cleaned != renamed).double().mean() < 1e-3
    other = LabelRegression().before_training(toy.release, replace(toy.view, labels=rolled))
    assert not torch.equal(cleaned, other)


def test_a_strong_ridge_leaves_more() -> None:
    toy = make_release(100)
    left = [
        class_signal(LabelRegression(ridge).before_training(toy.release, toy.view), toy.labels)
        for ridge in (1.0, 100.0)
    ]
    assert left[0] < left[1] < class_signal(toy.release, toy.labels)


def test_columns_of_the_design_have_mean_zero_and_unlabelled_rows_are_zero() -> None:
    toy = make_release(50, unlabelled=0.3)
    design = centred_design(toy.labels, toy.view.tasks)
    assert design.shape == (50, 5)
    assert design.sum(0).abs().max() < 1e-12
    assert (design[toy.labels["colour"] < 0][:, :3] == 0).all()


def test_progress_ends_at_one() -> None:
    toy = make_release(20)
    shares: list[float] = []
    LabelRegression().before_training(toy.release, replace(toy.view, on_progress=shares.append))
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
