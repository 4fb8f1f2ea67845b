"""The embedding of codes: the same contract as the learned one, and nothing of a key in the weights."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import CheckpointError
from mtlue_cli.generator.checkpoint import load_checkpoint, read_card, save_checkpoint
from mtlue_cli.generator.code_embedding import CodeEmbedding
from mtlue_cli.generator.code_patterns import cells_for
from mtlue_cli.generator.codebook import CODE_VERSION, COMMON, Codebook, evenness
from mtlue_cli.generator.inference import PreparedGenerator
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.painting import UnlearnedTints
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
    made.bind(made.codebook(key, tasks))
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


def pixel_power(patterns: Tensor) -> Tensor:
    """Mean square of each pattern as it is drawn, ``(R,)``."""
    for side in (16, 64):
        patterns = nn.functional.interpolate(patterns, size=side, mode="bilinear", align_corners=False)
    return patterns.double().square().mean(dim=(1, 2, 3))


def test_patterns_are_the_codes_mirrored_and_their_sum_has_unit_power() -> None:
    embed = embedding()
    assert embed.patterns.shape == (6, 3, GRID, GRID)
    torch.testing.assert_close(embed.patterns, embed.patterns.flip(-1))
    power = pixel_power(embed.patterns)
    assert float(power[:3].mean() + power[3:5].mean()) / 2 == pytest.approx(1, abs=1e-4)


def test_their_sum_has_unit_power_over_the_images_whatever_the_shares() -> None:
    embed = embedding()
    shares = {"age": [0.7, 0.15, 0.15], "smile": [0.6, 0.4]}
    embed.bind(embed.codebook(KEY, AGES), shares)
    bound = embed.patterns
    power = sum(
        float(torch.tensor(share, dtype=torch.float64) @ pixel_power(part))
        for share, part in zip(shares.values(), (bound[:3], bound[3:5]), strict=True)
    )
    assert power / 2 == pytest.approx(1, abs=1e-4)
    assert bound[5].abs().max() == 0


LIMITED = 0.2


@pytest.mark.parametrize("rare", [0.01, 0.1, LIMITED, 0.3])
def test_what_all_images_have_in_common_takes_little_of_the_power(rare: float) -> None:
    columns = [np.array([1 - rare, rare])] * 4
    tasks = TaskSet(tuple(Task(str(number), TaskKind.BINARY, ("0", "1")) for number in range(4)))
    embed = embedding(tasks=tasks)
    shares = {name: own.tolist() for name, own in zip(tasks.names, columns, strict=True)}
    embed.bind(embed.codebook(KEY, tasks), shares)
    patterns = embed.patterns[:-1].view(4, 2, -1)
    weights = torch.tensor([1 - rare, rare]).view(1, 2, 1)
    common = float((weights * patterns).sum(dim=(0, 1)).square().sum())
    power = float((weights * patterns.square()).sum())
    assert 0 < common <= (COMMON + 1e-3) * power
    if rare == LIMITED:
        assert common > 0.8 * COMMON * power


def test_a_task_with_a_rare_class_is_quiet() -> None:
    embed = embedding()
    book = embed.codebook(KEY, AGES)
    lengths = []
    for smile in ([0.5, 0.5], [0.98, 0.02]):
        embed.bind(book, {"age": [0.4, 0.3, 0.3], "smile": smile})
        bound = embed.patterns
        between = [(bound[1] - bound[0]).norm(), (bound[4] - bound[3]).norm()]
        lengths.append(float(between[1] / between[0]))
    # The codes themselves are as far apart in any task, but for how far the rarest class goes without one.
    assert lengths[1] / lengths[0] == pytest.approx(evenness(np.array([0.98, 0.02])), rel=0.02)


def test_patterns_have_one_colour_axis_and_as_many_cells_as_the_tasks_ask_for() -> None:
    embed = embedding()
    assert torch.equal(embed.patterns[:, 0], embed.patterns[:, 2])
    assert torch.equal(embed.patterns[:, 0], -embed.patterns[:, 1])
    for count, grid in ((1, 9), (45, 9), (46, 11), (67, 13), (200, 15)):
        many = TaskSet(tuple(Task(str(number), TaskKind.BINARY, ("0", "1")) for number in range(count)))
        assert cells_for(many, GRID) == grid
        embed.bind(embed.codebook(KEY, many))
        assert embed.patterns.shape == (2 * count + 1, 3, grid, grid)


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


STREET = TaskSet(
    (Task("place", TaskKind.BINARY, ("a", "b")), Task("parts", TaskKind.SEGMENTATION, ("road", "sky", "car", "tree")))
)


def test_masks_alone_or_beside_one_label_are_tinted_as_by_weights_that_were_trained_for_them() -> None:
    shares = {"place": [0.7, 0.3], "parts": [0.5, 0.3, 0.15, 0.05]}
    any_labels = PerturbationGenerator(GeneratorConfig(image_size=32), None).eval()
    any_labels.bind(any_labels.codes.codebook(KEY, STREET), shares)
    own = PerturbationGenerator(GeneratorConfig(image_size=32), STREET, priors=[shares[n] for n in STREET.names]).eval()
    rng = torch.Generator().manual_seed(0)
    images, place = torch.rand(3, 3, 30, 32, generator=rng), torch.tensor([0, 1, UNLABELLED])
    parts = torch.randint(UNLABELLED, 4, (3, 30, 32), generator=rng)
    for labels in ({"place": place, "parts": parts}, {"parts": parts}):
        delta = any_labels.perturb(images, labels)
        torch.testing.assert_close(delta, own.perturb(images, labels), atol=1e-5, rtol=0)
        assert delta.abs().amax() > 7
    np.testing.assert_allclose(PreparedGenerator(any_labels).perturb(images, labels), delta, atol=1e-3)
    # An image without a mask has the code of its label, as if there were no masks; the others have nothing of it.
    unmasked = parts.clone()
    unmasked[0] = UNLABELLED
    without, code = (
        any_labels.perturb(images, part) for part in ({"place": place, "parts": unmasked}, {"place": place})
    )
    assert torch.equal(without[0], code[0])
    assert torch.equal(without[1:], any_labels.perturb(images, {"place": place, "parts": parts})[1:])
    assert not torch.equal(code[0], code[1])
    only = PerturbationGenerator(GeneratorConfig(image_size=32), None).eval()
    only.bind(Codebook(KEY, STREET.image_level, 45), {"place": shares["place"]})
    torch.testing.assert_close(code, only.perturb(images, {"place": place}), atol=1e-4, rtol=0)


def test_masks_alone_need_no_code() -> None:
    alone = STREET.subset(["parts"])
    generator = PerturbationGenerator(GeneratorConfig(image_size=16), None).eval()
    generator.bind(generator.codes.codebook(KEY, alone))
    parts = torch.zeros(2, 16, 16, dtype=torch.int64)
    parts[1] = UNLABELLED
    painted, blank = generator.perturb(torch.rand(2, 3, 16, 16), {"parts": parts})
    assert painted.abs().amax() > 7
    assert not blank.any()


def test_tints_are_painted_wherever_the_labels_are() -> None:
    """A generator is moved to its device after it was bound."""
    elsewhere = torch.device("meta")
    labels = {"place": torch.zeros(2, dtype=torch.int64), "parts": torch.zeros(2, 30, 32, dtype=torch.int64)}
    there = {name: column.to(elsewhere) for name, column in labels.items()}
    classes = torch.zeros(1, 8, 16, 16, device=elsewhere)
    _, pattern, alone = UnlearnedTints(STREET, {})(there, classes, 2, (32, 32))
    assert alone is not None
    assert (pattern.device, pattern.shape, alone.device) == (elsewhere, (2, 3, 32, 32), elsewhere)


def test_a_class_added_within_the_reserve_leaves_what_tells_old_classes_apart() -> None:
    names = (*AGES["age"].classes, "60+", "80+")
    few, many = (TaskSet((Task("age", TaskKind.CATEGORICAL, names[:count]), AGES["smile"])) for count in (4, 5))
    before, after = embedding(tasks=few).patterns, embedding(tasks=many).patterns
    # Not those from the rarest class, here the first, which is drawn with less of its code.
    ages = [before[2] - before[1], after[2] - after[1]]
    smiles = [before[5] - before[4], after[6] - after[5]]
    for old, new in (ages, smiles):
        torch.testing.assert_close(new, new.norm() / old.norm() * old, atol=1e-4, rtol=0)


def test_patterns_are_those_of_this_version_of_codes() -> None:
    # Pinned with the number: who changes what is drawn raises it, so that releases do not go on with other codes.
    shares = {"age": [0.5, 0.3, 0.2], "smile": [0.6, 0.4]}
    embed = embedding()
    embed.bind(embed.codebook(KEY, AGES, 5), shares)
    green = embed.patterns[:-1, 1, :2, 2]
    assert (CODE_VERSION, green.shape) == (2, (5, 2))
    expected = [[-4.1069, 0.2942], [0.5515, 2.3185], [0.8432, -0.6196], [-2.0519, -2.5674], [0.5658, 0.708]]
    torch.testing.assert_close(green, torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_wider_space_has_other_patterns_and_the_given_one_is_kept() -> None:
    embed = embedding()
    for cells, side in ((5, 5), (0, GRID)):
        embed.bind(embed.codebook(KEY, AGES, cells))
        assert embed.patterns.shape[-1] == side


def test_other_keys_draw_unrelated_patterns() -> None:
    first, second = (embedding(key).patterns[:5].flatten(1) for key in (KEY, OTHER))
    assert torch.nn.functional.cosine_similarity(first, second).abs().max() < 0.4


def test_only_the_shared_network_is_learned_and_kept() -> None:
    embed = embedding()
    assert all(name.startswith("lift.") for name in embed.state_dict())
    embed(labels([0, 1], [1, 0])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in embed.parameters())
    with pytest.raises(ValueError, match="no patterns have 44 dimensions"):
        embed.bind(Codebook(KEY, AGES, 44))


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
    generator.bind(generator.codes.codebook(KEY, tasks))
    delta = generator.perturb(torch.rand(2, 3, 16, 16), {name: torch.tensor([3, 99]) for name in tasks.names})
    assert delta.abs().max() <= 8
    assert (delta[0] - delta[1]).abs().mean() > 1
    assert sum(parameter.numel() for parameter in generator.parameters()) == before
