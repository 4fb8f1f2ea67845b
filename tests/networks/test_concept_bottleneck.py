import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, TaskKind
from mtlue_cli.networks.concept_bottleneck import ConceptBottleneck, bottleneck_of
from mtlue_cli.tasks.losses import task_losses
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.multitask_sample import TASKS as COLOUR_AND_BRIGHT
from tests.tiny_network import build_tiny

TASKS = TaskSet((*COLOUR_AND_BRIGHT, Task("large", TaskKind.BINARY, ("no", "yes"))))
"""Of which the one in the middle is the target."""

WIDTH, COUNT = 12, 10
LABELS = {
    "colour": torch.arange(COUNT) % 3,
    "bright": torch.arange(COUNT) % 2,
    "large": torch.arange(COUNT) // 5,
}


def bottleneck() -> ConceptBottleneck:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConceptBottleneck(WIDTH, TASKS, "bright", residuals=4)


def features() -> Tensor:
    return torch.rand(COUNT, WIDTH, generator=torch.Generator().manual_seed(1))


def test_the_target_is_a_linear_function_of_the_concepts_and_of_the_cosines_with_the_vectors() -> None:
    heads, given = bottleneck().eval(), features()
    outputs = heads(given)
    known = heads.concepts(given)
    assert torch.equal(outputs[:, :3], known[:, :3])  # colour
    assert torch.equal(outputs[:, 5:], known[:, 3:])  # large, behind the target
    cosines = torch.stack(
        [torch.cosine_similarity(heads.centre(given), vector.unsqueeze(0)) for vector in heads.vectors], dim=1
    )
    expected = heads.base(known) + heads.residual(cosines * WIDTH**0.5)
    assert torch.allclose(outputs[:, 3:5], expected, atol=1e-5)
    with heads.without_residuals():
        assert torch.allclose(heads(given)[:, 3:5], heads.base(known))
    assert torch.equal(heads(given), outputs)


def test_concepts_do_not_learn_the_target_and_neither_part_learns_for_the_other() -> None:
    heads, given = bottleneck().train(), features().requires_grad_()
    outputs = dict(zip(TASKS.names, heads(given).split([3, 2, 2], dim=1), strict=True))
    losses = task_losses(outputs, LABELS, TASKS)
    at_features, at_concepts = torch.autograd.grad(losses["bright"], [given, heads.concepts.weight], retain_graph=True)
    assert not bool(at_features.any())
    assert not bool(at_concepts.any())
    # Every other image trains the base, the rest the residual part.
    shown, biases = outputs["bright"], [heads.base.bias, heads.residual.bias]
    base, residual = (
        torch.autograd.grad(shown[rows].sum(), biases, retain_graph=True, allow_unused=True)
        for rows in (slice(0, None, 2), slice(1, None, 2))
    )
    assert base[0] is not None
    assert bool(base[0].any())
    assert base[1] is None or not bool(base[1].any())
    assert residual[0] is None or not bool(residual[0].any())
    assert residual[1] is not None
    assert bool(residual[1].any())


def test_a_network_without_a_bottleneck_has_none() -> None:
    assert bottleneck_of(build_tiny(BackboneName.SMALL, COLOUR_AND_BRIGHT, 0)) is None
