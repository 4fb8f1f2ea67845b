"""Victims that several processes train together, as ``accelerate launch`` and ``torchrun`` start them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mtlue_cli.choices import EngineName, Precision
from mtlue_cli.devices import ALONE, Processes, training_processes, training_together
from mtlue_cli.engines.engine import check_engine
from mtlue_cli.errors import InputError
from mtlue_cli.networks.backbones import Backbone
from mtlue_cli.networks.multitask import ImageLevelNetwork, MultiTaskNetwork
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, train_multitask
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.plan import read_inputs
from tests.launched import in_processes
from tests.small_set import TASKS, write_checkpoint, write_images

TOGETHER = """
from mtlue_cli.devices import launched_processes, training_together
from tests.engines.test_launched import trained

with launched_processes("cpu") as processes, training_together(processes):
    print(*trained())
"""

THREADS_LEFT = """
from pathlib import Path
from mtlue_cli.devices import launched_processes

def threads():
    return {name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")}

with launched_processes("cpu") as processes:
    import torchvision
    processes.mean([1.0])
    within = threads()
print("pt_gloo_runloop" in within, *sorted(name for name in threads() if "gloo" in name or "tcpstore" in name))
"""


def plain_network() -> MultiTaskNetwork:
    """A network without batch normalisation, which would see the parts of a batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        return ImageLevelNetwork(Backbone(layers, 16), TASKS)


def trained() -> tuple[str, float, float, float]:
    """Digest and norm of the weights, and the figures of the last epoch, after batches of 8, 8 and 3 images."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (19, 3, 18, 18), dtype=torch.uint8, generator=rng)
    labels = {task.name: torch.randint(0, task.num_classes, (19,), generator=rng) for task in TASKS}
    labels["round"][torch.rand(19, generator=rng) < 0.6] = UNLABELLED
    network, records = plain_network(), []

    def on_epoch(record: EpochRecord, _: MultiTaskNetwork) -> None:
        records.append(record)

    settings = LearningSettings(epochs=3, batch_size=8, crop_size=16, learning_rate=0.01, precision=Precision.FLOAT32)
    train_multitask(images, labels, TASKS, settings, torch.device("cpu"), on_epoch=on_epoch, network=network)
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    accuracy = sum(records[-1].accuracy.values())
    return hashlib.sha256(weights.numpy().tobytes()).hexdigest(), float(weights.norm()), records[-1].loss, accuracy


@pytest.mark.parametrize("batch", [4, 5, 64])
def test_parts_cover_a_batch_once(batch: int) -> None:
    values = list(range(batch))
    assert [value for rank in range(2) for value in values[Processes(rank, 2).rows(batch)]] == values


def test_a_batch_of_too_few_images_is_computed_by_all() -> None:
    assert [Processes(rank, 2).rows(3) for rank in range(2)] == [slice(3), slice(3)]


def test_processes_train_together_within_their_context_only() -> None:
    processes = Processes(1, 2)
    with training_together(processes):
        assert training_processes() is processes
    assert training_processes() is ALONE


@pytest.mark.slow
def test_two_processes_train_the_network_that_one_trains() -> None:
    pytest.importorskip("accelerate", reason="the extra accelerate is not installed")
    (first, answer), (second, other) = in_processes(2, "-c", TOGETHER)
    assert first == second == 0
    assert answer == other
    _, *figures = answer.split()
    assert [float(figure) for figure in figures] == pytest.approx(trained()[1:], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the names of threads are read from /proc")
def test_no_thread_of_the_process_group_is_left() -> None:  # one that is left can abort Python's end
    pytest.importorskip("accelerate", reason="the extra accelerate is not installed")
    assert in_processes(2, "-c", THREADS_LEFT) == [(0, "True")] * 2


@pytest.mark.slow
def test_verify_trains_each_victim_in_all_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="the extra accelerate is not installed")
    labels = write_images(tmp_path / "photos", 24)
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    words = ["-m", "mtlue_cli", "verify", str(tmp_path / "photos"), "--labels", str(labels), "--weights", str(weights)]
    words += ["--backbone", "small", "--size", "32", "--epochs", "1", "--batch-size", "8", "--device", "cpu"]
    words += ["--cache", str(tmp_path / "cache"), "--no-control", "--no-probes", "--countermeasure", "mixup", "--json"]
    ends = []
    for _ in range(2):
        (code, answer), (other, silence) = in_processes(2, *words)
        assert (other, silence) == (0, "")
        ends.append((code, json.loads(answer)))
    (code, first), (again, second) = ends
    said = capfd.readouterr().err
    assert said.count("small + mixup: done, 18 in") == 1  # the main process alone says so, and the second run has it
    assert said.count("small + mixup: finished earlier") == 1
    assert code == again
    assert code in (0, 4, 5)
    assert first["device"] == "cpu (2 processes for each network)"
    assert len(first["conditions"]) == 3
    assert first["digest"] == second["digest"]
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 3


@pytest.mark.slow
def test_a_fault_that_the_main_process_finds_ends_all(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="the extra accelerate is not installed")
    labels = write_images(tmp_path / "photos", 4)
    labels.write_text("file_name,colour\n../away.png,red\n")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    words = ["verify", str(tmp_path / "photos"), "--labels", str(labels), "--weights", str(weights), "--device", "cpu"]
    (code, _), (other, _) = in_processes(2, "-m", "mtlue_cli", *words)
    assert (code, other) == (2, 0)


def test_protect_and_ray_are_refused_under_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = write_images(tmp_path / "photos", 4)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="protect cannot run under a launcher"):
        read_inputs(ProtectConfig(tmp_path / "photos", labels, device="cpu", quick=True))
    with pytest.raises(InputError, match="--engine ray cannot run under a launcher"):
        check_engine(EngineName.RAY, None)
