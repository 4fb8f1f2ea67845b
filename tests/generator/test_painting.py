"""How a task set is painted: chosen once for it, and what becomes of the pattern and the network."""

import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.painting import (
    ALONE_GAIN,
    CarrierOfOneMap,
    Painting,
    TintsAlone,
    TintsBesidePatterns,
    UnlearnedTints,
    paint_class_patterns,
)
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.dense_sample import TASKS

SMALL = GeneratorConfig(image_size=16, encoder_width=8, decoder_width=8, label_channels=4, label_grid=4, pattern_grid=3)


@pytest.mark.parametrize("gain", [0.5, torch.tensor(0.5)], ids=["number", "learned"])
def test_the_pattern_is_added_to_what_the_network_draws_or_stands_alone(gain: float | torch.Tensor) -> None:
    pattern, drawn = torch.full((2, 3, 4, 4), 6.0), torch.full((2, 3, 4, 4), 1.0)
    both = Painting(torch.zeros(2, 1, 1, 1), pattern)
    assert set(both.unbounded(drawn, gain).flatten().tolist()) == {4.0}
    assert not both.is_all
    first = both._replace(alone=torch.tensor([True, False]).view(2, 1, 1, 1))
    found = first.unbounded(drawn, gain)
    assert [set(own.flatten().tolist()) for own in found] == [{6.0 * ALONE_GAIN}, {4.0}]
    assert not first.is_all
    assert first._replace(alone=torch.ones(2, 1, 1, 1, dtype=torch.bool)).is_all


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("bright", "parts"), TintsAlone),
        (("parts",), TintsAlone),
        (("bright", "depth"), TintsBesidePatterns),
        (("bright", "parts", "normals"), TintsBesidePatterns),
        (("depth",), CarrierOfOneMap),
        (("parts", "depth", "normals"), CarrierOfOneMap),
    ],
)
def test_a_set_with_label_maps_is_painted_by_its_kinds(names: tuple[str, ...], kind: type) -> None:
    generator = PerturbationGenerator(SMALL, TASKS.subset(names))
    assert type(generator.dense_embeddings) is kind
    assert generator.painter == generator.dense_embeddings.paint


def test_whole_images_are_painted_by_class_patterns_and_universal_weights_choose_when_they_are_bound() -> None:
    assert PerturbationGenerator(SMALL, TASKS.image_level).painter is paint_class_patterns
    universal = PerturbationGenerator(SMALL, None)
    second = Task("second", TaskKind.BINARY, ("0", "1"))
    mask = TASKS.subset(["bright", "parts"])
    for tasks, tinted in ((mask, True), (mask.image_level, False), (TaskSet((*mask, second)), False)):
        universal.bind(universal.codes.codebook(Key(bytes(32)), tasks))
        assert isinstance(universal.painter, UnlearnedTints) is tinted
        assert tinted or universal.painter is paint_class_patterns


def test_the_names_of_tensors_in_checkpoints_stay() -> None:
    names = set(PerturbationGenerator(SMALL, TASKS.subset(["bright", "parts"])).state_dict())
    assert {name for name in names if "embedding" in name} == {
        "label_embedding.maps.task0",
        "dense_embeddings.volume.task0",
        *(
            f"dense_embeddings.embeddings.0.{name}"
            for name in ("tiles", "mean", "see.weight", "see.bias", "tell.weight", "tell.bias")
        ),
    }
    assert {"decoder.gain", "decoder.mix.weight", "decoder.draw.bias", "image_encoder.stem.weight"} < names
    assert {name for name in PerturbationGenerator(SMALL, None).state_dict() if "embedding" in name} == {
        f"label_embedding.lift.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    }
