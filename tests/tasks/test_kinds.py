"""Losses, agreement, wrong targets and codes of tasks that are labelled pixel by pixel, against values by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_tensors import MAPS, as_labels, code_shares, code_weights, empty_maps, with_spans
from mtlue_cli.tasks.losses import count_correct, sample_losses, shifted_labels, task_losses
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.dense_sample import DEPTH, NORMALS, PARTS, TASKS, draw_scenes

DENSE = (PARTS, DEPTH, NORMALS)


def blank(task: Task, count: int = 2, side: int = 4) -> Tensor:
    return as_labels(empty_maps(task, count, side))


def outputs_for(task: Task, count: int = 2, side: int = 4) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return torch.randn(count, task.channels, side, side, generator=rng).requires_grad_(True)


def of(task: Task, outputs: Tensor, labels: Tensor) -> float:
    return task_losses({task.name: outputs}, {task.name: labels}, TaskSet((task,)))[task.name].item()


@pytest.mark.parametrize("task", DENSE, ids=lambda task: task.name)
def test_a_blank_map_gives_a_loss_of_exactly_nothing_and_no_gradient(task: Task) -> None:
    outputs = outputs_for(task)
    with torch.no_grad():
        outputs[0] = math.inf if task.kind is TaskKind.DEPTH else 0.0
    loss = task_losses({task.name: outputs}, {task.name: blank(task)}, TaskSet((task,)))[task.name]
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert loss.item() == 0
    assert outputs.grad is not None
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))
    assert count_correct({task.name: outputs}, {task.name: blank(task)}, TaskSet((task,))) == {task.name: (0, 0)}


def test_segmentation_is_the_mean_cross_entropy_of_labelled_pixels() -> None:
    labels = torch.tensor([[[0, 1], [-1, 2]]])
    outputs = torch.zeros(1, 3, 2, 2)
    outputs[0, 2, 1, 1] = 10.0
    sure = math.log(2 + math.exp(10)) - 10
    assert of(PARTS, outputs, labels) == pytest.approx((2 * math.log(3) + sure) / 3, rel=1e-5)


def test_depth_is_the_mean_error_of_valid_pixels_in_shares_of_the_span() -> None:
    labels = torch.tensor([[[[2.0, 0.0], [4.0, 3.0]]]])
    outputs = torch.tensor([[[[2.5, 99.0], [4.0, 1.0]]]])
    assert of(DEPTH, outputs, labels) == pytest.approx((0.5 + 0 + 2) / 3 / 4)
    assert of(replace(DEPTH, span=None), outputs, labels) == pytest.approx(2.5 / 3)


def test_normals_are_one_minus_the_cosine_whatever_the_length_of_the_prediction() -> None:
    labels = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 0]]).T.reshape(1, 3, 1, 3)
    outputs = torch.tensor([[7.0, 0, 0], [0, 3, 3], [5, 5, 5]]).T.reshape(1, 3, 1, 3)
    assert of(NORMALS, outputs, labels) == pytest.approx((0 + 1 - math.sqrt(0.5)) / 2, rel=1e-5)


def test_right_means_the_class_a_quarter_of_the_depth_or_thirty_degrees() -> None:
    angles = torch.tensor([0.0, 29.0, 31.0, 90.0]).deg2rad()
    outputs = {
        "parts": torch.eye(3)[torch.tensor([[0, 1], [1, 2]])].movedim(-1, 0)[None],
        "depth": torch.tensor([[[[2.4, 2.6], [1.6, 9.0]]]]),
        "normals": torch.stack([angles.sin(), angles.new_zeros(4), angles.cos()]).view(1, 3, 2, 2),
    }
    labels = {
        "parts": torch.tensor([[[0, 2], [1, -1]]]),
        "depth": torch.tensor([[[[2.0, 2.0], [2.0, 0.0]]]]),
        "normals": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2),
    }
    assert count_correct(outputs, labels, TASKS.dense) == {"parts": (2, 3), "depth": (2, 3), "normals": (2, 4)}


@pytest.mark.parametrize("task", DENSE, ids=lambda task: task.name)
def test_wrong_targets_keep_what_is_unlabelled_and_stay_valid(task: Task) -> None:
    _, labels = draw_scenes(6, 16)
    wrong = shifted_labels(labels, TASKS)[task.name]
    given = labels[task.name]
    tasks = TaskSet((task,))
    exact = {task.name: given}
    assert code_weights(wrong, task)[1].equal(code_weights(given, task)[1])
    if task.kind is TaskKind.NORMALS:
        torch.testing.assert_close(wrong.norm(dim=1), given.norm(dim=1))
        assert bool((wrong[:, 2] == given[:, 2]).all())  # it still faces the camera
    if task.kind is TaskKind.DEPTH:
        assert 1 <= float(wrong[wrong > 0].min()) <= float(wrong.max()) <= 5
    perfect = torch.nn.functional.one_hot(wrong.clamp_min(0), 3).movedim(-1, 1) if task is PARTS else wrong
    correct, known = count_correct({task.name: perfect.float()}, exact, tasks)[task.name]
    assert known == int(code_weights(given, task)[1].sum()) > 0
    assert correct < known / 3


def test_wrong_targets_by_hand() -> None:
    labels = {
        "parts": torch.tensor([[[0, 1, 2, -1]]]),
        "depth": torch.tensor([[[[1.0, 4.5, 9.0, 0.0]]]]),
        "normals": torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.0, 1.0]]).T.reshape(1, 3, 1, 2),
    }
    wrong = shifted_labels(labels, TASKS.dense)
    assert wrong["parts"].tolist() == [[[1, 2, 0, -1]]]
    assert wrong["depth"].flatten().tolist() == [5.0, 1.5, 1.0, 0.0]
    torch.testing.assert_close(wrong["normals"][0, :, 0, 0], torch.tensor([-0.6, -0.0, 0.8]))
    torch.testing.assert_close(wrong["normals"][0, :, 0, 1], torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("task", DENSE, ids=lambda task: task.name)
def test_codes_share_out_every_labelled_pixel_and_tell_labels_apart(task: Task) -> None:
    _, labels = draw_scenes(4, 16)
    weights, known = code_weights(labels[task.name], task)
    total = weights.sum(dim=1, keepdim=True)
    torch.testing.assert_close(total, known.float(), atol=1e-4, rtol=0)
    assert float(weights.min()) >= 0
    assert weights.shape[1] == MAPS[task.kind].count(task)
    shares = code_shares(labels[task.name], task)
    assert sum(shares) == pytest.approx(1)
    counted = weights.sum(dim=(0, 2, 3)) + 1
    assert shares == pytest.approx((counted / counted.sum()).tolist(), rel=1e-4)


def test_a_depth_lies_between_its_two_nearest_codes() -> None:
    weights, _ = code_weights(torch.tensor([[[[1.0, 5.0, 9.0, 1 + 4 * 2.25 / 7]]]]), DEPTH)
    expected = torch.zeros(8, 4)
    expected[0, 0] = expected[7, 1] = expected[7, 2] = 1
    expected[2, 3], expected[3, 3] = 0.75, 0.25
    torch.testing.assert_close(weights[0, :, 0], expected, atol=1e-5, rtol=0)


def test_losses_of_single_samples_have_the_mean_over_their_own_tasks() -> None:
    _, labels = draw_scenes(3, 16)
    labels["bright"][1] = -1
    for task in DENSE:
        labels[task.name][2] = blank(task, 1, 16)[0]
    rng = torch.Generator().manual_seed(1)
    outputs = {task.name: torch.randn(3, task.channels, 16, 16, generator=rng) for task in DENSE}
    outputs["bright"] = torch.randn(3, 2, generator=rng)
    each = sample_losses(outputs, labels, TASKS)
    for row, named in ((0, TASKS.names), (1, TASKS.dense.names), (2, ("bright",))):
        alone = task_losses(
            {name: outputs[name][row : row + 1] for name in named},
            {name: labels[name][row : row + 1] for name in named},
            TASKS.subset(named),
        )
        assert each[row].item() == pytest.approx(sum(loss.item() for loss in alone.values()) / len(alone), rel=1e-4)


def test_rows_are_labelled_if_any_of_their_pixels_is() -> None:
    _, labels = draw_scenes(3, 16)
    for task in DENSE:
        stored = labels[task.name].to(torch.int16 if task is PARTS else torch.float16)
        stored[1] = blank(task, 1, 16)[0]
        assert labelled_rows(stored, task).tolist() == [True, False, True]
        assert as_labels(stored).dtype is (torch.int64 if task is PARTS else torch.float32)


def test_the_span_of_a_depth_is_that_of_its_valid_pixels_but_for_the_wildest() -> None:
    depth = torch.linspace(2, 6, 1000).view(1, 1, 10, 100).clone()
    depth[..., 0] = 0
    depth[..., 1, 1] = 500
    (found,) = with_spans(TaskSet((replace(DEPTH, span=None),)), {"depth": depth})
    assert found.span is not None
    assert 2 < found.span[0] < 2.1
    assert 5.9 < found.span[1] < 6
    (empty,) = with_spans(TaskSet((replace(DEPTH, span=None),)), {"depth": torch.zeros(1, 1, 4, 4)})
    assert empty.span is None
    (flat,) = with_spans(TaskSet((DEPTH,)), {"depth": torch.full((1, 1, 4, 4), 2.0)})
    assert flat.span == (1.0, 3.0)


def test_dense_tasks_survive_json() -> None:
    assert TaskSet.from_json(TASKS.to_json()) == TASKS
    document = TASKS.to_json()
    document[2]["span"] = [3.0, 1.0]
    with pytest.raises(ValueError, match="span"):
        TaskSet.from_json(document)
