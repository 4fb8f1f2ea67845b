import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, TaskKind
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.verification.experiment import Condition, CurvePoint, ExperimentData, VictimResult, run_condition
from mtlue_cli.verification.result_cache import ResultCache

TASKS = TaskSet((Task("bright", TaskKind.BINARY, ("0", "1")), Task("red", TaskKind.BINARY, ("0", "1"))))
SETTINGS = LearningSettings(
    epochs=2, batch_size=20, learning_rate=3e-3, crop_size=16, backbone=BackboneName.SMALL, seed=1
)
CPU = torch.device("cpu")


def _set(count: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Images whose brightness and redness are the labels."""
    rng = torch.Generator().manual_seed(seed)
    bright, red = torch.randint(2, (2, count), generator=rng)
    images = torch.randint(60, 100, (count, 3, 18, 18), generator=rng) + 60 * bright.view(-1, 1, 1, 1)
    images[:, 0] += 60 * red.view(-1, 1, 1)
    return images.to(torch.uint8), {"bright": bright, "red": red}


IMAGES, LABELS = _set(160, seed=0)
DATA = ExperimentData(TASKS, LABELS, *_set(60, seed=1))


def test_a_victim_learns_and_is_tested_after_every_epoch() -> None:
    steps: list[int] = []
    points: list[CurvePoint] = []
    result = run_condition(
        Condition("clean", lambda: IMAGES), DATA, SETTINGS, CPU, ResultCache(None), steps.append, points.append
    )
    assert sum(steps) == 2 * 160
    assert [point.epoch for point in points] == [1, 2]
    assert result.curve == tuple(points)
    assert result.accuracy == points[-1].test_accuracy
    assert min(result.accuracy.values()) > 0.8
    assert not result.cached


def test_a_finished_victim_is_not_trained_again(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    first = run_condition(Condition("clean", lambda: IMAGES), DATA, SETTINGS, CPU, cache)
    steps: list[int] = []
    again = run_condition(Condition("clean", lambda: IMAGES.clone()), DATA, SETTINGS, CPU, cache, steps.append)
    assert steps == []
    assert again == replace(first, cached=True)


def test_whatever_determines_the_result_is_in_its_digest() -> None:
    changed_image = IMAGES.clone()
    changed_image[3, 0, 0, 0] += 1
    changed_labels = {**LABELS, "red": 1 - LABELS["red"]}
    clean = Condition("clean", lambda: IMAGES)
    quick = replace(SETTINGS, epochs=1)
    variants = [
        (clean, DATA, quick),
        (Condition("clean", lambda: changed_image), DATA, quick),
        (Condition("noise", lambda: IMAGES), DATA, quick),
        (clean, replace(DATA, train_labels=changed_labels), quick),
        (
            clean,
            replace(
                DATA, test_images=DATA.test_images[:59], test_labels={k: v[:59] for k, v in DATA.test_labels.items()}
            ),
            quick,
        ),
        (clean, DATA, replace(quick, seed=2)),
    ]
    digests = [run_condition(*variant, CPU, ResultCache(None)).digest for variant in variants]
    assert len(set(digests)) == len(variants)


@pytest.mark.parametrize(
    "damage",
    [{"accuracy": {"bright": 0.5}}, {"accuracy": {"bright": 0.5, "red": 7}}, {"curve": None}, {"seconds": "x"}],
)
def test_a_damaged_entry_is_trained_again_and_replaced(tmp_path: Path, damage: dict[str, object]) -> None:
    cache = ResultCache(tmp_path)
    quick = replace(SETTINGS, epochs=1)
    first = run_condition(Condition("clean", lambda: IMAGES), DATA, quick, CPU, cache)
    entry = tmp_path / f"{first.digest}.json"
    document = json.loads(entry.read_text())
    document["result"].update(damage)
    entry.write_text(json.dumps(document))
    again = run_condition(Condition("clean", lambda: IMAGES), DATA, quick, CPU, cache)
    assert not again.cached
    assert again.accuracy == first.accuracy
    assert VictimResult.from_json(json.loads(entry.read_text())["result"], TASKS).accuracy == first.accuracy


def test_a_figure_that_does_not_exist_is_null_in_json() -> None:
    point = CurvePoint(1, float("nan"), {"bright": float("nan"), "red": 0.5}, {"bright": 0.5, "red": 0.5})
    result = VictimResult("clean", {"bright": 0.5, "red": 0.5}, (point,), 1.0, "d", cached=False)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text)["curve"][0]["train_accuracy"] == {"bright": None, "red": 0.5}
    assert VictimResult.from_json(json.loads(text), TASKS).to_json()["curve"] == result.to_json()["curve"]
