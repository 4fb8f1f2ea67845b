"""Training that starts from universal weights, or from those of another run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlue_cli.choices import FIRST_ALONE, BackboneName, ObjectiveName
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import load_checkpoint, save_checkpoint
from mtlue_cli.generator.label_embedding import LabelEmbedding
from mtlue_cli.generator.model import GeneratorConfig
from mtlue_cli.keys import VARIABLE, Key
from mtlue_cli.tasks.classes import image_level_shares
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.train.generator import train_generator
from mtlue_cli.workflows.train.run import QUIET_PATTERNS
from mtlue_cli.workflows.train.start import read_start
from tests.multitask_sample import TASKS
from tests.small_set import TASKS as OTHER_TASKS
from tests.small_set import write_checkpoint
from tests.workflows.test_train_generator import folder

pytestmark = pytest.mark.usefixtures("tiny_small")

DIGITS = "abba" * 16
__all__ = ["folder"]


@pytest.fixture
def small(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.setenv(VARIABLE, DIGITS)
    return TrainConfig(
        images=folder,
        labels=folder / "labels.csv",
        out=tmp_path / "squares.safetensors",
        size=16,
        epochs=1,
        surrogate=BackboneName.SMALL,
        surrogate_epochs=1,
        batch_size=8,
        device="cpu",
        start=str(write_checkpoint(tmp_path / "start" / "any.safetensors", None)),
    )


def test_a_universal_start_gives_the_maps_of_its_codes_and_its_weights(small: TrainConfig) -> None:
    labels = read_label_file(small.labels).table
    start = read_start(str(small.start), None, labels)
    begun = start.generator(labels.tasks, epsilon=4, image_size=20, seed=0, priors=[[1 / 3] * 3, [0.5] * 2], gain=0.3)
    assert (begun.config.epsilon, begun.config.image_size) == (4, 20)
    loaded, shares = load_checkpoint(Path(str(small.start))), image_level_shares(labels.columns, labels.tasks)
    known = loaded.bound(Key(bytes.fromhex(DIGITS)), labels.tasks, shares).generator
    assert isinstance(begun.label_embedding, LabelEmbedding)
    for name in TASKS.names:
        assert torch.equal(begun.label_embedding.of_task(name), known.label_embedding.of_task(name))
    assert torch.equal(begun.decoder.draw.weight, known.decoder.draw.weight)
    assert torch.equal(begun.image_encoder.stem.weight, known.image_encoder.stem.weight)
    assert begun.label_embedding.of_task(TASKS.names[0]).requires_grad


def test_training_from_a_start_leaves_an_ordinary_checkpoint(
    small: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = train_generator(small, SilentProgress()).card
    assert (card.universal, card.tasks.names, card.settings["start"]["name"]) == (False, TASKS.names, "any")
    assert card.settings["start"]["key_fingerprint"] == Key(bytes.fromhex(DIGITS)).fingerprint
    assert DIGITS[:16] not in str(card.to_json())
    assert load_checkpoint(small.out).generator.config.decoder_width == card.settings["decoder_width"] == 8
    fresh = train_generator(replace(small, start=None, overwrite=True), SilentProgress()).card
    monkeypatch.setenv(VARIABLE, "cddc" * 16)
    other = train_generator(replace(small, overwrite=True), SilentProgress()).card
    assert len({card.digest, fresh.digest, other.digest}) == 3


@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize(
    ("objective", "gain"),
    [(ObjectiveName.TAP, QUIET_PATTERNS), (ObjectiveName.EM, GeneratorConfig().pattern_gain)],
)
def test_a_start_that_draws_nothing_begins_as_loudly_as_no_start(
    small: TrainConfig, objective: ObjectiveName, gain: float, draws: bool
) -> None:
    start = Path(str(small.start))
    loaded, learned = load_checkpoint(start), 1.3
    loaded.generator.decoder.gain.data.fill_(learned)
    if draws:
        loaded.generator.decoder.draw.weight.data.fill_(0.01)
    save_checkpoint(start, loaded.generator, loaded.card)
    train_generator(replace(small, objective=objective, learning_rate=1e-7, learnability_weight=0.0), SilentProgress())
    trained = load_checkpoint(small.out)
    expected = learned if draws else gain
    assert trained.generator.decoder.gain.item() == pytest.approx(expected, abs=1e-4)
    if not draws:
        assert trained.card.generator["pattern_gain"] == gain


@pytest.mark.parametrize("draws", [False, True])
def test_only_a_trained_start_meets_all_surrogates_from_the_first_step(small: TrainConfig, draws: bool) -> None:
    start = Path(str(small.start))
    loaded = load_checkpoint(start)
    if draws:
        loaded.generator.decoder.draw.weight.data.fill_(0.01)
    save_checkpoint(start, loaded.generator, loaded.card)
    card = train_generator(replace(small, surrogate="small,resnet18-small-stem"), SilentProgress()).card
    assert card.settings["first_alone"] == (0 if draws else FIRST_ALONE)


def test_an_ordinary_start_must_know_the_labels(small: TrainConfig, tmp_path: Path) -> None:
    fitting = write_checkpoint(tmp_path / "own.safetensors", TASKS, seed=3)
    assert train_generator(replace(small, start=str(fitting)), SilentProgress()).card.settings["start"]["name"] == "own"
    other = write_checkpoint(tmp_path / "other.safetensors", OTHER_TASKS)
    with pytest.raises(InputError, match="do not know these labels") as caught:
        train_generator(replace(small, start=str(other), overwrite=True), SilentProgress())
    assert any("'bright'" in fault for fault in caught.value.faults)
    with pytest.raises(InputError, match="no weights called"):
        read_start("nowhere", None, read_label_file(small.labels).table)


def test_a_key_without_a_start_is_refused(small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        train_generator(replace(small, start=None, key=tmp_path / "key"), SilentProgress())
    assert "--key needs --from" in caught.value.faults[0]
