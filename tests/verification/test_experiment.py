import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from msgspec import structs
from torch import Tensor

from mtlue_cli.choices import (
    BackboneName,
    LearnerName,
    MetricName,
    TaskKind,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.errors import InputError
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.training.methods import METHODS, method_named
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.verification.conditions import Condition, Material, VictimSpec
from mtlue_cli.verification.countermeasures.registry import countermeasure_named
from mtlue_cli.verification.experiment import ExperimentData, Laboratory
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.training_images import TrainingImages
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult

pytestmark = pytest.mark.usefixtures("tiny_small")

TASKS = TaskSet((Task("bright", TaskKind.BINARY, ("0", "1")), Task("red", TaskKind.BINARY, ("0", "1"))))
SETTINGS = LearningSettings(epochs=2, batch_size=20, learning_rate=1e-2, crop_size=16, seed=1)
KEY = Key(bytes(range(32)))
SMALL = VictimSpec(BackboneName.SMALL)
CLEAN = Condition(SMALL, Material.CLEAN)
CPU = torch.device("cpu")


def under(name: str) -> Condition:
    """The release under a countermeasure."""
    return Condition(SMALL, countermeasure=countermeasure_named(name))


def _set(count: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Images whose brightness and redness are the labels; what is red is as bright in grey as what is not."""
    rng = torch.Generator().manual_seed(seed)
    bright, red = torch.randint(2, (2, count), generator=rng)
    images = torch.randint(60, 100, (count, 3, 18, 18), generator=rng) + 60 * bright.view(-1, 1, 1, 1)
    images[:, 0] += 60 * red.view(-1, 1, 1)
    images[:, 1] -= 31 * red.view(-1, 1, 1)
    return images.to(torch.uint8), {"bright": bright, "red": red}


IMAGES, LABELS = _set(160, seed=0)
TEST_IMAGES, TEST_LABELS = _set(60, seed=1)
DATA = ExperimentData(TASKS, LABELS, TEST_IMAGES, TEST_LABELS)
GREY = torch.full_like(IMAGES, 128)


def laboratory(cache: Path | None = None, release: Tensor = GREY, clean: Tensor = IMAGES, **changes: Any) -> Laboratory:  # noqa: ANN401 - any field
    lab = Laboratory(DATA, TrainingImages(clean, lambda: release, 8), SETTINGS, CPU, ResultCache(cache, KEY))
    return replace(lab, **changes)


def accuracy(result: VictimResult) -> dict[str, float | None]:
    return dict(result.scores[MetricName.ACCURACY])


def test_a_victim_learns_and_is_tested_after_every_epoch() -> None:
    steps: list[int] = []
    points: list[CurvePoint] = []
    lab = laboratory()
    result = lab.run(CLEAN, 1, steps.append, points.append)
    assert sum(steps) == 2 * 160
    assert [point.epoch for point in points] == [1, 2]
    assert result.curve == tuple(points)
    assert accuracy(result) == pytest.approx(points[-1].test_accuracy)
    assert min(value or 0 for value in accuracy(result).values()) > 0.8
    assert min(value or 0 for value in result.scores[MetricName.AUROC].values()) > 0.9
    assert result.best_accuracy is not None
    assert min(result.best_accuracy.values()) > 0.8
    assert not result.cached
    # Which images were right, from which intervals are made, is what the scores count.
    assert result.best_correct is not None
    half = lab.scoring.first_half.numpy()
    for name in TASKS.names:
        last, best = (
            np.unpackbits(np.frombuffer(kept[name], np.uint8), count=60)
            for kept in (result.correct, result.best_correct)
        )
        assert last.mean() == pytest.approx(accuracy(result)[name])
        assert (best[half].mean() + best[~half].mean()) / 2 == pytest.approx(result.best_accuracy[name])


def test_a_grey_release_teaches_nothing() -> None:
    result = laboratory().run(Condition(SMALL), 1)
    assert max(value or 0 for value in result.scores[MetricName.BALANCED].values()) <= 0.75


def test_the_steps_of_an_epoch_are_those_that_are_taken() -> None:
    part = Condition(SMALL, Material.CLEAN_PART, protected_fraction=0.3)
    for condition, expected in ((CLEAN, 8), (part, 6)):
        steps: list[int] = []
        laboratory().run(condition, 1, steps.append)
        assert len(steps) == 2 * expected
        assert laboratory().steps_per_epoch(condition) == expected
    labels = {"bright": LABELS["bright"], "red": torch.where(torch.arange(160) < 50, LABELS["red"], -1)}
    partly = laboratory(data=replace(DATA, train_labels=labels))
    single = VictimSpec(BackboneName.SMALL, LearnerName.STL)
    assert partly.steps_per_epoch(Condition(single, Material.CLEAN)) == 8


def test_one_network_a_task_learns_too() -> None:
    steps: list[int] = []
    single = VictimSpec(BackboneName.SMALL, LearnerName.STL)
    result = laboratory().run(Condition(single, Material.CLEAN), 1, steps.append)
    assert sum(steps) == 2 * 2 * 160
    assert min(value or 0 for value in accuracy(result).values()) > 0.8


@pytest.mark.parametrize(
    "victim",
    [
        VictimSpec(BackboneName.SMALL, weighting=WeightingName.UW),
        VictimSpec(BackboneName.SMALL, method=METHODS[TrainingMethodName.SPARSE]),
    ],
)
def test_weighting_and_method_change_the_victim(victim: VictimSpec) -> None:
    quick = laboratory(settings=replace(SETTINGS, epochs=1))
    usual = quick.run(CLEAN, 1)
    other = quick.run(Condition(victim, Material.CLEAN), 1)
    assert other.curve[0].loss != usual.curve[0].loss


def test_a_countermeasure_works_on_training_and_test_images() -> None:
    """Without colour nobody can tell red; brightness stays."""
    result = laboratory(release=IMAGES).run(under("grayscale"), 1)
    plain = laboratory(release=IMAGES).run(Condition(SMALL), 1)
    red, plain_red = result.scores[MetricName.AUROC]["red"], plain.scores[MetricName.AUROC]["red"]
    assert red is not None
    assert plain_red is not None
    assert plain_red > 0.95
    assert red < 0.8


def test_a_partly_protected_release_and_its_clean_part() -> None:
    steps: list[int] = []
    lab = laboratory()
    mixed = lab.run(Condition(SMALL, protected_fraction=0.5), 1, steps.append)
    assert sum(steps) == 2 * 160
    steps.clear()
    alone = lab.run(Condition(SMALL, Material.CLEAN_PART, protected_fraction=0.5), 1, steps.append)
    assert 2 * 40 < sum(steps) < 2 * 120
    assert min(value or 0 for value in mixed.scores[MetricName.AUROC].values()) > 0.7
    assert alone.digest != mixed.digest


def test_a_finished_victim_is_not_trained_again(tmp_path: Path) -> None:
    first = laboratory(tmp_path).run(CLEAN, 1)
    steps: list[int] = []
    again = laboratory(tmp_path, clean=IMAGES.clone()).run(CLEAN, 1, steps.append)
    assert steps == []
    assert again == structs.replace(first, cached=True)


@pytest.mark.parametrize("protected_fraction", [0.5, 0.5000001, 0.50000010000001])
@pytest.mark.parametrize("material", [Material.RELEASE, Material.CLEAN_PART])
def test_shares_that_hardly_differ_have_entries_of_their_own(
    tmp_path: Path, material: Material, protected_fraction: float
) -> None:
    lab = laboratory(tmp_path, settings=replace(SETTINGS, epochs=1, batch_size=80))
    condition = Condition(SMALL, material, protected_fraction=protected_fraction)
    usual = Condition(SMALL, material, protected_fraction=0.5)
    first, again = lab.run(condition, 1), lab.run(usual, 1)
    assert again.cached is (protected_fraction == 0.5)
    assert (again.digest == first.digest) is (protected_fraction == 0.5)


def test_settings_are_in_the_digest_as_they_are() -> None:
    """A name may shorten a number, a digest does not; and two names of the same settings are one result."""
    lab = laboratory(release=IMAGES, settings=replace(SETTINGS, epochs=1, batch_size=80))
    blur, other, same, jpeg = (
        lab.run(under(name), 1).digest
        for name in ("gaussian-blur", "gaussian-blur:sigma=1.0000001", "gaussian-blur:sigma=1.0", "jpeg:quality=10")
    )
    assert blur == same
    assert blur != other
    assert jpeg == lab.run(under("jpeg-10"), 1).digest


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (under("gaussian-blur:sigma=6"), "at least 19 pixels per side"),
        (under("recompute-removal"), "an attacker does not have them"),
        (Condition(SMALL, Material.CLEAN_PART, protected_fraction=0.999), "0 of 160 images are clean"),
    ],
)
def test_what_cannot_be_run_is_known_before_the_release_is_loaded(condition: Condition, message: str) -> None:
    def unread() -> Tensor:
        raise AssertionError("the release was loaded")

    lab = laboratory(images=TrainingImages(IMAGES, unread, 8))
    with pytest.raises(InputError, match=message):
        lab.require(condition)
    with pytest.raises(InputError, match=message):
        lab.run(condition, 1)


def test_too_few_images_for_pairs_or_for_a_network_are_known_too() -> None:
    pairs = under("pair-remover")
    lab = laboratory(clean=IMAGES[:79])
    with pytest.raises(InputError, match="79 training images leave too few for pairs"):
        lab.require(pairs)
    laboratory().require(pairs)
    few = replace(DATA, train_labels={**LABELS, "red": torch.full((160,), -1)})
    single = Condition(VictimSpec(BackboneName.SMALL, LearnerName.STL), Material.CLEAN)
    with pytest.raises(InputError, match="too few images to learn from"):
        laboratory(data=few).require(single)


def test_whatever_determines_the_result_is_in_its_digest() -> None:
    changed_image = IMAGES.clone()
    changed_image[3, 0, 0, 0] += 1
    quick: dict[str, Any] = {"settings": replace(SETTINGS, epochs=1, batch_size=80)}
    fewer = replace(DATA, test_images=TEST_IMAGES[:59], test_labels={k: v[:59] for k, v in TEST_LABELS.items()})
    relabelled = replace(DATA, train_labels={**LABELS, "red": 1 - LABELS["red"]})
    variants: Sequence[tuple[Laboratory, Condition, int]] = [
        (laboratory(**quick), CLEAN, 1),
        (laboratory(**quick), CLEAN, 2),
        (laboratory(clean=changed_image, **quick), CLEAN, 1),
        (laboratory(release=IMAGES, **quick), Condition(SMALL), 1),
        (
            laboratory(release=IMAGES, **quick),
            under("jpeg-10"),
            1,
        ),
        (
            laboratory(release=IMAGES, **quick),
            under("jpeg-30"),
            1,
        ),
        (
            laboratory(release=IMAGES, **quick),
            under("jpeg:quality=20"),
            1,
        ),
        (laboratory(**quick), Condition(replace(SMALL, method=method_named("sparse")), Material.CLEAN), 1),
        (laboratory(**quick), Condition(replace(SMALL, method=method_named("sparse:share=0.1")), Material.CLEAN), 1),
        (laboratory(**quick), Condition(SMALL, Material.NOISE), 1),
        (laboratory(**quick), Condition(SMALL, Material.NOISE), 2),
        (laboratory(release=IMAGES, **quick), Condition(SMALL, protected_fraction=0.5), 1),
        (laboratory(release=IMAGES, **quick), Condition(SMALL, Material.CLEAN_PART, protected_fraction=0.5), 1),
        (laboratory(data=relabelled, **quick), CLEAN, 1),
        (laboratory(data=fewer, **quick), CLEAN, 1),
        (laboratory(settings=replace(SETTINGS, epochs=1, batch_size=40)), CLEAN, 1),
    ]
    digests = [lab.run(condition, seed).digest for lab, condition, seed in variants]
    assert len(set(digests)) == len(variants)


@pytest.mark.parametrize(
    "damage",
    [{"scores": {"accuracy": {"bright": 0.5}}}, {"best_accuracy": {"bright": 7, "red": 0}}, {"curve": None}],
)
def test_a_damaged_entry_is_trained_again_and_replaced(tmp_path: Path, damage: dict[str, object]) -> None:
    lab = laboratory(tmp_path, settings=replace(SETTINGS, epochs=1, batch_size=40))
    first = lab.run(CLEAN, 1)
    entry = tmp_path / f"{first.digest}.json"
    document = json.loads(entry.read_text())
    document["result"].update(damage)
    entry.write_text(json.dumps(document))
    again = lab.run(CLEAN, 1)
    assert not again.cached
    assert again.scores == first.scores
    stored = ResultCache(tmp_path, KEY).load(first.digest)
    assert stored is not None
    assert stored.scores == first.scores


def test_a_figure_that_does_not_exist_is_null_in_json() -> None:
    point = CurvePoint.of(1, float("nan"), {"bright": float("nan"), "red": 0.5}, {"bright": 0.5, "red": 0.5})
    scores: dict[MetricName, dict[str, float | None]] = {metric: {"bright": None, "red": 0.5} for metric in MetricName}
    result = VictimResult("clean", 0, scores, {}, None, None, (point,), 1.0, "d", cached=True)
    text = json.dumps(result.to_json(), allow_nan=False)
    (curve,) = json.loads(text)["curve"]
    assert (curve["train_loss"], curve["train_accuracy"]) == (None, {"bright": None, "red": 0.5})
    read = msgspec.json.decode(text, type=VictimResult)
    assert read == result
    assert read.is_of(TASKS)
