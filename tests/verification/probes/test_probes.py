"""Every probe: what it finds where it is known what there is to find."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import ProbeName
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.verification.probes.base import ProbeSample
from mtlue_cli.verification.probes.detectability import Detectability
from mtlue_cli.verification.probes.label_recovery import (
    LabelRecovery,
    discriminant_scores,
    ridge_scores,
)
from mtlue_cli.verification.probes.registry import PROBES
from tests.multitask_sample import TASKS
from tests.verification.countermeasures.toy_release import make_release

CPU = torch.device("cpu")


def sample(count: int = 400, seed: int = 0, *, unlabelled: float = 0.0) -> ProbeSample:
    toy = make_release(count, seed, unlabelled=unlabelled)
    return ProbeSample(toy.originals, toy.release, toy.labels, TASKS)


def untouched(count: int = 400) -> ProbeSample:
    given = sample(count)
    return replace(given, release=given.originals.clone())


@pytest.mark.parametrize("name", list(ProbeName))
def test_a_probe_repeats_itself_says_who_it_is_and_changes_nothing(name: ProbeName) -> None:
    given = sample(80)
    before = given.release.clone()
    first = PROBES[name].run(given, 3, CPU)
    torch.rand(3)
    assert PROBES[name].run(given, 3, CPU) == first
    assert first.name is name
    assert first.figures
    assert all(0 <= value <= 1 for value in first.figures.values())
    assert first.meaning.endswith(".")
    assert PROBES[name].title
    assert torch.equal(given.release, before)


@pytest.mark.parametrize("name", list(ProbeName))
def test_another_seed_divides_the_images_otherwise(name: ProbeName) -> None:
    # Weak enough that neither division gives a perfect figure.
    given = sample(200)
    faint = given.originals.short() + (given.release.short() - given.originals.short()).sign()
    noise = torch.randint(-9, 10, faint.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    given = replace(given, release=(faint + noise).clamp(0, 255).to(torch.uint8))
    results = {tuple(PROBES[name].run(given, seed, CPU).figures.values()) for seed in range(3)}
    assert len(results) > 1


def test_probes_refuse_what_does_not_belong_together() -> None:
    given = sample(20)
    with pytest.raises(ValueError, match="same images in the same order"):
        replace(given, release=given.release[1:])
    with pytest.raises(ValueError, match="at least 8"):
        ProbeSample(given.originals[:7], given.release[:7], given.labels, TASKS)


def smooth(images: Tensor) -> Tensor:
    """Photographs have less detail than noise; so have these."""
    blurred = torch.nn.functional.avg_pool2d(images.float(), 5, stride=1, padding=2, count_include_pad=False)
    return blurred.round().to(torch.uint8)


def test_a_perturbation_of_high_frequency_is_detected_and_nothing_is_not() -> None:
    given = sample()
    originals = smooth(given.originals)
    release = (originals.short() + given.release.short() - given.originals.short()).to(torch.uint8)
    found = Detectability().run(replace(given, originals=originals, release=release), 0, CPU)
    assert found.figures["auroc"] > 0.98
    assert "almost surely" in found.meaning
    nothing = Detectability().run(untouched(), 0, CPU)
    assert abs(nothing.figures["auroc"] - 0.5) < 0.15


def test_the_detector_meets_no_image_twice() -> None:
    seen: list[Tensor] = []
    given = sample(64)
    numbered = torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1).expand(64, 3, 16, 16).contiguous()

    class Recording(torch.Tensor):
        """Images that note which rows are taken."""

        def __getitem__(self, rows: Any) -> Tensor:  # noqa: ANN401 - as torch has it
            taken: Tensor = super().__getitem__(rows).as_subclass(Tensor)
            seen.append(taken[:, 0, 0, 0])
            return taken

    recorded = numbered.as_subclass(Recording)
    Detectability().run(replace(given, originals=recorded, release=recorded), 0, CPU)
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(64, dtype=torch.uint8))


@pytest.mark.parametrize(
    "other",
    [
        Detectability(pixels=2),
        Detectability(residual=1),
        Detectability(penalty=100.0),
        Detectability(iterations=1),
    ],
    ids=["pixels", "residual", "penalty", "iterations"],
)
def test_each_setting_of_the_detector_changes_the_result(other: Detectability) -> None:
    given = sample(200)
    noise = torch.randint(-1, 2, given.originals.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    given = replace(given, release=(given.originals.short() + noise).to(torch.uint8))
    assert Detectability().run(given, 0, CPU) != other.run(given, 0, CPU)


def test_features_of_an_image_by_hand() -> None:
    images = torch.zeros(1, 3, 4, 4)
    images[..., 2:] = 8.0
    features = Detectability(pixels=2, residual=1).features(images)
    assert features[0, :12].tolist() == [0.0, 8.0, 0.0, 8.0] * 3
    # Horizontal differences are 0, 8, 0 along each row: mean 8 / 3, and a third of them are beyond the histogram.
    assert features[0, 12:15].exp().tolist() == pytest.approx([1 + 8 / 3] * 3)
    assert features[0, 15:18].tolist() == pytest.approx([8 / 3] * 3)
    histogram = features[0, 18 : 18 + 27].view(9, 3)
    assert histogram[4].tolist() == pytest.approx([2 / 3] * 3)
    assert histogram.sum().item() == pytest.approx(2.0)
    assert features[0, 45:48].tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("unlabelled", [0.0, 0.3])
def test_labels_are_read_off_a_pattern_a_class_and_off_nothing_else(unlabelled: float) -> None:
    found = LabelRecovery().run(sample(unlabelled=unlabelled), 0, CPU)
    assert found.figures["accuracy:colour"] > 0.98
    assert found.figures["accuracy:bright"] > 0.98
    assert "nearly all" in found.meaning
    nothing = LabelRecovery().run(untouched(), 0, CPU)
    assert nothing.figures["accuracy"] <= nothing.figures["floor"] + 1e-6
    assert "no better than guessing" in nothing.meaning


def test_labels_are_read_off_a_code_that_averages_hide() -> None:
    rng = torch.Generator().manual_seed(0)
    count, side = 160, 32
    labels = {task.name: torch.randint(task.num_classes, (count,), generator=rng) for task in TASKS}
    signs = torch.randint(2, (2, 3, side // 2, side // 2), generator=rng) * 2 - 1
    checkers = torch.tensor([[1, -1], [-1, 1]]).repeat(side // 2, side // 2)
    codes = 4 * checkers * signs.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    originals = torch.randint(60, 190, (count, 3, side, side), generator=rng, dtype=torch.uint8)
    noise = torch.randint(-4, 5, originals.shape, generator=rng)
    release = (originals + codes[labels["bright"]] + noise).to(torch.uint8)
    found = LabelRecovery().run(ProbeSample(originals, release, labels, TASKS), 0, CPU)
    assert found.figures["accuracy:bright"] > 0.95


def test_ridge_scores_by_hand() -> None:
    # One feature, -1 for class 0 and 1 for class 1, a third image unlabelled; without damping it is read exactly.
    fit, labels = torch.tensor([[-1.0], [1.0], [9.0]]).double(), torch.tensor([0, 1, UNLABELLED])
    scores = ridge_scores(fit @ fit.T, torch.tensor([[1.0], [0.0]]).double() @ fit.T, labels, 2, 0.5)
    # Products [[1.5, -1], [-1, 1.5]], hot less prior (0.5, -0.5) and its negative: weights (0.2, -0.2), so -0.4 + 0.5.
    assert scores[0].tolist() == pytest.approx([0.1, 0.9], abs=1e-4)
    assert scores[1].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


def test_a_task_without_labels_is_left_out() -> None:
    given = sample(100)
    masked = {**given.labels, "bright": torch.full_like(given.labels["bright"], UNLABELLED)}
    found = LabelRecovery().run(replace(given, labels=masked), 0, CPU)
    assert "accuracy:bright" not in found.figures
    assert found.figures["accuracy"] == found.figures["accuracy:colour"]
    none = {name: torch.full_like(column, UNLABELLED) for name, column in given.labels.items()}
    with pytest.raises(ValueError, match="labelled in both halves"):
        LabelRecovery().run(replace(given, labels=none), 0, CPU)


COARSE = LabelRecovery(fine_images=2)
"""The fine reader learns from two images only, so that the coarse one reads better."""


@pytest.mark.parametrize(
    ("usual", "change"),
    [
        (COARSE, {"resolution": 1}),
        (COARSE, {"shrinkage": 1000.0}),
        (LabelRecovery(), {"fine_images": 2}),
        (LabelRecovery(), {"fine_resolution": 2}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_setting_of_the_reader_changes_the_result(usual: LabelRecovery, change: dict[str, Any]) -> None:
    given = sample(200)
    noise = torch.randint(-90, 91, given.release.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    noisy = replace(given, release=(given.release.short() + noise).clamp(0, 255).to(torch.uint8))
    other = replace(usual, **change)
    assert usual.run(noisy, 0, CPU).figures != other.run(noisy, 0, CPU).figures


def test_discriminant_scores_by_hand() -> None:
    fit = torch.tensor([[-2.0], [0.0], [2.0], [4.0], [100.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, UNLABELLED])
    scores = discriminant_scores(fit, fit.T @ fit, labels, torch.tensor([[1.0], [3.0]]).double(), 2, 0.0)
    # Means -1 and 3, variance 1, equal priors: the boundary is at 1; at 3 the scores differ by 3*3 - 4.5 + 3 + .5 = 8.
    assert (scores[0, 0] - scores[0, 1]).item() == pytest.approx(0.0, abs=1e-4)
    assert (scores[1, 1] - scores[1, 0]).item() == pytest.approx(8.0, rel=1e-4)
