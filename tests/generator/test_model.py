"""Contracts of the generator: bound, conditioning, sizes, independence of the batch."""

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet

TASKS = TaskSet(
    (
        Task("age", TaskKind.CATEGORICAL, ("0-2", "3-9", "10+")),
        Task("smile", TaskKind.BINARY, ("0", "1")),
    )
)


@pytest.fixture(scope="module")
def generator() -> PerturbationGenerator:
    return PerturbationGenerator(GeneratorConfig(image_size=32), TASKS, seed=3).eval()


def labels(age: list[int], smile: list[int]) -> dict[str, Tensor]:
    return {"age": torch.tensor(age), "smile": torch.tensor(smile)}


def images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (33, 47), (5, 1), (70, 40)])
def test_any_size_is_accepted_and_keeps_its_shape(generator: PerturbationGenerator, height: int, width: int) -> None:
    delta = generator(images(2, height, width), labels([0, 1], [1, 0]))
    assert delta.shape == (2, 3, height, width)


@pytest.mark.parametrize("epsilon", [1, 8, 16])
def test_the_bound_holds_however_large_the_weights(epsilon: int) -> None:
    generator = PerturbationGenerator(GeneratorConfig(epsilon=epsilon, image_size=32), TASKS, seed=0)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(50.0)
    delta = generator.perturb(images(2), labels([0, 2], [1, 1]))
    assert delta.abs().max() <= epsilon * (1 + 1e-6)
    assert delta.abs().max() > 0.9 * epsilon


def test_the_bound_passes_a_gradient_from_the_first_step(generator: PerturbationGenerator) -> None:
    delta = generator(images(2), labels([0, 1], [0, 1]))
    saturated = (delta.abs() > 0.98 * 8 / 255).float().mean()
    assert saturated < 0.2


def test_each_task_and_each_image_changes_the_perturbation(generator: PerturbationGenerator) -> None:
    base = generator(images(1), labels([0], [0]))
    other_age = generator(images(1), labels([1], [0]))
    other_smile = generator(images(1), labels([0], [1]))
    other_image = generator(images(1, seed=9), labels([0], [0]))
    for changed in (other_age, other_smile):
        assert (base - changed).abs().mean() > 1 / 255
    assert (base - other_image).abs().max() > 0


def test_unlabelled_and_absent_tasks_get_the_mean_embedding(generator: PerturbationGenerator) -> None:
    embed = generator.label_embedding
    unlabelled = embed(labels([UNLABELLED], [1]))
    absent = embed({"smile": torch.tensor([1])})
    expected = (embed.of_task("age").mean(dim=0) + embed.of_task("smile")[1]) / 2**0.5
    assert torch.allclose(unlabelled, expected[None], atol=1e-6)
    assert torch.allclose(absent, expected[None], atol=1e-6)


def test_no_labels_at_all_give_one_perturbation_for_all_classes(generator: PerturbationGenerator) -> None:
    nothing = generator(images(1), {})
    unlabelled = generator(images(1), labels([UNLABELLED], [UNLABELLED]))
    assert torch.allclose(nothing, unlabelled, atol=1e-7)


def test_a_sample_does_not_depend_on_its_batch(generator: PerturbationGenerator) -> None:
    many = generator.perturb(images(5), labels([0, 1, 2, 0, 1], [0, 1, 0, 1, 0]))
    for row in range(5):
        alone = generator.perturb(images(5)[row : row + 1], labels([[0, 1, 2, 0, 1][row]], [[0, 1, 0, 1, 0][row]]))
        assert torch.allclose(many[row : row + 1], alone, atol=1e-3)


def test_the_seed_alone_decides_the_initial_weights() -> None:
    torch.manual_seed(1)
    first = PerturbationGenerator(GeneratorConfig(), TASKS, seed=5)
    torch.manual_seed(2)
    second = PerturbationGenerator(GeneratorConfig(), TASKS, seed=5)
    other = PerturbationGenerator(GeneratorConfig(), TASKS, seed=6)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.label_embedding.of_task("age"), other.label_embedding.of_task("age"))
