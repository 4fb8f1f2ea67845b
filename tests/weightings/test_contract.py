"""What every task weighting promises."""

import tomllib
from pathlib import Path

import pytest
import torch

from mtlue_cli.choices import WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.weightings import (
    INSTALL,
    WEIGHTINGS,
    LinearScalarisation,
    RepresentationWeighting,
    Weighting,
    WeightingSpec,
    require_installed,
)
from tests.weightings.small_network import TASKS, below_heads, cosine, draw, network, step, weighting

EVERY = pytest.mark.parametrize("name", list(WEIGHTINGS), ids=lambda name: name.value)
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_name_has_a_weighting() -> None:
    assert set(WEIGHTINGS) == set(WeightingName)


@EVERY
def test_finite_gradients_reach_every_parameter(name: WeightingName) -> None:
    model, made = network(), weighting(name)
    gradients = step(made, model, *draw())
    assert set(gradients) == {key for key, _ in model.named_parameters()}
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in gradients.values())
    own = [parameter.grad for parameter in made.parameters()]
    assert all(grad is not None and grad.isfinite().all() and grad.abs().sum() > 0 for grad in own)


@EVERY
def test_a_seed_repeats_every_step_and_global_chance_stays_out_of_it(name: WeightingName) -> None:
    first, again = weighting(name, seed=3), weighting(name, seed=3)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    mine = [below_heads(step(first, network(), *draw())) for _ in range(3)]
    assert torch.equal(torch.rand(1), expected)
    theirs = [below_heads(step(again, network(), *draw())) for _ in range(3)]
    assert all(torch.equal(left, right) for left, right in zip(mine, theirs, strict=True))


@EVERY
def test_an_unlabelled_task_is_left_out_of_the_step(name: WeightingName) -> None:
    images, labels = draw()
    masked = {**labels, "three": torch.full_like(labels["three"], UNLABELLED)}
    gradients = step(weighting(name), network(), images, masked)
    assert gradients["heads.weight"][5:].abs().max() == 0
    without = TASKS.subset(("one", "two"))
    rest = step(weighting(name, 2), network(without), *draw(tasks=without))
    assert cosine(below_heads(gradients), below_heads(rest)) == pytest.approx(1, abs=1e-6)


@EVERY
def test_a_task_that_was_unlabelled_at_first_joins_without_upsetting_the_others(name: WeightingName) -> None:
    images, labels = draw()
    masked = {**labels, "three": torch.full_like(labels["three"], UNLABELLED)}
    made = weighting(name)
    for epoch in range(3):
        made.new_epoch()
        step(made, network(), images, masked if epoch < 2 else labels)
    # From here a weight that ran away in its absence would leave one task alone.
    joined = below_heads(step(made, network(), images, labels))
    alone = [
        below_heads(step(LinearScalarisation(1, 0), network(one), images, {one.names[0]: labels[one.names[0]]}))
        for one in map(TASKS.subset, zip(TASKS.names))
    ]
    assert joined.isfinite().all()
    assert max(cosine(joined, single) for single in alone) < 0.999


@EVERY
def test_nothing_labelled_changes_nothing(name: WeightingName) -> None:
    images, labels = draw()
    gradients = step(
        weighting(name), network(), images, {key: torch.full_like(y, UNLABELLED) for key, y in labels.items()}
    )
    assert all(grad.abs().max() == 0 for grad in gradients.values())


@EVERY
def test_a_single_task_is_learned_as_it_is(name: WeightingName) -> None:
    one = TASKS.subset(("two",))
    gradients = step(weighting(name, 1), network(one), *draw(tasks=one))
    plain = step(LinearScalarisation(1, 0), network(one), *draw(tasks=one))
    assert cosine(below_heads(gradients), below_heads(plain)) == pytest.approx(1, abs=1e-6)


@EVERY
def test_tiny_gradients_are_weighed_too(name: WeightingName) -> None:
    gradients = step(weighting(name), network(), *draw(), scale=1e-12)
    assert all(grad.isfinite().all() for grad in gradients.values())
    assert below_heads(gradients).abs().max() > 0


@EVERY
def test_a_few_steps_lower_the_loss(name: WeightingName) -> None:
    model, made, (images, labels) = network(), weighting(name), draw()
    optimizer = torch.optim.Adam([*model.parameters(), *made.parameters()], 1e-2)

    def mean_loss() -> float:
        logits = model(images)
        return sum(torch.nn.functional.cross_entropy(logits[key], labels[key]).item() for key in labels) / 3

    before = mean_loss()
    for _ in range(10):
        step(made, model, images, labels)
        optimizer.step()
    assert mean_loss() < 0.9 * before


@EVERY
def test_it_works_in_mixed_precision(name: WeightingName) -> None:
    model, (images, labels) = network(), draw()
    full = below_heads(step(weighting(name), model, images, labels))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = below_heads(step(weighting(name), model, images, labels))
    assert cosine(full, mixed) > 0.99


@EVERY
def test_heads_learn_over_a_frozen_representation(name: WeightingName) -> None:
    model, (images, labels) = network(), draw()
    model.backbone.requires_grad_(False)
    model.shared.requires_grad_(False)
    gradients = step(weighting(name), model, images, labels)
    assert set(gradients) == {"heads.weight", "heads.bias"}
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in gradients.values())


@EVERY
def test_a_diverged_run_is_not_hidden(name: WeightingName) -> None:
    model, (images, labels) = network(), draw()
    with torch.no_grad():
        model.heads.weight[0] = torch.nan
    assert not below_heads(step(weighting(name), model, images, labels)).isfinite().all()


@EVERY
def test_heads_of_gradient_weightings_learn_from_their_own_loss(name: WeightingName) -> None:
    made = weighting(name)
    if not isinstance(made, RepresentationWeighting):
        pytest.skip("weighs losses")
    gradients = step(made, network(), *draw())
    mean = step(LinearScalarisation(3, 0), network(), *draw())
    assert torch.allclose(gradients["heads.weight"], 3 * mean["heads.weight"], atol=1e-6)


def test_what_is_missing_is_named_with_the_way_to_get_it() -> None:
    spec = WeightingSpec(LinearScalarisation, needs=("tomllib", "no_such_solver", "nor_this_one"))
    with pytest.raises(InputError, match="cagrad needs no_such_solver, nor_this_one") as caught:
        require_installed(WeightingName.CAGRAD, spec)
    assert caught.value.hint == INSTALL
    require_installed(WeightingName.LS, WEIGHTINGS[WeightingName.LS])


def test_the_extra_installs_all_that_is_needed() -> None:
    extra = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]["weightings"]
    names = {requirement.split(">=")[0] for requirement in extra}
    assert names == {module for spec in WEIGHTINGS.values() for module in spec.needs}


def test_weightings_know_no_epochs_unless_they_say_so() -> None:
    stateless = [name for name, spec in WEIGHTINGS.items() if not spec.needs and name is not WeightingName.DWA]
    assert {type(weighting(name)).new_epoch for name in stateless} == {Weighting.new_epoch}
