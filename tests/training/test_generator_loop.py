"""The generator's loop: it lowers its loss, each weight acts, and it goes on as if never stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mtlue_cli.choices import BackboneName, ObjectiveName
from mtlue_cli.devices import ALONE, Processes
from mtlue_cli.errors import CheckpointError
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.objectives import OBJECTIVES, Ingredients
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import View, apply_view, draw_crop, draw_zoom
from mtlue_cli.training.distortions import PLAIN
from mtlue_cli.training.generator_loop import (
    GeneratorLoop,
    GeneratorSettings,
    StepRecord,
    mean_record,
    remove_conflict,
)
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.training.runtime import STATE_KEY, load_state, save_state
from mtlue_cli.training.surrogate import train_surrogate
from tests.multitask_sample import TASKS, draw_sample

pytestmark = pytest.mark.usefixtures("tiny_small")

CPU = torch.device("cpu")
SHAPE = GeneratorConfig(image_size=20, encoder_width=8, decoder_width=16, label_channels=8, label_grid=8)
SETTINGS = GeneratorSettings(steps=12, batch_size=8, view_size=16, warmup_steps=3)


def fresh(seed: int) -> nn.Module:
    return build_network(BackboneName.SMALL, TASKS, seed)


def make_loop(name: ObjectiveName, settings: GeneratorSettings = SETTINGS) -> GeneratorLoop:
    images, labels = draw_sample(40, 20)
    objective = OBJECTIVES[name].build(Ingredients(TASKS, [[fresh(1), fresh(2)]], fresh, seed=0))
    return GeneratorLoop(PerturbationGenerator(SHAPE, TASKS, seed=0), objective, images, labels, settings, CPU)


def weights(loop: GeneratorLoop) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in loop.generator.parameters()])


@pytest.mark.parametrize("name", list(ObjectiveName))
def test_a_stopped_run_continues_to_the_same_weights(name: ObjectiveName, tmp_path: Path) -> None:
    whole = make_loop(name)
    whole.run()
    first = make_loop(name)
    first.run(until=7)
    save_state(tmp_path / "state.safetensors", first.state_dict())
    second = make_loop(name)
    second.load_state_dict(load_state(tmp_path / "state.safetensors"))
    second.run()
    assert second.step == 12
    assert torch.equal(weights(whole), weights(second))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-2},
        {"intra_weight": 0.0},
        {"inter_weight": 0.0},
        {"seed": 1},
        {"distortions": replace(PLAIN, smallest_view=1.0)},
        {"distortions": replace(PLAIN, grey=1.0)},
        {"clip_norm": 0.01},
        {"batch_size": 4},
        {"warmup_steps": 1},
    ],
)
def test_every_setting_changes_the_result(change: dict[str, float]) -> None:
    base, changed = make_loop(ObjectiveName.TAP), make_loop(ObjectiveName.TAP, replace(SETTINGS, **change))  # type: ignore[arg-type]  # mixed value types
    base.run(until=3)
    changed.run(until=3)
    assert not torch.equal(weights(base), weights(changed))


@pytest.mark.parametrize("objective", [ObjectiveName.TAP, ObjectiveName.SEP])
def test_accumulated_parts_give_the_weights_of_whole_batches(objective: ObjectiveName) -> None:
    whole, parts = make_loop(objective), make_loop(objective, replace(SETTINGS, accumulate=2))
    whole.run(until=3)
    parts.run(until=3)
    assert torch.allclose(weights(whole), weights(parts), rtol=1e-3, atol=1e-4)


def test_processes_share_every_batch() -> None:
    shares = [Processes(rank, 2).parts(12, 3) for rank in range(2)]
    rows = [row for parts in shares for part in parts for row in range(12)[part]]
    assert rows == list(range(12))
    assert all(len(parts) == 3 for parts in shares)
    assert ALONE.parts(5, 1) == [slice(0, 5)]


def test_a_conflict_is_projected_off_and_agreement_is_left_alone() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([1.0, 0.0]), torch.tensor([2.0])
    kept = [torch.tensor([3.0, 1.0]), torch.tensor([-2.0])]  # 3 - 4 = -1, of square 14
    assert remove_conflict([first, second], kept)
    assert torch.allclose(first.grad, torch.tensor([1 + 3 / 14, 1 / 14]))
    assert torch.allclose(second.grad, torch.tensor([2 - 2 / 14]))
    assert abs((first.grad * kept[0]).sum() + (second.grad * kept[1]).sum()) < 1e-6
    before = first.grad.clone()
    assert not remove_conflict([first, second], [torch.tensor([1.0, 0.0]), torch.tensor([0.0])])
    assert torch.equal(first.grad, before)


def keeping_loop(accumulate: int = 1, *, keeps: bool = True) -> GeneratorLoop:
    """One task is protected, the other kept useful; the surrogate knows both."""
    images, labels = draw_sample(40, 20)
    protected, kept = TASKS.subset(["colour"]), TASKS.subset(["bright"])
    objective = OBJECTIVES[ObjectiveName.TAP].build(Ingredients(protected, [[fresh(1)]], fresh, seed=0))
    generator = PerturbationGenerator(SHAPE, protected, seed=0)
    settings = replace(SETTINGS, accumulate=accumulate)
    return GeneratorLoop(generator, objective, images, labels, settings, CPU, kept=kept if keeps else TaskSet(()))


def test_no_step_raises_the_loss_of_kept_tasks_to_first_order() -> None:
    loop = keeping_loop()
    for _ in range(6):
        loop.run(until=loop.step + 1)
        parameters = list(loop.generator.parameters())
        dots = [(one.grad * kept).sum() for one, kept in zip(parameters, loop.kept_gradients, strict=True)]  # type: ignore[operator]  # every parameter has a gradient
        length = torch.stack([kept.square().sum() for kept in loop.kept_gradients]).sum().sqrt()
        assert torch.stack(dots).sum() > -1e-4 * length
    other = keeping_loop(keeps=False)
    other.run(until=6)
    assert not torch.equal(weights(loop), weights(other))


def test_tasks_are_kept_where_a_part_of_the_generator_is_frozen() -> None:
    loop = keeping_loop()
    frozen = next(loop.generator.parameters()).requires_grad_(False)
    before = frozen.clone()
    loop.run(until=2)
    assert torch.equal(frozen, before)
    assert len(loop.kept_gradients) == len(list(loop.generator.parameters())) - 1


def test_kept_tasks_may_be_computed_in_parts() -> None:
    whole, parts = keeping_loop(), keeping_loop(accumulate=2)
    whole.run(until=3)
    parts.run(until=3)
    assert torch.allclose(weights(whole), weights(parts), rtol=1e-3, atol=1e-4)


def test_training_misleads_a_clean_surrogate() -> None:
    images, labels = draw_sample(96, 20)
    learning = LearningSettings(epochs=3, batch_size=16, learning_rate=1e-2, crop_size=16, backbone=BackboneName.SMALL)
    clean = train_surrogate(images, labels, TASKS, learning, 1, CPU).networks(TASKS, CPU)
    objective = OBJECTIVES[ObjectiveName.TAP].build(Ingredients(TASKS, [clean], fresh, seed=0))
    settings = replace(SETTINGS, steps=60, learning_rate=1e-2, batch_size=16)
    generator = PerturbationGenerator(replace(SHAPE, epsilon=64), TASKS, seed=0)
    records: list[StepRecord] = []
    GeneratorLoop(generator, objective, images, labels, settings, CPU).run(on_step=records.append)
    first, last = mean_record(records[:10]), mean_record(records[-10:])
    assert last.step == 60
    assert last.base < 0.6 * first.base
    assert last.agreement > 0.5 > first.agreement


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, {"a": torch.zeros(2), "b": [1, {3: torch.ones(1)}], "c": None})
    assert load_state(path)["b"][1][3].item() == 1.0
    assert load_state(path)["c"] is None
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(path)


@pytest.mark.parametrize(
    "structure", ["[]", "3", '{"list": []}', '{"map": 3}', '{"map": [[[], {"plain": 1}]]}', "[" * 9999]
)
def test_a_state_of_another_form_is_damaged(tmp_path: Path, structure: str) -> None:
    path = tmp_path / "state.safetensors"
    save_file({}, path, metadata={STATE_KEY: structure})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_state(path)


def test_views_cut_flip_and_resize() -> None:
    images = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).view(2, 3, 6, 6)
    view = View(top=1, left=2, side=3, flip=torch.tensor([False, True]))
    cut = apply_view(images, view, 3)
    assert torch.equal(cut[0], images[0, :, 1:4, 2:5])
    assert torch.equal(cut[1], images[1, :, 1:4, 2:5].flip(-1))
    assert apply_view(images, view, 5).shape == (2, 3, 5, 5)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        zoom, crop = draw_zoom(20, 0.8, 2, rng), draw_crop(20, 16, 2, rng)
        assert 16 <= zoom.side <= 20
        assert crop.side == 16
        for drawn in (zoom, crop):
            assert 0 <= drawn.top <= 20 - drawn.side
            assert 0 <= drawn.left <= 20 - drawn.side
