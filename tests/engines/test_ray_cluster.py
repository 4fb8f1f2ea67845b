"""The Ray engine on real clusters of two nodes, whose processes die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlue_cli.choices import BackboneName, EngineName
from mtlue_cli.release.records import FOLDER, MANIFEST_NAME, Record
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.run import verify_release
from tests.engines.test_engines import tree
from tests.small_set import write_checkpoint, write_images
from tests.verification.made_release import make_release, make_set

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

STORE = 100 << 20
"""Bytes of a node's object store."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node for the driver, without a CPU for workers, and two with one each."""
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        found.add_node(num_cpus=1, object_store_memory=STORE)
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos", 64)
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    run = ProtectConfig(tmp_path / "photos", labels, tmp_path / "local", weights=str(weights), device="cpu", workers=2)
    protect_folder(run, SilentProgress())
    return replace(run, out=tmp_path / "far", engine=EngineName.RAY)


def busy_workers(cluster: Any) -> dict[int, Any]:  # noqa: ANN401 - Ray's
    """Process of every worker that has a unit at present, and its node."""
    nodes = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    found: dict[int, Any] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            title, parent = (place / "cmdline").read_bytes(), (place / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if title.startswith(b"ray::Worker.run") and int(parent) in nodes:
            found[int(place.name)] = nodes[int(parent)]
    return found


def protect_with_death(config: ProtectConfig, kill: Callable[[], bool]) -> ProtectResult:
    """A run in which ``kill`` is called after records until it has killed something."""
    killed = False
    original = Release.add

    def add(release: Release, record: Record) -> None:
        nonlocal killed
        original(release, record)
        killed = killed or kill()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "add", add)
        result = protect_folder(config, SilentProgress())
    assert killed
    return result


def test_a_release_is_the_same_and_a_killed_worker_loses_nothing(cluster: Any, config: ProtectConfig) -> None:  # noqa: ANN401
    assert protect_folder(config, SilentProgress()).device == "cpu (Ray, 2 workers)"
    expected = tree(config.release.with_name("local"))
    assert tree(config.release) == expected

    def kill() -> bool:
        for process in busy_workers(cluster):
            os.kill(process, signal.SIGKILL)
            return True
        return False

    again = replace(config, out=config.release.with_name("killed"))
    protect_with_death(again, kill)
    assert tree(again.release) == expected


def test_a_killed_driver_is_resumed(cluster: Any, config: ProtectConfig) -> None:  # noqa: ANN401
    words = ["protect", str(config.images), "--labels", str(config.labels), "--out", str(config.release)]
    words += ["--weights", str(config.weights), "--engine", "ray", "--ray-address", cluster.address]
    driver = subprocess.Popen([sys.executable, "-m", "mtlue_cli", *words], stderr=subprocess.DEVNULL)
    manifest = config.release / FOLDER / MANIFEST_NAME
    try:
        while not manifest.exists() or manifest.read_bytes().count(b"\n") < 2:  # the first is vouched for then
            assert driver.poll() is None
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    assert protect_folder(config, SilentProgress()).kept > 0
    assert tree(config.release) == tree(config.release.with_name("local"))


def test_verify_finds_the_same(
    cluster: Any,  # noqa: ANN401
    tmp_path: Path,
    same_arithmetic: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del cluster
    monkeypatch.setattr(torch.cpu, "get_capabilities", same_arithmetic)  # as workers have it
    made = make_set(tmp_path / "clean", 100)
    make_release(made, tmp_path / "release")
    config = VerifyConfig(
        made.images,
        made.labels,
        tmp_path / "release",
        test_fraction=0.3,
        backbones=(BackboneName.SMALL,),
        countermeasures=("grayscale",),
        epochs=2,
        size=32,  # bfloat16 has no reproducible gradients of smaller images
        batch_size=10,
        probes=False,
        cache=tmp_path / "cache",
        device="cpu",
        workers=1,
    )

    def figures(config: VerifyConfig) -> dict[str, Any]:
        document = verify_release(config, SilentProgress()).to_json()
        for row in document["conditions"]:
            row.pop("seconds", None)
        for name in ("seconds", "device"):
            document.pop(name)
        document["settings"].pop("cache")
        return document

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has: sums of floats depend on it
    try:
        here = figures(config)
    finally:
        torch.set_num_threads(threads)
    far = replace(config, engine=EngineName.RAY, cache=tmp_path / "far")
    assert json.dumps(figures(far), sort_keys=True) == json.dumps(here, sort_keys=True)
    names = {path.name for path in (tmp_path / "cache").glob("*.json")}
    assert names == {path.name for path in (tmp_path / "far").glob("*.json")}


def test_a_removed_node_loses_nothing(cluster: Any, config: ProtectConfig) -> None:  # noqa: ANN401
    """Last, for the cluster has one node less afterwards."""

    def remove() -> bool:
        for node in busy_workers(cluster).values():
            cluster.remove_node(node, allow_graceful=False)
            return True
        return False

    protect_with_death(config, remove)
    assert tree(config.release) == tree(config.release.with_name("local"))
