"""The penalty on what people see, and the weight that follows FLIP to its target."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlue_cli.choices import ObjectiveName, Visibility
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.metrics.flip import mean_flip
from mtlue_cli.options import option_fields
from mtlue_cli.tasks.label_tensors import STORED
from mtlue_cli.training.generator_loop import GeneratorLoop
from mtlue_cli.training.runtime import load_state, save_state
from mtlue_cli.training.visibility import (
    ADAPT_STEPS,
    FLIP_TARGETS,
    VIEW_SIDE,
    VisibilityControl,
    enlarged,
    visibility_penalty,
)
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.train.config import TrainConfig
from tests.dense_sample import TASKS as SCENES
from tests.dense_sample import draw_scenes
from tests.training.test_generator_loop import SETTINGS, make_loop, weights

pytestmark = pytest.mark.usefixtures("tiny_small")

EPSILON = 8


@pytest.mark.parametrize("config", [ProtectConfig, TrainConfig])
def test_the_help_names_the_targets(config: type) -> None:
    (option,) = (found.option for found in option_fields(config) if found.name == "visibility")
    assert f"normal aims at a FLIP of {FLIP_TARGETS[Visibility.NORMAL]}, low at {FLIP_TARGETS[Visibility.LOW]}." in (
        option.help
    )
    assert "{FLIP_NORMAL}" in str(config.__doc__)


def with_control(target: float, steps: int = 12) -> GeneratorLoop:
    loop = make_loop(ObjectiveName.TAP, replace(SETTINGS, steps=steps, learning_rate=1e-2))
    loop.visibility = VisibilityControl(target, loop.images, loop.labels)
    return loop


def test_a_few_loud_places_cost_less_than_the_same_energy_everywhere() -> None:
    everywhere = torch.full((1, 3, 8, 8), 4 / 255)
    loud = torch.zeros(1, 3, 8, 8)
    loud[..., :4, :4] = 8 / 255
    assert loud.square().sum() == pytest.approx(float(everywhere.square().sum()))
    assert visibility_penalty(loud, EPSILON) < 0.7 * visibility_penalty(everywhere, EPSILON)


def test_chroma_costs_more_than_luminance() -> None:
    luminance = torch.full((1, 3, 4, 4), 4 / 255)
    chroma = luminance * torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1) * 1.5**0.5  # the same energy
    assert chroma.square().sum() == pytest.approx(float(luminance.square().sum()))
    assert visibility_penalty(chroma, EPSILON) > 1.2 * visibility_penalty(luminance, EPSILON)


def test_the_penalty_has_a_finite_gradient_everywhere() -> None:
    delta = torch.zeros(1, 3, 4, 4, requires_grad=True)
    visibility_penalty(delta, EPSILON).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    assert delta.grad is not None
    assert delta.grad.isfinite().all()


def test_flip_is_that_of_photos_that_are_larger_than_the_images_of_the_training() -> None:
    loop = with_control(0.03)
    images, labels = loop.images[:4], {name: column[:4] for name, column in loop.labels.items()}
    small = loop.generator.protected(images, labels)
    pairs = (tuple(image.permute(1, 2, 0).numpy() for image in pair) for pair in zip(images, small, strict=True))
    at_their_size = mean_flip(pairs)
    assert at_their_size is not None
    assert VisibilityControl(0.03, images, labels).measure(loop.generator) > 1.05 * at_their_size.mean
    large = torch.rand(1, 3, VIEW_SIDE + 24, VIEW_SIDE + 24)
    assert enlarged(large) is large


def test_the_weight_rises_above_the_target_and_falls_below_it() -> None:
    seen, hidden = with_control(0.02), with_control(0.9)
    for loop in (seen, hidden):
        assert loop.visibility is not None
        before = loop.visibility.state_dict()["weight"]
        loop.visibility.adapt(loop.generator)
        assert loop.visibility.flip is not None
        assert loop.visibility.flip > 0.02
        assert (loop.visibility.state_dict()["weight"] > before) == (loop is seen)


def test_training_comes_nearer_to_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlue_cli.training.generator_loop.ADAPT_STEPS", 20)
    plain, less_seen = make_loop(ObjectiveName.TAP, replace(SETTINGS, steps=100)), with_control(0.03, 100)
    judge = VisibilityControl(0.03, plain.images, plain.labels)
    plain.run()
    less_seen.run()
    assert judge.measure(less_seen.generator) < 0.7 * judge.measure(plain.generator)


def test_a_stopped_run_continues_to_the_same_weights(tmp_path: Path) -> None:
    whole, first, second = (with_control(0.03, ADAPT_STEPS + 6) for _ in range(3))
    whole.run()
    first.run(until=ADAPT_STEPS + 2)
    save_state(tmp_path / "state.safetensors", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state.safetensors"))
    second.run()
    assert torch.equal(weights(whole), weights(second))


def test_a_weight_out_of_range_is_refused() -> None:
    loop = with_control(0.03)
    with pytest.raises(ValueError, match="visibility penalty"):
        loop.load_state_dict({**loop.state_dict(), "visibility": {"weight": 1e9}})


def test_maps_are_measured_as_they_are_stored() -> None:
    images, labels = draw_scenes(6, 32)
    generator = PerturbationGenerator(GeneratorConfig(image_size=32), SCENES, seed=0)
    stored = {
        name: column.to(STORED[SCENES[name].kind]) if SCENES[name].is_dense else column
        for name, column in labels.items()
    }
    assert 0 < VisibilityControl(0.13, images, stored).measure(generator) < 1
