"""What the training loop asks of the chosen backbone and weighting."""

from collections.abc import MutableMapping
from dataclasses import replace
from typing import cast

import pytest
import torch

from mtlue_cli.choices import BackboneName, WeightingName
from mtlue_cli.networks.backbones import BACKBONES, BackboneSpec
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.training.multitask_loop import LearningSettings, train_multitask
from mtlue_cli.weightings import WEIGHTINGS, LinearScalarisation, UncertaintyWeighting, WeightingSpec
from tests.multitask_sample import TASKS, draw_sample

pytestmark = pytest.mark.usefixtures("tiny_small")

SETTINGS = LearningSettings(epochs=2, batch_size=16, crop_size=16, backbone=BackboneName.SMALL, seed=4)
SPECS = cast(MutableMapping[BackboneName, BackboneSpec], BACKBONES)
WAYS = cast(MutableMapping[WeightingName, WeightingSpec], WEIGHTINGS)


def train(settings: LearningSettings) -> MultiTaskNetwork:
    images, labels = draw_sample(32, 18)
    return train_multitask(images, labels, TASKS, settings, torch.device("cpu"))


def test_a_backbone_scales_the_learning_rate_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    tenth = train(replace(SETTINGS, learning_rate=1e-4))
    monkeypatch.setitem(SPECS, BackboneName.SMALL, replace(BACKBONES[BackboneName.SMALL], learning_rate_scale=0.1))
    scaled = train(SETTINGS)
    assert torch.allclose(scaled.get_parameter("heads.weight"), tenth.get_parameter("heads.weight"), atol=1e-7)
    fresh = build_network(BackboneName.SMALL, TASKS, 4).get_parameter("heads.weight")
    assert not torch.allclose(scaled.get_parameter("heads.weight"), fresh, atol=1e-7)


def test_what_a_weighting_learns_keeps_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[UncertaintyWeighting] = []

    def build(tasks: int, seed: int) -> UncertaintyWeighting:
        made.append(UncertaintyWeighting(tasks, seed))
        return made[-1]

    monkeypatch.setitem(SPECS, BackboneName.SMALL, replace(BACKBONES[BackboneName.SMALL], learning_rate_scale=1e-9))
    monkeypatch.setitem(WAYS, WeightingName.UW, WeightingSpec(build))
    train(replace(SETTINGS, epochs=1, batch_size=32, weighting=WeightingName.UW))
    (learned,) = made[-1].parameters()
    # One step of Adam is as long as the learning rate.
    assert learned.abs().tolist() == pytest.approx([SETTINGS.learning_rate] * 2, rel=1e-3)


def test_a_weighting_hears_of_every_epoch_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []

    class Recorder(LinearScalarisation):
        def new_epoch(self) -> None:
            reported.append("epoch")

        def backward(self, losses: object, features: object) -> None:
            reported.append("step")
            super().backward(losses, features)  # type: ignore[arg-type]  # handed on as they are

    monkeypatch.setitem(WAYS, WeightingName.LS, WeightingSpec(Recorder))
    train(SETTINGS)
    assert reported == ["epoch", "step", "step"] * 2


@pytest.mark.parametrize("weighting", [WeightingName.PCGRAD, WeightingName.DWA, WeightingName.UW], ids=str)
def test_training_under_a_weighting_repeats_itself_and_differs_from_plain_training(weighting: WeightingName) -> None:
    settings = replace(SETTINGS, epochs=3, weighting=weighting)
    first, again = train(settings).state_dict(), train(settings).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    plain = train(replace(settings, weighting=WeightingName.LS))
    assert not torch.equal(first["heads.weight"], plain.get_parameter("heads.weight"))
