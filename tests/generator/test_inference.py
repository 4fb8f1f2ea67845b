"""A generator that is prepared for a CPU computes what it did before."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mtlue_cli.generator.inference import PreparedGenerator, for_inference
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.resize import STEPS
from mtlue_cli.tasks.spec import TaskSet
from tests import dense_sample
from tests.multitask_sample import TASKS, draw_sample

CONFIGS = [
    GeneratorConfig(image_size=32),
    GeneratorConfig(epsilon=4, image_size=32, encoder_width=8, encoder_depth=3, decoder_width=12, decoder_depth=1),
]


def stirred(generator: PerturbationGenerator) -> PerturbationGenerator:
    """Every weight moved, as training moves them: no norm, bias or last layer is at its start."""
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
    return generator.eval()


def check(generator: PerturbationGenerator, images: Tensor, labels: Mapping[str, Tensor]) -> None:
    expected = generator.perturb(images, labels)
    found = PreparedGenerator(generator).perturb(images, labels)
    assert found.shape == expected.shape
    assert float(expected.std()) > 1
    # Far below what is rounded away afterwards.
    assert float((found - expected).abs().max()) < 0.02 / STEPS


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "other depths"])
@pytest.mark.parametrize("size", [32, 30])
def test_learned_embeddings(config: GeneratorConfig, size: int) -> None:
    pixels, labels = draw_sample(5, size)
    check(stirred(PerturbationGenerator(config, TASKS, seed=1)), pixels.float() / 255, labels)


@pytest.mark.parametrize("tasks", [dense_sample.TASKS, dense_sample.TASKS.dense], ids=["mixed", "dense"])
def test_label_maps(tasks: TaskSet) -> None:
    images, labels = dense_sample.draw_scenes(3, 32, 9)
    check(stirred(PerturbationGenerator(CONFIGS[0], tasks, seed=1)), images.float() / 255, labels)


def test_codes_of_a_key() -> None:
    generator = stirred(PerturbationGenerator(CONFIGS[0], None, seed=1))
    codebook = generator.codes.codebook(Key(bytes(range(32))), TASKS)
    generator.bind(codebook)
    pixels, labels = draw_sample(5, 32)
    check(generator, pixels.float() / 255, labels)


def test_a_network_that_draws_nothing_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = PerturbationGenerator(CONFIGS[0], None, seed=1).eval()
    generator.bind(generator.codes.codebook(Key(bytes(range(32))), TASKS))
    pixels, labels = draw_sample(5, 30)
    expected = generator.perturb(pixels.float() / 255, labels)
    prepared = PreparedGenerator(generator)
    monkeypatch.setattr(prepared, "_drawn", lambda *_: pytest.fail("the network was asked"))
    torch.testing.assert_close(prepared.perturb(pixels.float() / 255, labels), expected, atol=1e-3, rtol=0)
    # Nor does the image have a part in it.
    torch.testing.assert_close(generator.perturb(torch.zeros(5, 3, 30, 30), labels), expected)
    with torch.no_grad():
        generator.decoder.draw.weight[0] = 0.1
    check(generator, pixels.float() / 255, labels)


def test_a_photo_does_not_depend_on_those_beside_it() -> None:
    prepared = PreparedGenerator(stirred(PerturbationGenerator(CONFIGS[0], TASKS, seed=1)))
    pixels, labels = draw_sample(8, 32)
    images = pixels.float() / 255
    together = prepared.perturb(images, labels)
    images[1:] = 0.5
    assert torch.equal(prepared.perturb(images, labels)[0], together[0])


def test_other_devices_take_the_generator_as_it_is() -> None:
    generator = PerturbationGenerator(CONFIGS[0], TASKS)
    assert for_inference(generator, torch.device("cuda")) is generator
    assert isinstance(for_inference(generator, torch.device("cpu")), PreparedGenerator)
