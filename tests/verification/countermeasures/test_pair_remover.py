"""A remover trained on pairs: what it learns holds for images that it never saw."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.verification.countermeasures.base import AttackerView, Pairs
from mtlue_cli.verification.countermeasures.in_order import in_order
from mtlue_cli.verification.countermeasures.pair_purification import PairPurification
from mtlue_cli.verification.countermeasures.pair_remover import PairRemover, RemoverNetwork
from mtlue_cli.verification.countermeasures.registry import countermeasure_named
from tests.multitask_sample import TASKS
from tests.verification.countermeasures.toy_release import class_signal, make_release, with_seed

CPU = torch.device("cpu")
QUICK = PairRemover(steps=2, batch_size=4, width=8)
TRAINED = PairRemover(steps=60, batch_size=16, width=8, learning_rate=1e-2, crop_share=1.0)


def view(count: int = 60) -> AttackerView:
    """An attacker with pairs made of other images than the release's."""
    made = make_release(count, seed=5, block=4)
    return replace(make_release(80).view, pairs=Pairs(made.originals, made.release, made.labels))


def error(images: Tensor, originals: Tensor) -> float:
    return float((images.double() - originals.double()).square().mean())


def test_it_lowers_the_error_and_the_class_signal_of_images_that_it_never_saw() -> None:
    toy = make_release(80, block=4)
    cleaned = TRAINED.before_training(toy.release, view())
    assert error(cleaned, toy.originals) < 0.25 * error(toy.release, toy.originals)
    left, given = (images.double() - toy.originals.double() for images in (cleaned, toy.release))
    assert class_signal(left, toy.labels) < 0.5 * class_signal(given, toy.labels)
    assert cleaned.dtype == torch.uint8
    assert cleaned.shape == toy.release.shape


def test_a_constant_perturbation_is_found_without_labels() -> None:
    toy = make_release(80, block=4)
    darker = toy.originals - 6
    attacker = replace(toy.view, pairs=Pairs(toy.originals[:40], darker[:40], {}))
    settings = replace(TRAINED, use_labels=False, steps=40)
    cleaned = settings.before_training(darker[40:], attacker)
    assert error(cleaned, toy.originals[40:]) < 0.1 * 36


def test_no_value_moves_further_than_the_pairs_show() -> None:
    toy = make_release(80, block=4)
    given = view()
    assert given.pairs is not None
    bound = int((given.pairs[0].int() - given.pairs[1].int()).abs().max())
    assert bound == 8
    cleaned = replace(TRAINED, steps=20).before_training(toy.release, given)
    assert (cleaned.int() - toy.release.int()).abs().max() <= bound


def test_it_needs_pairs_and_their_labels_only_if_it_is_to_see_them() -> None:
    toy = make_release(20)
    assert PairRemover().needs_pairs
    with pytest.raises(ValueError, match="needs pairs"):
        QUICK.before_training(toy.release, toy.view)
    blind = replace(toy.view, labels={}, pairs=Pairs(toy.originals, toy.release, {}))
    assert replace(QUICK, use_labels=False).before_training(toy.release, blind).shape == toy.release.shape


@pytest.mark.parametrize(
    "other",
    [
        replace(QUICK, steps=3),
        replace(QUICK, batch_size=8),
        replace(QUICK, learning_rate=0.05),
        replace(QUICK, width=16),
        replace(QUICK, crop_share=0.5),
        replace(QUICK, use_labels=False),
    ],
    ids=["steps", "batch_size", "learning_rate", "width", "crop_share", "use_labels"],
)
def test_each_setting_changes_the_result(other: PairRemover) -> None:
    given = view()
    weights = [settings.train(given).state_dict()["leave.weight"] for settings in (QUICK, other)]
    assert weights[0].shape != weights[1].shape or not torch.equal(*weights)


def test_the_same_seed_repeats_it_and_another_does_not() -> None:
    toy = make_release(20)
    shares: list[float] = []
    given = replace(view(), on_progress=shares.append)
    first = QUICK.before_training(toy.release, given)
    torch.rand(3)
    assert torch.equal(first, QUICK.before_training(toy.release, given))
    assert not torch.equal(first, QUICK.before_training(toy.release, with_seed(given, 1)))
    assert shares[-1] == 1.0


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    QUICK.before_training(make_release(8).release, view())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("size", [16, 19, 24])
def test_the_network_takes_any_side_and_stays_within_its_bound(size: int) -> None:
    network = RemoverNetwork(TASKS, bound=0.1, width=8).eval()
    images = torch.rand(3, 3, size, size)
    labels = {"colour": torch.tensor([0, 1, 2]), "bright": torch.tensor([0, UNLABELLED, 1])}
    with torch.no_grad():
        network.leave.weight.mul_(1e4)
        delta = network(network.inputs(images, labels))
    assert delta.shape == images.shape
    assert delta.abs().max() == pytest.approx(0.1)


def test_labels_lay_the_maps_of_their_classes_beside_the_pixels() -> None:
    network = RemoverNetwork(TASKS, bound=0.1, width=8, map_channels=1)
    with torch.no_grad():
        network.maps.copy_(torch.arange(5.0).view(5, 1, 1, 1).expand_as(network.maps))
    labels = {"colour": torch.tensor([2, 1, UNLABELLED]), "bright": torch.tensor([1, UNLABELLED, UNLABELLED])}
    inputs = network.inputs(torch.zeros(3, 3, 8, 8), labels)
    # Class 2 of the first task is row 2, class 1 of the second row 4; the sum is divided by the root of two tasks.
    assert inputs[:, 3].amax((1, 2)).tolist() == pytest.approx([6 / 2**0.5, 1 / 2**0.5, 0.0])


def test_purification_by_own_pairs_takes_the_first_of_them_and_no_weights() -> None:
    toy, given = make_release(20), view()
    quick = PairPurification(steps=2, batch_size=4, width=8, pairs=40)
    assert (quick.needs_own_pairs, quick.needs_own_images, quick.needs_weights, quick.needs_pairs) == (40, 1, 0, 0)
    assert PairPurification().needs_own_pairs == 500
    cleaned = quick.before_training(toy.release, given)
    assert torch.equal(cleaned, QUICK.before_training(toy.release, view_of(given, 40)))
    assert not torch.equal(cleaned, replace(quick, pairs=30).before_training(toy.release, given))
    with pytest.raises(ValueError, match="needs pairs"):
        quick.before_training(toy.release, toy.view)


def view_of(given: AttackerView, count: int) -> AttackerView:
    assert given.pairs is not None
    originals, protected, labels = given.pairs
    labels = {name: column[:count] for name, column in labels.items()}
    return replace(given, pairs=Pairs(originals[:count], protected[:count], labels))


def test_own_pairs_combine_with_other_steps_but_not_with_pairs_of_another_kind() -> None:
    combined = in_order([countermeasure_named("grayscale"), countermeasure_named("pair-purification:pairs=60")])
    assert combined.settings.needs_own_pairs == 60
    with pytest.raises(InputError, match="pairs of two kinds"):
        countermeasure_named("pair-purification+pair-remover")
