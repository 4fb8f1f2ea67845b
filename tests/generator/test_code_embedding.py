"""The embedding of codes: the same contract as the learned one, and nothing of a key in the weights."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import CheckpointError
from mtlue_cli.generator.checkpoint import load_checkpoint, read_card, save_checkpoint
from mtlue_cli.generator.code_embedding import CodeEmbedding
from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from tests.generator.test_checkpoint import CONFIG, make_card
from tests.multitask_sample import TASKS, draw_sample

KEY, OTHER = Key(bytes(range(32))), Key(bytes(32))
AGES = TaskSet((Task("age", TaskKind.CATEGORICAL, ("0-2", "3-9", "10+")), Task("smile", TaskKind.BINARY, ("0", "1"))))
GRID = 9


def embedding(key: Key = KEY, tasks: TaskSet = AGES) -> CodeEmbedding:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CodeEmbedding(channels=8, grid=16, pattern_channels=3, pattern_grid=GRID)
    made.bind(made.prepared(Codebook(key, tasks, made.dimension)))
    return made


def labels(age: list[int], smile: list[int]) -> dict[str, Tensor]:
    return {"age": torch.tensor(age), "smile": torch.tensor(smile)}


def test_a_sample_gets_the_sum_of_its_maps_over_the_root_of_the_tasks() -> None:
    embed = embedding()
    summed = embed(labels([0, 2, 2], [1, 1, 0]))
    age, smile = embed.of_task("age"), embed.of_task("smile")
    assert (age.shape, smile.shape) == ((3, 8, 16, 16), (2, 8, 16, 16))
    expected = torch.stack([age[0] + smile[1], age[2] + smile[1], age[2] + smile[0]]) / math.sqrt(2)
    torch.testing.assert_close(summed, expected)


def test_patterns_are_the_codes_mirrored_and_their_sum_has_unit_variance() -> None:
    embed = embedding()
    assert embed.patterns.shape == (6, 3, GRID, GRID)
    torch.testing.assert_close(embed.patterns, embed.patterns.flip(-1))
    variance = embed.patterns.square().mean(dim=(1, 2, 3))
    # Centred codes have squared lengths of 1 - 1 / C: 2/3 and 1/2, 7/6 together, which become 2 for two tasks.
    torch.testing.assert_close(variance, torch.tensor([*[8 / 7] * 3, *[6 / 7] * 2, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(embed.patterns[3], -embed.patterns[4], atol=1e-5, rtol=0)


def test_codes_are_centred_towards_rare_classes_and_their_sum_has_unit_variance_over_the_images() -> None:
    embed = embedding()
    shares = {"age": [0.8, 0.1, 0.1], "smile": [0.9, 0.1]}
    bound = embed.prepared(Codebook(KEY, AGES, embed.dimension), shares).patterns
    ages, smiles = bound[:3], bound[3:5]
    # Inverse shares, normed: 1/17, 8/17, 8/17, and 0.1, 0.9; half of each beside half of an equal share.
    for part, centre in ((ages, [0.5 / 17 + 1 / 6, *[4 / 17 + 1 / 6] * 2]), (smiles, [0.3, 0.7])):
        mean = (torch.tensor(centre).view(-1, 1, 1, 1) * part).sum(dim=0)
        torch.testing.assert_close(mean, torch.zeros(3, GRID, GRID), atol=1e-5, rtol=0)
    power = sum(
        float((torch.tensor(shares[name]).view(-1, 1, 1, 1) * part.square()).sum(dim=0).mean())
        for name, part in (("age", ages), ("smile", smiles))
    )
    assert power / 2 == pytest.approx(1, abs=1e-4)
    frequent, rare = (smiles[index].square().mean().sqrt() for index in (0, 1))
    assert float(frequent / rare) == pytest.approx(0.7 / 0.3, rel=1e-4)
    assert bound[5].abs().max() == 0


def test_what_is_not_labelled_gets_no_code() -> None:
    embed = embedding()
    neutral = embed({})
    torch.testing.assert_close(embed(labels([UNLABELLED] * 2, [UNLABELLED] * 2)), neutral.expand(2, -1, -1, -1))
    assert neutral[:, :3].abs().max() == 0
    one = embed({"age": torch.tensor([1])})
    torch.testing.assert_close(one, embed(labels([1], [UNLABELLED])))
    torch.testing.assert_close(one[:, :3], embed.of_task("age")[1:2, :3] / math.sqrt(2))


def test_a_task_labelled_pixel_by_pixel_is_painted_where_its_classes_are() -> None:
    embed = embedding()
    mask = torch.zeros(2, 32, 32, dtype=torch.int64)
    mask[:, :, 16:] = 2
    mask[1, :16] = UNLABELLED
    smile = torch.tensor([1, 0])
    painted = embed({"age": mask, "smile": smile})
    zero, two = embed.of_task("age")[0], embed.of_task("age")[2]
    expected = torch.cat([zero[..., :8], two[..., 8:]], dim=-1)
    neutral = math.sqrt(2) * embed({})[0] / 2
    above = torch.stack([expected, torch.cat([neutral[:, :8], expected[:, 8:]], dim=1)])
    torch.testing.assert_close(painted, (above + embed.of_task("smile")[smile]) / math.sqrt(2))
    whole = embed({"age": torch.full((2, 7, 5), 2), "smile": smile})
    torch.testing.assert_close(whole, embed(labels([2, 2], [1, 0])))


def test_a_class_added_within_the_reserve_leaves_the_directions_between_old_classes() -> None:
    grown = TaskSet((Task("age", TaskKind.CATEGORICAL, (*AGES["age"].classes, "80+")), AGES["smile"]))
    before, after = embedding().patterns, embedding(tasks=grown).patterns
    between = [(patterns[1:3] - patterns[0]).flatten(1) for patterns in (before, after)]
    scale = between[1].norm() / between[0].norm()
    torch.testing.assert_close(between[1], scale * between[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(after[4:], scale * before[3:], atol=1e-4, rtol=0)


def test_other_keys_draw_unrelated_patterns() -> None:
    first, second = (embedding(key).patterns[:5].flatten(1) for key in (KEY, OTHER))
    assert torch.nn.functional.cosine_similarity(first, second).abs().max() < 0.4


def test_only_the_shared_network_is_learned_and_kept() -> None:
    embed = embedding()
    assert all(name.startswith("lift.") for name in embed.state_dict())
    embed(labels([0, 1], [1, 0])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in embed.parameters())
    with pytest.raises(ValueError, match="dimension 135"):
        embed.prepared(Codebook(KEY, AGES, 134))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    card = replace(make_card(), tasks=TaskSet(()), universal=True)
    save_checkpoint(tmp_path / "any.safetensors", PerturbationGenerator(CONFIG, None, seed=1), card)
    return tmp_path / "any.safetensors"


def test_a_universal_checkpoint_is_bound_to_any_tasks(path: Path) -> None:
    card = read_card(path)
    assert (card.universal, len(card.tasks), card.to_json()["schema_version"]) == (True, 0, 3)
    pixels, given = draw_sample(3, 16)
    deltas = []
    for key in (KEY, KEY, OTHER):
        loaded = load_checkpoint(path).bound(key, TASKS)
        assert loaded.card.tasks == loaded.generator.tasks == TASKS
        deltas.append(loaded.generator.perturb(pixels.float() / 255, given))
    assert torch.equal(deltas[0], deltas[1])
    flat = [delta.flatten() for delta in deltas]
    assert torch.nn.functional.cosine_similarity(flat[0], flat[2], dim=0).abs() < 0.5
    with pytest.raises(ValueError, match="needs a key"):
        load_checkpoint(path).bound(None, TASKS)


def test_binding_leaves_no_trace_in_what_is_saved(path: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(path)
    bound = loaded.bound(KEY, TASKS)
    again = save_checkpoint(tmp_path / "again.safetensors", bound.generator, loaded.card)
    assert again.digest == loaded.card.digest


def test_a_generator_with_its_own_tasks_takes_no_codes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "own.safetensors", PerturbationGenerator(CONFIG, TASKS), make_card())
    loaded = load_checkpoint(tmp_path / "own.safetensors")
    assert loaded.card.to_json()["schema_version"] == 2
    assert loaded.bound(KEY, AGES) is loaded
    with pytest.raises(ValueError, match="takes no codes"):
        _ = loaded.generator.codes


@pytest.mark.parametrize("change", [{"universal": True, "tasks": TASKS}, {"universal": 1}])
def test_a_card_that_is_half_universal_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    card = replace(make_card(), **change)  # type: ignore[arg-type]  # wrong on purpose
    save_checkpoint(tmp_path / "x.safetensors", PerturbationGenerator(CONFIG, TASKS), card)
    with pytest.raises(CheckpointError, match="damaged metadata"):
        read_card(tmp_path / "x.safetensors")


def test_many_tasks_of_many_classes_are_bound_without_a_parameter_more() -> None:
    tasks = TaskSet(tuple(Task(str(k), TaskKind.CATEGORICAL, tuple(str(c) for c in range(100))) for k in range(20)))
    generator = PerturbationGenerator(GeneratorConfig(image_size=16), None).eval()
    before = sum(parameter.numel() for parameter in generator.parameters())
    generator.bind(generator.codes.prepared(Codebook(KEY, tasks, generator.codes.dimension)))
    delta = generator.perturb(torch.rand(2, 3, 16, 16), {name: torch.tensor([3, 99]) for name in tasks.names})
    assert delta.abs().max() <= 8
    assert (delta[0] - delta[1]).abs().mean() > 1
    assert sum(parameter.numel() for parameter in generator.parameters()) == before
