"""Victims of tasks that are labelled pixel by pixel: figures, verdict, early stopping, the cache."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, CountermeasureName, LearnerName, MetricName, Precision
from mtlue_cli.commands.verify_tables import by_place_alone
from mtlue_cli.errors import InputError
from mtlue_cli.keys import Key
from mtlue_cli.metrics.dense import dense_floor, dense_scores
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.tasks.label_tensors import empty_maps
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import centred_labels
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.verification.conditions import Condition, Material, VictimSpec
from mtlue_cli.verification.countermeasures.augmentation import CutMix, RandomResizedCrop, zoom_map
from mtlue_cli.verification.countermeasures.base import AttackerView, Pairs
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES, countermeasure_named
from mtlue_cli.verification.experiment import ExperimentData, Laboratory
from mtlue_cli.verification.figures import figures_of
from mtlue_cli.verification.learner import images_a_network
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.scoring import evenly, stop_early
from mtlue_cli.verification.training_images import TrainingImages
from mtlue_cli.verification.verdict import Judgement, Verdict, judge
from mtlue_cli.verification.victim_result import VictimResult
from tests.dense_sample import TASKS, draw_scenes

pytestmark = pytest.mark.usefixtures("tiny_small")

KEY = Key(bytes(range(32)))
SMALL = VictimSpec(BackboneName.SMALL)
CLEAN, RELEASE = Condition(SMALL, Material.CLEAN), Condition(SMALL)
SETTINGS = LearningSettings(epochs=2, batch_size=16, crop_size=32, seed=1, precision=Precision.FLOAT32)
IMAGES, LABELS = draw_scenes(64, 36)
STORED = LABELS | {"parts": LABELS["parts"].to(torch.int16), "normals": LABELS["normals"].half()}
TEST_IMAGES, TEST_LABELS = draw_scenes(24, 36, seed=1)
GREY = torch.full_like(IMAGES, 128)


def laboratory(cache: Path | None = None, tasks: TaskSet = TASKS) -> Laboratory:
    data = ExperimentData(tasks, STORED, TEST_IMAGES, TEST_LABELS)
    images = TrainingImages(IMAGES, lambda: GREY, 8)
    return Laboratory(data, images, SETTINGS, torch.device("cpu"), ResultCache(cache, KEY))


def test_victims_of_all_kinds_are_trained_scored_judged_and_kept(tmp_path: Path) -> None:
    lab = replace(laboratory(tmp_path), settings=replace(SETTINGS, epochs=6, learning_rate=1e-2))
    clean, grey = lab.run(CLEAN, 1), lab.run(RELEASE, 1)
    assert set(clean.dense) == {"parts", "depth", "normals"}
    assert set(clean.dense["depth"]) == {"absolute_error", "relative_error"}
    assert clean.curve[-1].test_accuracy.keys() == set(TASKS.names)
    assert clean.best_accuracy is not None
    floors = lab.scoring.floors(MetricName.ACCURACY)
    assert clean.dense["depth"]["absolute_error"] < floors["depth"]
    again = lab.run(CLEAN, 1)
    assert again.cached
    assert (again.dense, again.best_accuracy, again.curve) == (clean.dense, clean.best_accuracy, clean.curve)

    documents = [
        figures_of(condition, [found], [clean], floors, TASKS, set(TASKS.names), MetricName.ACCURACY).to_json()
        for condition, found in ((CLEAN, clean), (RELEASE, grey))
    ]
    json.dumps(documents, allow_nan=False)
    document = documents[0]
    lines = {task["task"]: task for task in document["tasks"]}
    assert [lines[name]["metric"] for name in TASKS.names] == ["accuracy", "miou", "absolute_error", "mean_angle"]
    assert [lines[name]["lower_is_better"] for name in TASKS.names] == [False, False, True, True]
    assert lines["depth"]["accuracy"] is None
    assert lines["bright"]["dense"] is None
    assert lines["depth"]["dense"]["relative_error"]["mean"] == clean.dense["depth"]["relative_error"]
    assert all(task["learned_fraction"]["mean"] == pytest.approx(1) for task in document["tasks"] if task["conclusive"])


def test_floors_are_those_of_the_centre_that_is_predicted() -> None:
    lab = laboratory()
    centred = centred_labels(TEST_LABELS, TASKS, 32)
    expected = dense_floor(STORED["depth"], centred["depth"], TASKS["depth"])["absolute_error"]
    assert lab.scoring.floors(MetricName.ACCURACY)["depth"] == expected
    assert list(lab.scoring.floors(MetricName.AUROC)) == list(TASKS.names)


def test_place_floors_come_from_the_same_centre_and_reach_every_document() -> None:
    lab = laboratory()
    own, truth = (centred_labels(labels, TASKS, 32)["depth"] for labels in (STORED, TEST_LABELS))
    placed = lab.scoring.place_floors
    assert placed["depth"] == dense_floor(own, truth, TASKS["depth"], per_place=True)["absolute_error"]
    assert set(placed) == {"parts", "depth", "normals"}

    found = victim(1.4, 32.0, 0.6)
    figures = figures_of(
        RELEASE, [found], [victim(1.0, 20.0, 0.9)], FLOORS, JUDGED, set(FLOORS), MetricName.ACCURACY, {"depth": 1.5}
    )
    lines = {line["task"]: line for line in figures.to_json()["tasks"]}
    assert lines["depth"]["place_floor"] == 1.5
    # 0.6 of 1.0 below the constant, 0.1 of 0.5 below what place tells.
    assert lines["depth"]["learned_fraction"]["mean"] == pytest.approx(0.6)
    assert lines["depth"]["learned_beyond_place"]["mean"] == pytest.approx(0.2)
    assert lines["bright"]["place_floor"] is None
    assert lines["normals"]["learned_beyond_place"] is None
    reported = by_place_alone(figures)
    assert reported == "by position alone, without the image: depth error 1.5, learned beyond it 0.20"


def test_nothing_is_said_to_be_learned_beyond_a_place_floor_that_clean_images_do_not_beat() -> None:
    found, clean = victim(1.4, 32.0, 0.6), victim(1.0, 20.0, 0.9)
    placed = {"depth": 1.01}
    figures = figures_of(RELEASE, [found], [clean], FLOORS, JUDGED, set(FLOORS), MetricName.ACCURACY, placed)
    (depth,) = [line for line in figures.tasks if line.task == "depth"]
    assert depth.learned_fraction is not None
    assert depth.learned_beyond_place is None


def test_a_large_set_is_asked_evenly_where_things_lie() -> None:
    assert evenly(torch.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert evenly(torch.arange(3), 4).tolist() == [0, 1, 2]


def test_one_network_a_task_serves_pixels_too() -> None:
    tasks = TASKS.subset(["bright", "depth"])
    lab = laboratory(tasks=tasks)
    result = lab.run(Condition(replace(SMALL, learner=LearnerName.STL), Material.CLEAN), 1)
    assert set(result.dense) == {"depth"}
    assert list(result.curve[0].test_accuracy) == ["bright", "depth"]


def test_images_without_any_labelled_pixel_are_not_trained_on() -> None:
    half = STORED | {"depth": STORED["depth"].clone()}
    half["depth"][:10] = empty_maps(TASKS["depth"], 10, 36)
    tasks = TASKS.subset(["depth", "parts"])
    assert sum(images_a_network(LearnerName.STL, half, tasks)) == 64 + 54
    assert sum(images_a_network(LearnerName.MTL, half, tasks)) == 64


def victim(depth: float, angle: float, bright: float) -> VictimResult:
    """A finished victim of these figures."""
    share: Mapping[str, float | None] = {"bright": bright}
    dense = {"depth": {"absolute_error": depth}, "normals": {"mean_angle": angle}}
    best = {"bright": bright, "depth": depth, "normals": angle}
    scores = dict.fromkeys(MetricName, share)
    return VictimResult("x", 0, scores, dense, best, None, (), 1.0, "digest", cached=False)


FLOORS = {"bright": 0.5, "depth": 2.0, "normals": 40.0}
JUDGED = TASKS.subset(FLOORS)


def verdict_on(release: VictimResult, clean: VictimResult) -> Judgement:
    return judge(
        [
            figures_of(condition, [found], [clean], FLOORS, JUDGED, set(FLOORS), MetricName.ACCURACY)
            for condition, found in ((CLEAN, clean), (RELEASE, release))
        ],
        MetricName.ACCURACY,
        0.35,
        tuple(FLOORS),
    )


def test_learned_fractions_of_errors_and_their_average_by_hand() -> None:
    clean, release = victim(1.0, 20.0, 0.9), victim(1.8, 38.0, 0.6)
    found = figures_of(RELEASE, [release], [clean], FLOORS, JUDGED, set(FLOORS), MetricName.ACCURACY)
    learned = {task.task: task.learned_fraction.mean for task in found.tasks if task.learned_fraction is not None}
    assert learned == pytest.approx({"bright": 0.25, "depth": 0.2, "normals": 0.1})
    assert found.average is not None
    # Gains: floor (0.5 + 0 + 0) / 3, clean (0.9 + 0.5 + 0.5) / 3, score (0.6 + 0.1 + 0.05) / 3.
    assert found.average.learned_fraction.mean == pytest.approx((0.75 - 0.5) / (1.9 - 0.5))
    assert found.worst_task is not None
    assert found.worst_task[0].task == "bright"


def test_who_is_worse_than_the_floor_is_misled() -> None:
    found = figures_of(
        RELEASE, [victim(3.0, 60.0, 0.4)], [victim(1.0, 20.0, 0.9)], FLOORS, JUDGED, set(FLOORS), MetricName.ACCURACY
    )
    assert all(task.learned is not None and task.learned.mean < 0 for task in found.tasks)


def test_an_error_must_fall_by_two_hundredths_of_the_floor_to_tell_anything() -> None:
    barely, clearly = victim(1.97, 39.5, 0.515), victim(1.95, 39.1, 0.53)
    for clean, conclusive in ((barely, False), (clearly, True)):
        found = figures_of(RELEASE, [clean], [clean], FLOORS, JUDGED, set(FLOORS), MetricName.ACCURACY)
        assert [task.conclusive for task in found.tasks] == [conclusive] * 3
    judgement = verdict_on(barely, barely)
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_the_gate_sees_errors() -> None:
    clean = victim(1.0, 20.0, 0.9)
    assert verdict_on(victim(1.8, 38.0, 0.5), clean).verdict is Verdict.PROTECTED
    assert verdict_on(victim(1.2, 24.0, 0.5), clean).verdict is Verdict.NOT_PROTECTED


def test_the_best_epoch_is_chosen_by_gains_beside_accuracies() -> None:
    first = torch.tensor([True, False])
    labels = {"a": torch.tensor([0, 0])}
    predictions = {"a": torch.tensor([[0, 0], [0, 0], [0, 0]])}
    stop = stop_early(predictions, labels, first, {"depth": [(0.1, 0.3), (0.5, 0.2), (0.2, 0.1)]})
    assert stop is not None
    assert stop.epochs == (2, 1)
    assert stop.accuracy == {"a": 1.0, "depth": pytest.approx((0.2 + 0.1) / 2)}
    lone = stop_early(predictions, labels, first, {"depth": [(0.1, None), (0.5, None), (0.2, None)]})
    assert lone is not None
    assert lone.accuracy["depth"] == 0.1  # the half without depths chose the first epoch


def test_early_stopping_tells_errors_in_their_own_unit() -> None:
    lab = laboratory(tasks=TASKS.subset(["depth"]))
    result = lab.run(CLEAN, 1)
    assert result.best_accuracy is not None
    assert result.best_accuracy["depth"] == pytest.approx(result.dense["depth"]["absolute_error"], rel=0.9)
    assert result.best_accuracy["depth"] > 0


def test_a_damaged_dense_entry_of_the_cache_is_trained_again(tmp_path: Path) -> None:
    lab = laboratory(tmp_path, TASKS.subset(["depth"]))
    first = lab.run(CLEAN, 1)
    (entry,) = tmp_path.glob("*.json")
    document = json.loads(entry.read_text())
    document["result"]["dense"]["depth"]["absolute_error"] = -1
    entry.write_text(json.dumps(document))
    again = lab.run(CLEAN, 1)
    assert not again.cached
    assert again.dense == first.dense


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    return IMAGES[:8].float() / 255, {name: column[:8] for name, column in LABELS.items()}


def test_cutmix_pastes_label_maps_with_their_pixels() -> None:
    images, labels = batch()
    # Every pixel names its image and place: what is pasted can be traced.
    images = torch.arange(images.numel()).view_as(images) / images.numel()
    labels["depth"] = images[:, :1].clone()
    mixture = CutMix().augment(images, labels, torch.Generator().manual_seed(3))
    assert mixture.other is not None
    assert not torch.equal(mixture.images, images)
    assert torch.equal(mixture.labels["depth"], mixture.images[:, :1])
    assert mixture.other["depth"] is mixture.labels["depth"]
    assert torch.equal(labels["depth"], images[:, :1])  # the given labels stay


def test_random_resized_crop_zooms_label_maps_with_their_pixels() -> None:
    _, labels = batch()
    smooth = torch.linspace(0.1, 0.9, 36).expand(8, 1, 36, 36)
    labels["depth"] = smooth.clone()
    given = smooth.expand(-1, 3, -1, -1)
    mixture = RandomResizedCrop().augment(given, labels, torch.Generator().manual_seed(2))
    torch.testing.assert_close(mixture.labels["depth"], mixture.images[:, :1], atol=0.8 / 35, rtol=0)
    assert set(mixture.labels["parts"].flatten().tolist()) <= {-1, 0, 1, 2}
    assert mixture.labels["parts"].dtype is torch.int64
    whole = torch.tensor([[0, 0, 36, 36]]).expand(8, -1)
    assert torch.equal(zoom_map(labels["parts"], whole), labels["parts"])


SIDE = IMAGES.shape[-1]


@pytest.mark.parametrize("name", CountermeasureName)
def test_every_countermeasure_serves_mixed_tasks_or_says_why_not(name: CountermeasureName) -> None:
    choice = COUNTERMEASURES[name]
    if choice.settings.moves_content:
        with pytest.raises(InputError, match="moves"):
            choice.require_fit(TASKS, SIDE, has_weights=True)
        choice.require_fit(TASKS.image_level, SIDE, has_weights=True)
        return
    choice.require_fit(TASKS, SIDE, has_weights=True)
    if choice.settings.image_level_only:
        with pytest.raises(InputError, match="image-level labels"):
            choice.require_fit(TASKS.dense, SIDE, has_weights=True)
    if name in (CountermeasureName.PAIR_REMOVER, CountermeasureName.PAIR_PURIFICATION):
        choice = countermeasure_named(f"{name.value}:steps=2")
    if name is CountermeasureName.PURIFICATION:
        choice = countermeasure_named("purification:examples=64")
    labels = {label: column[:8] for label, column in STORED.items()}
    pairs = Pairs(IMAGES[:8], IMAGES[:8].roll(1, dims=-1), labels)
    view = AttackerView(labels, TASKS, pairs, 32, 0, torch.device("cpu"), own_images=IMAGES[8:16])
    made = choice.settings
    if name is CountermeasureName.RECOMPUTE_REMOVAL:
        with pytest.raises(ValueError, match="weights"):
            made.before_training(IMAGES[:8], view)
        return
    assert made.before_training(IMAGES[:8], view).shape == IMAGES[:8].shape
    intervention = made.during_training(view)
    if intervention is not None:
        images, labels = batch()
        lab = laboratory()
        network = _victim_of(lab)
        crops = {label: column[..., :32, :32] if column.ndim > 1 else column for label, column in labels.items()}
        mixture = intervention(network, images[..., :32, :32], crops, torch.Generator().manual_seed(0))
        losses = mixture.losses(network(mixture.images), TASKS)
        assert all(math.isfinite(loss.item()) for loss in losses.values())


def _victim_of(lab: Laboratory) -> torch.nn.Module:
    return build_network(BackboneName.SMALL, lab.data.tasks, 0).train()


def test_scores_are_those_of_the_centre() -> None:
    lab = laboratory(tasks=TASKS.subset(["depth"]))
    truth = centred_labels(TEST_LABELS, TASKS, 32)["depth"]
    kept = lab.scoring.read("depth", truth + 1)
    assert kept.halves[0] == pytest.approx(dense_scores(truth + 1, truth, TASKS["depth"])["absolute_error"], abs=0.05)
    assert 0 <= kept.right < 1
    assert lab.scoring.read("depth", truth).right == 1
