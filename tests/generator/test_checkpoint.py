"""Checkpoints: a round trip, and each way in which a file is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mtlue_cli.errors import CheckpointError
from mtlue_cli.generator.checkpoint import (
    METADATA_KEY,
    CheckpointCard,
    load_checkpoint,
    read_card,
    save_checkpoint,
    sealed,
    weights_digest,
)
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from tests.multitask_sample import TASKS, draw_sample

CONFIG = GeneratorConfig(image_size=16, encoder_width=8, decoder_width=8, label_channels=4, label_grid=8)


def make_card() -> CheckpointCard:
    return CheckpointCard(
        tasks=TASKS,
        epsilon=8,
        image_size=16,
        objective="tap",
        settings={"seed": 1},
        generator=asdict(CONFIG),
        data_digest="d" * 64,
        licence="CC0-1.0",
        versions={"mtlue": "0"},
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "deep" / "faces.safetensors"
    save_checkpoint(target, PerturbationGenerator(CONFIG, TASKS, seed=1), make_card())
    return target


def rewrite(path: Path, **changes: object) -> None:
    document = {**read_card(path).to_json(), **changes}
    save_file(load_file(path), path, metadata={METADATA_KEY: sealed(document)})


def test_a_round_trip_gives_the_same_perturbation_and_card(path: Path) -> None:
    loaded = load_checkpoint(path)
    pixels, labels = draw_sample(3, 16)
    original = PerturbationGenerator(CONFIG, TASKS, seed=1).eval()
    images = pixels.float() / 255
    assert torch.equal(loaded.generator.perturb(images, labels), original.perturb(images, labels))
    assert loaded.card.tasks == TASKS
    assert loaded.card.name == "faces"
    assert loaded.card.digest == weights_digest(original.state_dict())
    assert read_card(path) == loaded.card


def test_no_temporary_file_is_left(path: Path) -> None:
    assert [entry.name for entry in path.parent.iterdir()] == ["faces.safetensors"]


def test_a_flipped_bit_in_the_weights_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="digest"):
        load_checkpoint(path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not an mtlue checkpoint"):
        load_checkpoint(path)


def test_a_newer_schema_is_refused(path: Path) -> None:
    rewrite(path, schema_version=99)
    with pytest.raises(CheckpointError, match="schema version 99"):
        read_card(path)


def test_another_shape_than_the_card_says_is_refused(path: Path) -> None:
    rewrite(path, generator={**asdict(CONFIG), "decoder_width": 16})
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        load_checkpoint(path)


def test_missing_fields_are_refused(path: Path) -> None:
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps({"schema_version": 1, "tasks": []})})
    with pytest.raises(CheckpointError, match="damaged metadata"):
        read_card(path)


def test_weights_that_are_not_finite_are_refused(path: Path) -> None:
    tensors = load_file(path)
    tensors["decoder.gain"].fill_(float("nan"))
    document = {**read_card(path).to_json(), "digest": weights_digest(tensors)}
    save_file(tensors, path, metadata={METADATA_KEY: sealed(document)})
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "field",
    [
        {"generator": "small"},
        {"generator": {"image_size": "large"}},
        {"generator": None},
        {"tasks": "colour"},
        {"tasks": 3},
        {"tasks": [{"name": "colour", "kind": "odd", "classes": ["0", "1"]}]},
        {"tasks": [{"name": "a.b", "kind": "binary", "classes": ["0", "1"]}]},
        {"schema_version": "1"},
    ],
)
def test_a_card_with_fields_of_other_types_is_refused(path: Path, field: dict[str, object]) -> None:
    rewrite(path, **field)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("document", ["card", ["card"], 3, None])
def test_a_card_that_is_no_object_is_refused(path: Path, document: object) -> None:
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(document)})
    with pytest.raises(CheckpointError, match="damaged metadata"):
        read_card(path)
