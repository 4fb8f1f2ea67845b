"""What holds for every countermeasure of the registry."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.errors import InputError
from mtlue_cli.networks.backbones import Backbone
from mtlue_cli.networks.multitask import ImageLevelNetwork
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure, Pairs
from mtlue_cli.verification.countermeasures.pair_remover import PairRemover
from mtlue_cli.verification.countermeasures.purification import Purification
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES, countermeasure_named, countermeasures_of
from tests.multitask_sample import TASKS, draw_sample
from tests.small_set import write_checkpoint

COUNT, SIZE, CROP = 24, 24, 16
NAMES = list(CountermeasureName)
WEIGHTS: dict[str, Path] = {}
every_countermeasure = pytest.mark.parametrize("name", NAMES, ids=str)


def release(seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Images, and labels of which some are missing."""
    images, labels = draw_sample(COUNT, SIZE, seed)
    labels["colour"][::5] = UNLABELLED
    labels["bright"][1::4] = UNLABELLED
    return images, labels


def build(name: CountermeasureName) -> Countermeasure:
    """As verification builds it, but for how long it trains a network of its own."""
    built: Countermeasure = COUNTERMEASURES[name].settings
    if isinstance(built, Purification):
        return replace(built, examples=64, coarse=4)
    return replace(built, steps=8) if isinstance(built, PairRemover) else built


@pytest.fixture(scope="module", autouse=True)
def published(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A generator for whoever declares that he needs one."""
    WEIGHTS["published"] = write_checkpoint(tmp_path_factory.mktemp("weights") / "g.safetensors", TASKS)


def view_for(name: CountermeasureName, labels: Mapping[str, Tensor], seed: int = 0) -> AttackerView:
    """What the attacker has; pairs, weights and own images only for who declares that he needs them."""
    pairs = None
    if build(name).needs_pairs or build(name).needs_own_pairs:
        originals, pair_labels = draw_sample(8, SIZE, seed=7)
        pairs = Pairs(originals, originals.roll(1, dims=-1), pair_labels)
    weights = WEIGHTS["published"] if build(name).needs_weights else None
    own = draw_sample(8, SIZE, seed=9)[0] if build(name).needs_own_images else None
    cpu = torch.device("cpu")
    return AttackerView(labels, TASKS, pairs, CROP, seed, cpu, weights=weights, own_images=own)


def batch(seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    images, labels = release(seed)
    crops = images[..., :CROP, :CROP].float() / 255
    return crops.contiguous(memory_format=torch.channels_last), labels


def network() -> ImageLevelNetwork:
    """A victim small enough for every test to have its own; with batch statistics, so that its mode matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return ImageLevelNetwork(Backbone(nn.Sequential(*layers), 8), TASKS).train()


def intervene(
    name: CountermeasureName,
    images: Tensor,
    labels: Mapping[str, Tensor],
    seed: int = 0,
    victim: ImageLevelNetwork | None = None,
) -> Mixture | None:
    """The batch as a victim would learn it; None if nothing is done to batches."""
    intervention = build(name).during_training(view_for(name, labels))
    if intervention is None:
        return None
    return intervention(victim or network(), images, labels, torch.Generator().manual_seed(seed))


def same_mixture(first: Mixture, second: Mixture) -> bool:
    if not torch.equal(first.images, second.images) or first.share != second.share:
        return False
    return (first.other is None) == (second.other is None) and all(
        torch.equal(one[task], two[task])
        for one, two in ((first.labels, second.labels), (first.other or {}, second.other or {}))
        for task in one
    )


def test_the_registry_knows_every_name_by_its_own_declaration() -> None:
    assert list(COUNTERMEASURES) == NAMES
    for name, choice in COUNTERMEASURES.items():
        assert choice.name is name
        assert choice.title
        assert any(character.isdigit() for character in choice.settings.source), f"{name}: a source has a year"
        assert choice.settings.cost >= 1
    titles = [choice.title for choice in COUNTERMEASURES.values()]
    assert len(set(titles)) == len(titles)


def test_settings_show_in_name_title_and_cost_and_a_registered_variant_keeps_its_name() -> None:
    assert countermeasure_named("jpeg:quality=75") is countermeasure_named("jpeg-75")
    other = countermeasure_named("jpeg-10:quality=20")
    assert (other.name, other.title) == ("jpeg:quality=20", "JPEG, quality 20")
    slower = countermeasure_named("ueraser:candidates=9,intensity=0.2..0.4")
    assert slower.name == "ueraser:candidates=9,intensity=0.2..0.4"
    assert slower.title == "UEraser (candidates=9, intensity=0.2..0.4)"
    assert slower.settings.cost == 5.5
    assert slower.settings_to_json()["intensity"] == [0.2, 0.4]
    assert countermeasure_named("adversarial-training:steps=3").settings.cost == 4


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_an_alpha_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        countermeasure_named(f"{name}:alpha=0")
    assert caught.value.faults == ("alpha is 0, expected a number > 0.0",)


def test_each_tier_includes_those_below_it() -> None:
    smoke, standard, full = (set(countermeasures_of(tier)) for tier in (Tier.SMOKE, Tier.STANDARD, Tier.FULL))
    assert smoke < standard < full == set(COUNTERMEASURES.values())
    assert COUNTERMEASURES[CountermeasureName.JPEG_10] in smoke
    assert Tier.FULL.includes(Tier.SMOKE)
    assert not Tier.SMOKE.includes(Tier.FULL)


@pytest.mark.parametrize("tier", [Tier.SMOKE, Tier.STANDARD, Tier.FULL])
def test_the_converged_tier_is_no_part_of_the_chain(tier: Tier) -> None:
    assert not Tier.CONVERGED.includes(tier)
    assert not tier.includes(Tier.CONVERGED)
    assert Tier.CONVERGED.includes(Tier.CONVERGED)


@every_countermeasure
def test_it_does_something(name: CountermeasureName) -> None:
    images, labels = release()
    changed = build(name).before_training(images.clone(), view_for(name, labels))
    crops, batch_labels = batch()
    mixture = intervene(name, crops, batch_labels)
    assert (
        not torch.equal(changed, images)
        or (mixture is not None and not torch.equal(mixture.images, crops))
        or build(name).validation is not None
    )


@every_countermeasure
def test_images_keep_shape_and_type_and_the_given_ones_stay(name: CountermeasureName) -> None:
    images, labels = release()
    given, given_labels = images.clone(), {task: column.clone() for task, column in labels.items()}
    countermeasure = build(name)
    changed = countermeasure.before_training(given, view_for(name, given_labels))
    judged = countermeasure.at_inference(given[:5])
    for result, count in ((changed, COUNT), (judged, 5)):
        assert result.shape == (count, 3, SIZE, SIZE)
        assert result.dtype == torch.uint8
    assert torch.equal(given, images)
    assert all(torch.equal(given_labels[task], labels[task]) for task in labels)


@every_countermeasure
def test_the_same_seed_gives_the_same_images(name: CountermeasureName) -> None:
    images, labels = release()
    results = []
    for state in (1, 2):
        torch.manual_seed(state)  # the global generator has no say
        countermeasure = build(name)
        changed = countermeasure.before_training(images, view_for(name, labels, seed=3))
        results.append((changed, countermeasure.at_inference(images)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@every_countermeasure
def test_the_global_random_state_is_left_alone(name: CountermeasureName) -> None:
    images, labels = release()
    crops, batch_labels = batch()
    victim = network()
    before = torch.get_rng_state()
    countermeasure = build(name)
    countermeasure.before_training(images, view_for(name, labels))
    countermeasure.at_inference(images)
    intervene(name, crops, batch_labels, victim=victim)
    assert torch.equal(torch.get_rng_state(), before)


@every_countermeasure
def test_batches_keep_shape_and_range_and_the_given_one_stays(name: CountermeasureName) -> None:
    crops, labels = batch()
    given, given_labels = crops.clone(), {task: column.clone() for task, column in labels.items()}
    mixture = intervene(name, given, given_labels)
    if mixture is not None:
        assert mixture.images.shape == crops.shape
        assert mixture.images.dtype == torch.float32
        assert 0 <= mixture.images.min() <= mixture.images.max() <= 1
        assert 0 <= mixture.share <= 1
    assert torch.equal(given, crops)
    assert all(torch.equal(given_labels[task], labels[task]) for task in labels)


@every_countermeasure
def test_batches_depend_on_the_generator_alone(name: CountermeasureName) -> None:
    crops, labels = batch()
    drawn = [intervene(name, crops, labels, seed) for seed in (0, 0, 1)]
    first, again, other = drawn
    if first is None or again is None or other is None:
        assert drawn == [None, None, None]
        return
    assert same_mixture(first, again)
    assert not same_mixture(first, other)


@every_countermeasure
def test_the_network_is_left_as_it_was(name: CountermeasureName) -> None:
    crops, labels = batch()
    victim = network()
    for parameter in victim.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {key: value.clone() for key, value in victim.named_parameters()}
    intervene(name, crops, labels, victim=victim)
    assert victim.training
    assert all(module.training for module in victim.modules())
    for key, parameter in victim.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, before[key])
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.ones_like(parameter))


@every_countermeasure
def test_what_is_unlabelled_stays_unlabelled(name: CountermeasureName) -> None:
    crops, labels = batch()
    mixture = intervene(name, crops, labels)
    for column in (mixture.labels, mixture.other or mixture.labels) if mixture is not None else ():
        for task in TASKS:
            assert (column[task.name] == UNLABELLED).sum() == (labels[task.name] == UNLABELLED).sum()

    labels["colour"] = torch.full((COUNT,), UNLABELLED)
    nothing = intervene(name, crops, labels)
    if nothing is not None:
        losses = nothing.losses(network()(nothing.images), TASKS)
        assert losses["colour"].item() == 0
        assert losses["bright"].item() > 0
