import pytest
import torch

from mtlue_cli.verification.scoring import stop_early

FIRST = torch.tensor([True, True, False, False])
"""Images 0 and 1 are the first half, images 2 and 3 the second."""


def test_each_half_is_measured_at_the_epoch_that_the_other_chose_by_hand() -> None:
    labels = {"a": torch.tensor([0, 1, 0, 1]), "b": torch.tensor([1, 1, 0, 0])}
    predictions = {
        # Right:       half 1  half 2
        "a": torch.tensor(
            [
                [1, 0, 0, 1],  # 0/2     2/2
                [0, 1, 1, 1],  # 2/2     1/2
                [0, 0, 1, 0],  # 1/2     0/2
            ]
        ),
        "b": torch.tensor(
            [
                [1, 0, 0, 1],  # 1/2     1/2
                [1, 0, 1, 1],  # 1/2     0/2
                [1, 1, 1, 1],  # 2/2     0/2
            ]
        ),
    }
    # Means of half 1: 1/4, 3/4, 3/4: epoch 2 is the earliest of the best. Of half 2: 3/4, 1/4, 0: epoch 1.
    stop = stop_early(predictions, labels, FIRST)
    assert stop is not None
    assert stop.epochs == (2, 1)
    # Half 2 at epoch 2 and half 1 at epoch 1.
    assert stop.accuracy == {"a": pytest.approx((0.5 + 0.0) / 2), "b": pytest.approx((0.0 + 0.5) / 2)}


def test_the_best_epoch_of_pure_luck_is_not_rewarded() -> None:
    rng = torch.Generator().manual_seed(0)
    predictions = {"a": torch.randint(2, (50, 400), generator=rng)}
    labels = {"a": torch.randint(2, (400,), generator=rng)}
    first = torch.arange(400) < 200
    stop = stop_early(predictions, labels, first)
    assert stop is not None
    lucky = (predictions["a"] == labels["a"]).double().mean(dim=1).max().item()
    assert stop.accuracy["a"] < lucky
    assert stop.accuracy["a"] == pytest.approx(0.5, abs=0.04)


def test_unlabelled_images_do_not_count() -> None:
    labels = {"a": torch.tensor([0, -1, -1, 1])}
    predictions = {"a": torch.tensor([[0, 5, 5, 0], [0, 5, 5, 1]])}
    stop = stop_early(predictions, labels, FIRST)
    assert stop is not None
    assert stop.epochs == (1, 2)
    assert stop.accuracy == {"a": 0.5}  # half 2 at epoch 1: wrong; half 1 at epoch 2: right


def test_a_task_of_one_half_is_measured_there_at_the_epoch_of_the_other() -> None:
    labels = {"a": torch.tensor([0, 0, 0, 0]), "b": torch.tensor([1, 1, -1, -1])}
    predictions = {
        "a": torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]),
        "b": torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]),
    }
    stop = stop_early(predictions, labels, FIRST)
    assert stop is not None
    assert stop.epochs == (1, 2)
    assert stop.accuracy["b"] == 0.5
    assert stop.accuracy["a"] == 0.0


def test_a_half_without_any_label_can_choose_nothing() -> None:
    assert stop_early({"a": torch.zeros(2, 4)}, {"a": torch.tensor([0, 1, -1, -1])}, FIRST) is None


def test_a_task_without_any_label_is_an_error() -> None:
    labels = {"a": torch.tensor([0, 1, 0, 1]), "b": torch.full((4,), -1)}
    with pytest.raises(ValueError, match="without a labelled image: b"):
        stop_early({"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}, labels, FIRST)


def test_tasks_that_are_not_judged_have_no_say_in_the_epoch() -> None:
    """``a`` is best in the first epoch, ``b``, which has more to gain, in the second."""
    labels = {"a": torch.zeros(4, dtype=torch.long), "b": torch.zeros(4, dtype=torch.long)}
    predictions = {
        "a": torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1]], dtype=torch.int32),
        "b": torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.int32),
    }
    half = torch.tensor([True, True, False, False])
    by_all, by_one = (stop_early(predictions, labels, half, None, names) for names in (None, ["a"]))
    assert by_all is not None
    assert by_one is not None
    assert (by_all.epochs, by_one.epochs) == ((2, 2), (1, 1))
    assert by_one.accuracy == {"a": 1.0, "b": 0.0}
