from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import CPU_CALL_SIZE
from mtlue_cli.errors import MtlueError
from mtlue_cli.generator.inference import BatchedPerturbation

IMAGES = [np.full((3, 4, 4), level, dtype=np.uint8) for level in range(0, 250, 5)]
LABELS = {"t": list(range(len(IMAGES)))}
CPU = torch.device("cpu")


class Limited:
    """Adds label and brightness; out of memory above ``limit`` images."""

    def __init__(self, limit: int, error: Exception) -> None:
        self.limit = limit
        self.error = error
        self.calls: list[int] = []

    def perturb(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        self.calls.append(len(images))
        if len(images) > self.limit:
            raise self.error
        return images + labels["t"].view(-1, 1, 1, 1)


@pytest.mark.parametrize("asked", [1, 64])
def test_a_cpu_takes_its_own_call_size_whatever_is_asked_for(asked: int) -> None:
    generator = Limited(99, MemoryError())
    BatchedPerturbation(generator, CPU, call_size=asked)(IMAGES, LABELS)
    assert set(generator.calls) == {CPU_CALL_SIZE}


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no"), RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), MemoryError()],
)
@pytest.mark.parametrize("limit", [1, 3, 16])
def test_the_batch_is_halved_until_it_fits(limit: int, error: Exception) -> None:
    roomy = BatchedPerturbation(Limited(99, error), CPU)(IMAGES, LABELS)
    generator = Limited(limit, error)
    tight = BatchedPerturbation(generator, CPU)
    for got, expected in zip(tight(IMAGES, LABELS), roomy, strict=True):
        assert np.array_equal(got, expected)
    assert tight.call_size <= limit
    assert [round(float(delta[0, 0, 0])) for delta in roomy[:3]] == [0, 1, 2]


def test_every_call_has_the_same_size() -> None:
    generator = Limited(99, MemoryError())
    run = BatchedPerturbation(generator, CPU)
    assert len(run(IMAGES[:3], {"t": [8, 8, 8]})) == 3
    assert len(run(IMAGES, LABELS)) == len(IMAGES)
    assert set(generator.calls) == {run.call_size}
    assert run(IMAGES[:1], {"t": [8]}, scale=0.5)[0][0, 0, 0] == 4.0


def test_other_failures_pass_and_a_single_image_that_does_not_fit_is_reported() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        BatchedPerturbation(Limited(0, RuntimeError("shapes differ")), CPU)(IMAGES, LABELS)
    with pytest.raises(MtlueError, match="too little memory"):
        BatchedPerturbation(Limited(0, MemoryError()), CPU)(IMAGES, LABELS)


def test_a_cpu_keeps_its_call_size_and_other_devices_take_the_one_asked_for() -> None:
    generator = Limited(99, MemoryError())
    BatchedPerturbation(generator, CPU, call_size=5)(IMAGES, LABELS)
    assert set(generator.calls) == {8}
    for device in ("cuda", "mps"):
        assert BatchedPerturbation(generator, torch.device(device), call_size=5).call_size == 5
