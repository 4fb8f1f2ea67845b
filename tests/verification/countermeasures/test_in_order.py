"""Countermeasures one after the other."""

from dataclasses import replace

import pytest
import torch

from mtlue_cli.errors import InputError
from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.conditions import Condition, VictimSpec
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure, Pairs
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES, countermeasure_named
from tests.multitask_sample import TASKS
from tests.verification.countermeasures.test_contract import CROP, batch, network, release, same_mixture


def view_of(labels: dict[str, torch.Tensor]) -> AttackerView:
    return AttackerView(labels, TASKS, None, CROP, 0, torch.device("cpu"))


def test_steps_that_prepare_the_release_follow_each_other() -> None:
    images, labels = release()
    jpeg, grey = (countermeasure_named(name).settings for name in ("jpeg:quality=20", "grayscale"))
    both = countermeasure_named("jpeg:quality=20+grayscale").settings
    expected = grey.before_training(jpeg.before_training(images, view_of(labels)), view_of(labels))
    assert torch.equal(both.before_training(images, view_of(labels)), expected)
    assert torch.equal(both.at_inference(images), expected)
    swapped = countermeasure_named("grayscale+jpeg:quality=20").settings
    assert not torch.equal(swapped.at_inference(images), expected)
    assert both.during_training(view_of(labels)) is None


def test_steps_that_change_batches_follow_each_other() -> None:
    crops, labels = batch()
    rng, victim = torch.Generator().manual_seed(3), network()

    def changed_by(countermeasure: Countermeasure, images: torch.Tensor, rng: torch.Generator) -> Mixture:
        change = countermeasure.during_training(view_of(labels))
        assert change is not None
        return change(victim, images, labels, rng)

    first = changed_by(COUNTERMEASURES["gaussian-noise"].settings, crops, rng)
    expected = changed_by(COUNTERMEASURES["cutmix"].settings, first.images, rng)
    both = countermeasure_named("gaussian-noise+cutmix").settings
    found = changed_by(both, crops, torch.Generator().manual_seed(3))
    assert same_mixture(found, expected)
    assert found.other is not None


def test_progress_is_that_of_all_steps() -> None:
    images, labels = release()
    seen: list[float] = []
    view = AttackerView(labels, TASKS, None, CROP, 0, torch.device("cpu"), on_progress=seen.append)
    countermeasure_named("resize+jpeg-50+bit-depth").settings.before_training(images, view)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1])


def test_pairs_go_the_way_of_the_release() -> None:
    """A remover that comes second learns from pairs that were greyed too."""
    images, labels = release()
    grey = countermeasure_named("grayscale").settings
    pairs = Pairs(images[:8], images[:8].roll(1, dims=-1), {name: column[:8] for name, column in labels.items()})
    remover = countermeasure_named("pair-remover:steps=2").settings
    view = AttackerView(labels, TASKS, pairs, CROP, 0, torch.device("cpu"))
    grey_pairs = Pairs(grey.at_inference(pairs.originals), grey.at_inference(pairs.protected), pairs.labels)
    greyed = replace(view, pairs=grey_pairs)
    both = countermeasure_named("grayscale+pair-remover:steps=2").settings
    assert both.needs_pairs
    expected = remover.before_training(grey.at_inference(images), greyed)
    assert torch.equal(both.before_training(images, view), expected)


def test_name_title_source_cost_and_settings_are_those_of_all_steps() -> None:
    both = countermeasure_named("jpeg-10:quality=30+adversarial-training:steps=3")
    assert both.name == "jpeg-30+adversarial-training:steps=3"
    assert both.title == "JPEG, quality 30, then Adversarial training, PGD (steps=3)"
    assert both.settings.source.startswith("Liu et al., Image Shortcut Squeezing, ICML 2023; Madry")
    assert both.settings.cost == 4
    assert both.settings_to_json()["jpeg-30"] == {"quality": 30}
    assert both.settings_to_json()["adversarial-training:steps=3"]["steps"] == 3
    assert Condition(VictimSpec(), countermeasure=both).name == "resnet18 + jpeg-30+adversarial-training:steps=3"


def test_a_number_may_have_a_plus() -> None:
    assert (
        countermeasure_named("gaussian-noise:deviation=1e+1").settings
        == countermeasure_named("gaussian-noise:deviation=10").settings
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("jpeg-10+nothing", "there is no countermeasure 'nothing'", "known: jpeg"),
        ("jpeg-10+jpeg:quality=10", "names the same step twice", None),
        ("cutmix+grayscale", "cutmix blends labels and must be the last step", "use grayscale+cutmix"),
        ("mixup+cutmix", "mixup blends labels and must be the last step", None),
        ("jpeg-10+", "there is no countermeasure 'jpeg-10+'", "known: jpeg"),
    ],
)
def test_what_does_not_fit_together_is_refused(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InputError, match=message.replace("+", r"\+")) as caught:
        countermeasure_named(text)
    assert (caught.value.hint or "").startswith(hint or "")
    assert hint is not None or caught.value.hint is None
