"""Victims that stop early, that see a sequence of releases, and that predict through concepts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, LearnerName, MetricName, WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.training import multitask_loop
from mtlue_cli.training.methods import method_named
from mtlue_cli.verification.conditions import Condition, Material, Role, VictimSpec, plan_conditions
from mtlue_cli.verification.countermeasures.registry import countermeasure_named
from mtlue_cli.verification.experiment import Laboratory
from mtlue_cli.verification.figures import ConditionFigures, figures_of
from mtlue_cli.verification.training_images import TrainingImages, mix
from mtlue_cli.verification.victim_result import VictimResult
from mtlue_cli.workflows.verify.config import falling_shares
from tests.tiny_network import build_tiny
from tests.verification.test_experiment import DATA, GREY, IMAGES, LABELS, SETTINGS, SMALL, TASKS, laboratory, under

THREE = (1.0, 0.5, 0.0)
GRADUAL = Condition(SMALL, trajectory=THREE)
RES_CBM = VictimSpec(BackboneName.SMALL, method=method_named("res-cbm:target=bright,residuals=4"))
LONG = replace(SETTINGS, epochs=5, learning_rate=2e-2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under test is what happens around the network."""
    monkeypatch.setattr(multitask_loop, "build_network", build_tiny)


def figures(condition: Condition, found: VictimResult, clean: VictimResult, judged: set[str]) -> ConditionFigures:
    floors = {"bright": 0.5, "red": 0.5}
    return figures_of(condition, [found], [clean], floors, TASKS, judged, MetricName.ACCURACY)


def test_validation_images_are_held_out_and_clean_in_part() -> None:
    attack = countermeasure_named("early-stop:share=0.25,clean=0.75").settings
    assert attack.validation is not None
    images = TrainingImages(IMAGES, lambda: GREY, 8)
    (kept, kept_labels), (held, held_labels) = images.hold_out((GREY, LABELS), attack.validation, seed=0)
    assert (len(kept), len(held), len(kept_labels["red"]), len(held_labels["red"])) == (120, 40, 120, 40)
    assert bool((kept == 128).all())
    clean = (held != 128).flatten(1).any(dim=1)
    assert int(clean.sum()) == 30
    originals = {image.numpy().tobytes(): int(label) for image, label in zip(IMAGES, LABELS["red"], strict=True)}
    assert all(
        originals[image.numpy().tobytes()] == label
        for image, label in zip(held[clean], held_labels["red"][clean], strict=True)
    )
    (again, _), _ = images.hold_out((IMAGES, LABELS), attack.validation, seed=1)
    assert not torch.equal(again, images.hold_out((IMAGES, LABELS), attack.validation, seed=0)[0][0])


def misleading(labels: Mapping[str, Tensor] = LABELS) -> Tensor:
    """A release in which the labels are written into a corner, stronger than what the images show."""
    marked = IMAGES.clone()
    marked[:, :, :8, :8] = (255 * labels["red"]).to(torch.uint8).view(-1, 1, 1, 1)
    marked[:, :, 8:, :8] = (255 * labels["bright"]).to(torch.uint8).view(-1, 1, 1, 1)
    return marked


def test_the_epoch_that_clean_validation_images_choose_counts_and_test_images_choose_none() -> None:
    lab = laboratory(release=misleading(), settings=LONG)
    steps: list[int] = []
    found = lab.run(under("early-stop:share=0.25,clean=1"), 1, steps.append)
    assert sum(steps) == 5 * 120 == lab.images_seen(under("early-stop:share=0.25,clean=1"))
    assert found.stopped is not None
    (chosen,) = set(found.stopped.values())
    counted = found.curve[chosen - 1].test_accuracy
    assert dict(found.scores[MetricName.ACCURACY]) == pytest.approx(counted)
    assert found.best_accuracy is None
    assert found.best_epochs is None
    # Which test images there are does not matter.
    other = replace(DATA, test_images=255 - DATA.test_images)
    assert replace(lab, data=other).run(under("early-stop:share=0.25,clean=1"), 1).stopped == found.stopped
    shown = figures(under("early-stop"), found, lab.run(Condition(SMALL, Material.CLEAN), 1), {"bright", "red"})
    assert shown.role is Role.JUDGED
    assert shown.learned is not None
    assert not shown.learned.at_best_epoch
    assert shown.stopped_epochs == (found.stopped,)


def test_the_judged_tasks_choose_the_epoch_and_each_network_its_own() -> None:
    single = replace(under("early-stop:share=0.25"), victim=VictimSpec(BackboneName.SMALL, LearnerName.STL))
    found = laboratory(release=misleading(), settings=LONG).run(single, 1)
    assert found.stopped is not None
    for name, epoch in found.stopped.items():
        assert found.scores[MetricName.ACCURACY][name] == pytest.approx(found.curve[epoch - 1].test_accuracy[name])
    by_all, by_red = (
        laboratory(release=misleading(), data=replace(DATA, judged=judged)).run(under("early-stop:share=0.25"), 1)
        for judged in (None, ("red",))
    )
    assert by_all.digest != by_red.digest


def test_a_network_without_a_judged_column_counts_at_its_last_epoch() -> None:
    single = replace(under("early-stop:share=0.25"), victim=VictimSpec(BackboneName.SMALL, LearnerName.STL))
    found = laboratory(release=misleading(), data=replace(DATA, judged=("red",)), settings=LONG).run(single, 1)
    assert found.stopped is not None
    assert found.stopped["bright"] == LONG.epochs


@pytest.mark.parametrize(
    ("condition", "data", "message"),
    [
        (under("early-stop:share=0.01"), DATA, "2 validation images are too few"),
        (Condition(RES_CBM), replace(DATA, tasks=TASKS.subset(["red"])), "a network has one column alone"),
        (Condition(replace(RES_CBM, learner=LearnerName.STL)), DATA, "a network has one column alone"),
        (
            Condition(VictimSpec(method=method_named("res-cbm:target=green"))),
            DATA,
            "no measured column is called 'green'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(condition: Condition, data: Any, message: str) -> None:  # noqa: ANN401 - a frozen dataclass
    with pytest.raises(InputError, match=message):
        laboratory(data=data).require(condition)


def test_two_early_stops_are_one_too_many() -> None:
    with pytest.raises(InputError, match="names the same step twice"):
        countermeasure_named("early-stop+early-stop:clean=1")
    both = countermeasure_named("grayscale+early-stop:clean=1")
    assert both.settings.validation == (0.1, 1)


def test_a_sequence_of_releases_is_learned_from_one_after_the_other(tmp_path: Path) -> None:
    """The network goes on: after two releases in grey it still learns from the clean images that come last."""
    lab = laboratory(tmp_path, settings=LONG)
    steps: list[int] = []
    found = lab.run(GRADUAL, 1, steps.append)
    assert GRADUAL.name == "small: 100, 50, 0 % protected"
    assert GRADUAL.role is Role.COMPARISON
    assert (GRADUAL.stage_epochs(5), GRADUAL.total_epochs(5)) == (2, 6)
    assert sum(steps) == 6 * 160 == lab.images_seen(GRADUAL)
    assert [point.epoch for point in found.curve] == list(range(1, 7))
    assert found.best_epochs is not None
    clean = lab.run(Condition(SMALL, Material.CLEAN), 1)
    stages = figures(GRADUAL, found, clean, {"bright", "red"}).trajectory
    assert [stage.protected_fraction for stage in stages] == [1.0, 0.5, 0.0]
    # By hand: the means over both tasks at the ends of the stages, epochs 2, 4 and 6.
    for stage, point in zip(stages, (found.curve[1], found.curve[3], found.curve[5]), strict=True):
        assert stage.score.mean == pytest.approx(sum(point.test_accuracy.values()) / 2)
        assert stage.error.mean == pytest.approx(1 - sum(value or 0 for value in point.train_accuracy.values()) / 2)
    assert stages[2].mean_error.mean == pytest.approx(sum(stage.error.mean for stage in stages) / 3)
    assert stages[2].learned_fraction.mean > stages[0].learned_fraction.mean + 0.3
    assert lab.run(GRADUAL, 1).cached
    assert lab.run(Condition(SMALL, trajectory=(1.0, 0.0)), 1).digest != found.digest


def test_later_releases_hold_everything_that_earlier_ones_leak() -> None:
    images = TrainingImages(IMAGES, lambda: GREY, 8)
    first, second, third = (stage[0] for stage in images.stages(GRADUAL, LABELS, 1))
    assert torch.equal(first, GREY)
    assert torch.equal(second, mix(GREY, IMAGES, 0.5, 1)[0])
    assert torch.equal(third, IMAGES)


def test_the_sequence_is_planned_for_the_first_victim_alone() -> None:
    planned = plan_conditions([SMALL, VictimSpec()], trajectory=THREE, control=False)
    assert [one.name for one in planned if one.trajectory] == ["small: 100, 50, 0 % protected"]


def test_a_column_is_predicted_through_the_others() -> None:
    lab = laboratory(settings=replace(LONG, epochs=10))
    assert Condition(RES_CBM).notes(TASKS) == (
        "res-cbm predicts bright through red: 2 concepts and 4 residual vectors",
    )
    clean, found = lab.run(Condition(RES_CBM, Material.CLEAN), 1), lab.run(Condition(RES_CBM), 1)
    concepts = clean.concepts
    assert concepts is not None
    assert (concepts.target, concepts.concepts, concepts.residuals, concepts.length) == ("bright", 2, 4, 1.0)
    assert concepts.accuracy == pytest.approx(clean.scores[MetricName.ACCURACY]["bright"])
    assert concepts.accuracy > 0.7  # the vectors find brightness in features that were learned for redness
    assert concepts.by_concepts < concepts.accuracy
    assert concepts.efficiency == pytest.approx(100 * concepts.accuracy / 6)
    assert concepts.efficiency_by_concepts == pytest.approx(100 * concepts.by_concepts / 2)
    shown = figures(Condition(RES_CBM), found, clean, {"bright", "red"}).concepts
    assert shown is not None
    assert found.concepts is not None
    assert shown.by_concepts.mean == pytest.approx(found.concepts.by_concepts)
    assert found.concepts.accuracy < concepts.accuracy


def test_concepts_are_of_the_epoch_that_validation_images_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter(range(10, 0, -1))  # the first epoch is the best
    monkeypatch.setattr(Laboratory, "_validator", lambda *_: lambda _: float(next(scores)))
    early = replace(under("early-stop:share=0.25,clean=1"), victim=RES_CBM, material=Material.CLEAN)
    found = laboratory(settings=replace(LONG, epochs=10)).run(early, 1)
    assert found.stopped == {"bright": 1, "red": 1}
    assert found.concepts is not None
    first, *_, last = (point.test_accuracy["bright"] for point in found.curve)
    assert found.concepts.accuracy == pytest.approx(first)
    assert first != pytest.approx(last)


def test_the_last_column_is_the_usual_target_and_weightings_by_gradient_take_it() -> None:
    usual = replace(RES_CBM, method=method_named("res-cbm"), weighting=WeightingName.PCGRAD)
    found = laboratory().run(Condition(usual, Material.CLEAN), 1)
    assert found.concepts is not None
    assert found.concepts.target == "red"


def test_what_is_to_stay_useful_has_an_average_of_its_own() -> None:
    lab = laboratory()
    clean = lab.run(Condition(SMALL, Material.CLEAN), 1)
    found = figures(Condition(SMALL), clean, clean, {"red"})
    assert found.average is not None
    assert found.average.tasks == ("red",)
    assert found.utility is not None
    assert found.utility.tasks == ("bright",)
    assert found.utility.learned_fraction.mean == pytest.approx(1)
    assert figures(Condition(SMALL), clean, clean, {"red", "bright"}).utility is None


@pytest.mark.parametrize("text", ["1.0", "0.2,x", "0.5,0.5", "1.2,0", "0.5,-0.1", ""])
def test_shares_that_do_not_fall_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="at least two protected shares that fall"):
        falling_shares(text)
    assert falling_shares("1.0, 0.5,0") == (1.0, 0.5, 0.0)
