"""Checkpoints: a round trip, and each way in which a file is refused."""

import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mtlue_cli.budget import Budget, limited_to
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


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_is_refused_as_one_without_being_loaded(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol))
    with pytest.raises(CheckpointError, match="it is a pickle") as caught:
        load_checkpoint(path)
    assert "safetensors" in (caught.value.hint or "")
    assert not (tmp_path / "sprung").exists()


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="is a FIFO"):
        load_checkpoint(tmp_path / "x.safetensors")


def with_header(path: Path, header: bytes, length: int | None = None, data: bytes = b"") -> None:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)


def tensors_at(*offsets: tuple[int, int]) -> bytes:
    return json.dumps(
        {
            f"t{number}": {"dtype": "F32", "shape": [2], "data_offsets": list(pair)}
            for number, pair in enumerate(offsets)
        }
    ).encode()


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**63),
        (b"{}", 2**40),
        (b"{}", 200_000_000),
        (b"{}", 3),
        (b"[]", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (tensors_at((0, 8), (4, 12)), None),
        (tensors_at((0, 8), (0, 8)), None),
        (tensors_at((0, 8), (8, 2**62)), None),
        (tensors_at((8, 0)), None),
        (b'{"t": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 16]}}', None),
    ],
)
def test_a_header_too_long_or_overlapping_is_refused(tmp_path: Path, header: bytes, length: int | None) -> None:
    path = tmp_path / "x.safetensors"
    with_header(path, header, length, bytes(16))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "shape",
    [
        {"decoder_width": 10**9},
        {"encoder_depth": 10**9},
        {"label_grid": 1000},
        {"image_size": 10**6},
        {"encoder_width": -1},
        {"label_channels": 4.0},
        {"decoder_depth": True},
        {"pattern_gain": "2"},
        {"pattern_gain": float("inf")},
        {"pattern_gain": 10**400},
        {"epsilon": 9},
    ],
)
def test_a_card_that_asks_for_more_than_the_file_holds_is_refused(path: Path, shape: dict[str, object]) -> None:
    rewrite(path, generator={**asdict(CONFIG), **shape}, image_size=shape.get("image_size", 16))
    with pytest.raises(CheckpointError, match="larger than the file"):
        load_checkpoint(path)


def test_a_generator_of_another_kind_is_refused_and_what_differs_is_named(path: Path) -> None:
    earlier = {name: value for name, value in asdict(CONFIG).items() if name not in ("label_grid", "pattern_gain")}
    rewrite(path, generator={**earlier, "later": 1})
    with pytest.raises(CheckpointError, match="this version of mtlue cannot build") as caught:
        load_checkpoint(path)
    assert caught.value.faults == (
        "generator: label_grid is missing",
        "generator: pattern_gain is missing",
        "generator: later is unknown",
    )


def test_a_changed_card_is_found(path: Path) -> None:
    content = path.read_bytes()
    changed = content.replace(rb"\"epsilon\": 8, \"generator\"", rb"\"epsilon\": 9, \"generator\"")
    assert changed != content
    path.write_bytes(changed)
    for read in (read_card, load_checkpoint):
        with pytest.raises(CheckpointError, match="metadata do not match the digest"):
            read(path)


def test_a_card_without_its_digest_is_read_only_if_it_is_of_the_first_version(path: Path) -> None:
    document = read_card(path).to_json()
    for version, readable in ((1, True), (2, False)):
        text = json.dumps({**document, "schema_version": version})
        save_file(load_file(path), path, metadata={METADATA_KEY: text})
        if readable:
            assert load_checkpoint(path).card.tasks == TASKS
        else:
            with pytest.raises(CheckpointError, match="digest"):
                load_checkpoint(path)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int32, torch.float64])
def test_weights_of_another_type_are_refused_and_named(path: Path, kind: torch.dtype) -> None:
    tensors = load_file(path)
    tensors["decoder.draw.bias"] = tensors["decoder.draw.bias"].to(kind)
    text = sealed(read_card(path).to_json())
    save_file(tensors, path, metadata={METADATA_KEY: text})
    with pytest.raises(CheckpointError, match="does not hold the weights") as caught:
        load_checkpoint(path)
    assert caught.value.faults == (f"decoder.draw.bias: {kind} (48,), expected torch.float32 (48,)",)


def test_weights_missing_and_unknown_are_named(path: Path) -> None:
    tensors = load_file(path)
    tensors["other"] = tensors.pop("decoder.gain")
    save_file(tensors, path, metadata={METADATA_KEY: sealed(read_card(path).to_json())})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.faults == ("decoder.gain: missing", "other: unknown")


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
        {"tasks": [{"name": "colour", "kind": "categorical", "classes": ""}]},
        {"tasks": [{"name": "colour", "kind": "categorical", "classes": []}]},
        {"tasks": [{"name": "far", "kind": "depth", "classes": ["0"]}]},
        {"tasks": [{"name": "colour", "kind": "odd", "classes": ["0", "1"]}]},
        {"tasks": [{"name": "a.b", "kind": "binary", "classes": ["0", "1"]}]},
        {"schema_version": "1"},
        *({name: 5} for name in ("objective", "data_digest", "licence", "created", "digest", "settings", "versions")),
        *({name: "8"} for name in ("epsilon", "image_size")),
        {"versions": {"mtlue": 1}},
        {"versions": ["mtlue"]},
        {"universal": True, "tasks": [], "generator": {"pattern_grid": "9"}},
        {"licence": 3},
        {"created": None},
        {"versions": ["1"]},
        {"versions": {"torch": 2}},
        {"settings": {"rate": float("inf")}},
    ],
)
def test_a_card_with_fields_of_other_types_is_refused(path: Path, field: dict[str, object]) -> None:
    rewrite(path, **field)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("size", [2048, 4096])
def test_weights_that_take_too_much_memory_per_call_are_refused_before_they_are_read(
    path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(path, generator={**asdict(CONFIG), "image_size": size}, image_size=size)
    monkeypatch.setattr("safetensors.torch.load_file", lambda _: pytest.fail("the weights were read"))
    with pytest.raises(CheckpointError, match="bytes of memory per call, the limit is 2,147,483,648") as caught:
        load_checkpoint(path)
    assert caught.value.hint is not None
    assert "--max-network-bytes" in caught.value.hint
    monkeypatch.undo()
    with limited_to(Budget(max_network_bytes=1 << 40)):
        assert load_checkpoint(path).card.image_size == size


@pytest.mark.parametrize("document", ["card", ["card"], 3, None])
def test_a_card_that_is_no_object_is_refused(path: Path, document: object) -> None:
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(document)})
    with pytest.raises(CheckpointError, match="damaged metadata"):
        read_card(path)
