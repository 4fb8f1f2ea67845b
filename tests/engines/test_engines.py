"""Engines, on a stand-in for Ray; ``test_ray_cluster.py`` has the same on real clusters."""

import errno
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtlue_cli.choices import BackboneName, EngineName, ExitCode, Unlabelled
from mtlue_cli.commands.app import app
from mtlue_cli.engines import ray as ray_engine
from mtlue_cli.engines.engine import engine_of
from mtlue_cli.errors import DivergedError, InputError, MtlueError
from mtlue_cli.keys import VARIABLE
from mtlue_cli.release.lent import Lent
from mtlue_cli.release.records import FOLDER, LENT_NAME
from mtlue_cli.release.release import Release
from mtlue_cli.verification.conditions import Condition, Material
from mtlue_cli.verification.experiment import Laboratory
from mtlue_cli.verification.victim_result import VictimResult
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.photos import PhotoSteps
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.run import verify_release
from tests.engines.fake_ray import RayError, fake_cluster
from tests.protect_runs import Notes, interrupt
from tests.small_set import write_checkpoint, write_images
from tests.verification.made_release import make_release, make_set

pytestmark = pytest.mark.usefixtures("tiny_small")

KEY = "abba" * 16


@contextmanager
def doubling() -> Iterator[Callable[[int, Callable[[int], None]], None]]:
    yield lambda unit, done: done(2 * unit)


@contextmanager
def refusing() -> Iterator[Callable[[int, Callable[[int], None]], None]]:
    def work(unit: int, _: object) -> None:
        raise InputError(f"not {unit}", ["a fault"], "do something else")

    yield work


@contextmanager
def dying() -> Iterator[Callable[[int, Callable[[int], None]], None]]:
    def work(*_: object) -> None:
        raise RayError("out of memory")

    yield work


class Failing(AbstractContextManager[None]):
    def __enter__(self) -> None:
        raise MtlueError("cannot start")

    def __exit__(self, *_: object) -> None:
        """Never left."""


def results(count: int = 20, start: Any = doubling, **cluster: Any) -> list[int]:  # noqa: ANN401 - of any work
    found: list[int] = []
    with fake_cluster(**cluster), engine_of(EngineName.RAY, None, "auto", 1) as engine:
        engine.run(start, range(count), found.append)
    return sorted(found)


def test_every_unit_is_run_once_on_either_engine() -> None:
    found: list[int] = []
    with engine_of(EngineName.LOCAL, None, "cpu", 1) as engine:
        engine.run(doubling, range(20), found.append)
    assert found == results() == list(range(0, 40, 2))
    assert results(0) == []


@pytest.mark.parametrize("dies_at", [{1}, {1, 2}, {5}, {5, 6, 7}, {22}])
def test_workers_that_die_lose_nothing(dies_at: set[int]) -> None:
    assert results(dies_at=frozenset(dies_at)) == list(range(0, 40, 2))


def test_workers_that_always_die_end_the_run() -> None:
    with pytest.raises(MtlueError, match=r"while they start: .*process has exited"):
        results(dies_at=frozenset(range(1, 100)))
    with pytest.raises(MtlueError, match=r"4 workers .* died in turn at 0: out of memory"):
        results(1, dying)


def test_errors_of_the_work_arrive_whole() -> None:
    with pytest.raises(InputError, match="not 0") as caught:
        results(1, refusing)
    assert (caught.value.faults, caught.value.hint) == (("a fault",), "do something else")
    with pytest.raises(MtlueError, match="cannot start"):
        results(1, Failing)


def test_units_are_drawn_as_workers_come_free() -> None:
    drawn, done = [0], [0]

    def units() -> Iterator[int]:
        for unit in range(50):
            drawn[0] += 1
            assert drawn[0] - done[0] <= 2 * 3
            yield unit

    def count(_: int) -> None:
        done[0] += 1

    with fake_cluster(3) as fake, engine_of(EngineName.RAY, None, "auto", 1) as engine:
        engine.run(doubling, units(), count)
        assert fake.most_pending == 3
        engine.run(doubling, range(3), count)
        assert fake.killed == 0  # the workers stay for the same work
        assert len(fake.options) == 3
        engine.run(refusing, (), count)
        assert fake.killed == 3
    assert done[0] == 53


def test_other_versions_on_a_worker_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter([{"mtlue": "1", "pillow": "11"}, {"mtlue": "1", "pillow": "12"}])
    monkeypatch.setattr(ray_engine, "package_versions", lambda: next(versions))
    with pytest.raises(MtlueError, match="has pillow 12, not 11; install the same versions"):
        results(1)


def test_devices_of_a_cluster() -> None:
    for device, said in (("cuda", "has no GPU"), ("mps", "expected auto, cpu or cuda")):
        with fake_cluster(), pytest.raises(InputError, match=said), engine_of(EngineName.RAY, None, device, 1):
            pass
    with fake_cluster(0), pytest.raises(InputError, match="has no CPU"), engine_of(EngineName.RAY, None, "cpu", 1):
        pass


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos", 11)
    (tmp_path / "photos" / "photo5.png").write_bytes(b"damaged")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, tmp_path / "local", weights=str(weights), device="cpu", workers=2)


def on_ray(config: ProtectConfig, **cluster: Any) -> ProtectResult:  # noqa: ANN401 - of the fake
    with fake_cluster(**cluster):
        return protect_folder(replace(config, engine=EngineName.RAY), SilentProgress())


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("keyed", [False, True])
def test_a_release_is_the_same_on_either_engine(
    config: ProtectConfig, tmp_path: Path, keyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    if keyed:
        weights = write_checkpoint(tmp_path / "universal.safetensors", None)
        config = replace(config, weights=str(weights), unlabelled=Unlabelled.PROTECT)
        (tmp_path / "photos" / "photo7.png").rename(tmp_path / "photos" / "unlabelled.png")
        lines = config.labels.read_text().splitlines(keepends=True)
        config.labels.write_text("".join(line for line in lines if not line.startswith("photo7")))
    local = protect_folder(config, SilentProgress())
    for name, cpus, dies_at in (("one", 1, frozenset[int]()), ("five", 5, frozenset({4, 9}))):
        far = on_ray(replace(config, out=tmp_path / name), cpus=cpus, dies_at=dies_at)
        assert tree(tmp_path / name) == tree(tmp_path / "local")
        assert (far.protected, far.quarantine, far.exit_code) == (local.protected, local.quarantine, local.exit_code)
        assert far.device == f"cpu (Ray, {cpus} worker{'s' if cpus > 1 else ''})"
    again = on_ray(replace(config, out=tmp_path / "one"))
    assert (again.protected, again.kept) == (0, local.protected)
    assert tree(tmp_path / "one") == tree(tmp_path / "local")


def test_an_interrupted_run_is_resumed_on_the_other_engine(config: ProtectConfig, tmp_path: Path) -> None:
    protect_folder(config, SilentProgress())
    for name, first, second in (("a", EngineName.RAY, EngineName.LOCAL), ("b", EngineName.LOCAL, EngineName.RAY)):
        run = replace(config, out=tmp_path / name)
        with fake_cluster():
            interrupt(replace(run, engine=first), 4)
            assert not (run.release / FOLDER / LENT_NAME).exists()
            assert protect_folder(replace(run, engine=second), SilentProgress()).kept >= 3
        assert tree(run.release) == tree(config.release)


def test_the_key_does_not_travel(config: ProtectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    sent: list[bytes] = []
    original = pickle.dumps

    def watched(value: object, *rest: Any, **options: Any) -> bytes:  # noqa: ANN401 - those of pickle
        sent.append(original(value, *rest, **options))
        return sent[-1]

    monkeypatch.setattr("tests.engines.fake_ray.pickle.dumps", watched)
    weights = write_checkpoint(tmp_path / "universal.safetensors", None)
    on_ray(replace(config, weights=str(weights)))
    assert len(sent) > 10
    assert not any(bytes.fromhex(KEY) in each or KEY.encode() in each for each in sent)


def test_a_worker_writes_only_while_its_run_lasts(config: ProtectConfig) -> None:
    lent: list[Lent] = []
    lend = Release.lend

    def remember(release: Release) -> Lent:
        lent.append(lend(release))
        return lent[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "lend", remember)
        on_ray(config)
    assert not lent[0].is_valid()
    with pytest.raises(MtlueError, match="is not the release that the run has open"), lent[0].open():
        pass
    release = Release(config.release)
    found = release.look(frozenset())
    assert found.manifest is not None
    with release.open(found.manifest.run, release.resume(found, found.manifest.run, None, overwrite=True)):
        second = release.lend()
        with second.open() as opened:
            assert (handle := opened.parent_of(config.release / "sub" / "x.png", make=True)) is None or handle > 0
            (config.release / FOLDER / LENT_NAME).write_text("another run")
            with pytest.raises(OSError, match="is over"):
                opened.parent_of(config.release / "sub" / "x.png", make=True)


def test_what_dead_workers_half_wrote_is_removed(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    lend = Release.lend

    def littered(release: Release) -> Lent:
        (release.folder / ".0f.12.tmp").write_bytes(b"half")
        return lend(release)

    monkeypatch.setattr(Release, "lend", littered)
    release = on_ray(config).release
    assert not list(release.rglob("*.tmp"))
    assert not inspect_release(release, SilentProgress(), None, 1).faults


@pytest.mark.parametrize("engine", EngineName)
def test_a_disk_that_refuses_is_said_on_either_engine(
    config: ProtectConfig, engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "a.png")

    monkeypatch.setattr(PhotoSteps, "quarantine", refused)
    with fake_cluster(), pytest.raises(MtlueError, match=r"a\.png cannot be written: .*make the file system writable"):
        protect_folder(replace(config, engine=engine), SilentProgress())


def test_where_it_runs_is_said(config: ProtectConfig) -> None:
    notes = Notes()
    with fake_cluster():
        protect_folder(replace(config, engine=EngineName.RAY), notes)
    assert "device: cpu (Ray, 2 workers)" in notes.lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "ray"], "pip install 'mtlue[ray]'"),
        (["--ray-address", "auto"], "--ray-address needs --engine ray"),
    ],
)
def test_wrong_usage_is_found_before_work_starts(
    config: ProtectConfig, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlue_cli.engines.engine.find_spec", lambda _: None)
    common = ["--labels", str(config.labels), "--weights", str(config.weights)]
    for command in ("protect", "verify"):
        result = CliRunner().invoke(app, [command, str(config.images), *common, *words])
        assert result.exit_code == ExitCode.INPUT
        assert said in result.output


def verification(folder: Path) -> VerifyConfig:
    made = make_set(folder / "clean", 120)
    make_release(made, folder / "release")
    return VerifyConfig(
        made.images,
        made.labels,
        folder / "release",
        backbones=(BackboneName.SMALL,),
        epochs=4,
        size=16,
        batch_size=10,
        learning_rate=1e-2,
        probes=False,
        device="cpu",
        workers=1,
    )


def test_verify_takes_and_keeps_finished_victims_on_either_engine(tmp_path: Path) -> None:
    config = replace(verification(tmp_path), engine=EngineName.RAY, control=False, cache=tmp_path / "cache")
    notes = Notes()
    with fake_cluster() as fake:
        first = verify_release(config, SilentProgress()).to_json()
        assert fake.calls == 1 + 2 * 2  # a worker starts, tells keys, trains
        again = verify_release(config, notes).to_json()
        assert fake.calls == 1 + 2 * 2 + 1 + 2
    here = verify_release(replace(config, engine=EngineName.LOCAL), SilentProgress()).to_json()
    assert [row["name"] for row in first["conditions"]] == ["small: clean images", "small"]
    assert not any(row["cached"] for row in first["conditions"])
    assert all(row["cached"] for row in (*again["conditions"], *here["conditions"]))
    assert sum("taken from the cache" in line for line in notes.lines) == 2
    assert again["digest"] == here["digest"] == first["digest"]
    assert here["settings"] == first["settings"]


def test_a_victim_that_a_worker_cannot_train_is_left_out(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, fake_cluster():
        patch.setattr(Laboratory, "run", diverge_on_noise(Laboratory.run))
        result = verify_release(replace(verification(tmp_path), engine=EngineName.RAY), SilentProgress())
    assert [left.name for left in result.not_tested if "diverged" in left.reason] == ["small: noise"]
    assert [row.name for row in result.conditions] == ["small: clean images", "small"]


def diverge_on_noise(run: Callable[..., VictimResult]) -> Callable[..., VictimResult]:
    def either(lab: Laboratory, condition: Condition, *rest: Any, **options: Any) -> VictimResult:  # noqa: ANN401
        if condition.material is Material.NOISE:
            raise DivergedError("its training diverged")
        return run(lab, condition, *rest, **options)

    return either
