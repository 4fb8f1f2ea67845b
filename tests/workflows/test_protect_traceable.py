"""``protect --traceable``: codes of a key on top of trained weights, within the bound; found by ``mtlue trace``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtlue_cli as mtlue
from mtlue_cli.choices import TRACE_LEVELS, EngineName, TaskKind, Unlabelled
from mtlue_cli.commands.app import with_bare_options
from mtlue_cli.errors import InputError
from mtlue_cli.generator import shipped
from mtlue_cli.generator.closed_form import closed_form
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.folder import find_images
from mtlue_cli.keys import VARIABLE, Key
from mtlue_cli.release.records import read_run
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from mtlue_cli.workflows.trace.config import CopyConfig, JudgeConfig, ProbesConfig
from mtlue_cli.workflows.trace.copy import trace_copy
from mtlue_cli.workflows.trace.judge import TraceVerdict, judge_model
from mtlue_cli.workflows.trace.probes import make_probes
from tests.engines.fake_ray import fake_cluster
from tests.protect_runs import Notes, interrupt
from tests.small_set import TASKS, write_checkpoint, write_images
from tests.workflows.trace.linear_victim import CLASSES, train_victim, write_answers, write_smooth

DIGITS = "abba" * 16
KEY = Key(bytes.fromhex(DIGITS))
LEVELS = 5


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    write_checkpoint(tmp_path / "weights" / "default.safetensors", None)
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setenv(VARIABLE, DIGITS)
    own = write_checkpoint(tmp_path / "own.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(own), traceable=LEVELS, device="cpu")


def run(config: ProtectConfig, **changes: Any) -> ProtectResult:  # noqa: ANN401 - any field of the config
    return protect_folder(replace(config, **changes), SilentProgress())


def pictures(release: Path) -> dict[str, bytes]:
    return {name: (release / name).read_bytes() for name in find_images(release)}


def test_codes_and_weights_share_the_bound(config: ProtectConfig) -> None:
    own = Generator.load(str(config.weights), device="cpu")
    codes = closed_form(shipped.find_weights("default"), KEY, TASKS, side=own.card.image_size)
    assert codes is not None
    both = Generator.load(str(config.weights), key=KEY, tasks=TASKS, traceable=LEVELS, device="cpu")
    squares = [np.full((3, 16, 16), value, np.uint8) for value in (60, 180)]
    labels = {"colour": [0, 2], "round": [1, -1]}
    parts = zip(own.perturb(squares, labels, 6), codes(squares, labels, LEVELS / 8), strict=True)
    found = both.perturb(squares, labels, 6)
    for (trained, drawn), one in zip(parts, found, strict=True):
        assert 0.5 * LEVELS < np.abs(drawn).max() <= LEVELS
        assert np.abs(trained + drawn).max() > 6
        np.testing.assert_array_equal(one, (trained + drawn).clip(-6, 6))
    with pytest.raises(InputError, match="beyond the bound"):
        both.perturb(squares, labels, LEVELS - 1)
    with pytest.raises(InputError, match="need a key"):
        Generator.load(str(config.weights), tasks=TASKS, traceable=LEVELS)


def test_it_is_recorded_and_continued_with_the_same_levels_alone(config: ProtectConfig, tmp_path: Path) -> None:
    whole = run(config, out=tmp_path / "whole")
    assert (whole.traceable, whole.key_fingerprint) == (LEVELS, KEY.fingerprint)
    assert any("grey images learned 0.81" in warning for warning in whole.warnings)
    assert whole.rows()["traceable"] == "codes of 5/255"
    assert whole.max_change is not None
    assert 4 < whole.max_change <= 8
    report = inspect_release(whole.release, SilentProgress(), config.images, 1)
    assert report.faults == ()
    assert report.to_json()["traceable"] == LEVELS
    assert report.rows()["traceable"] == "codes of 5/255"
    part = read_run(whole.release).traceable
    assert part is not None
    assert part.weights_sha256 == Generator.load("default", key=KEY, tasks=TASKS).card.digest

    cut = replace(config, out=tmp_path / "cut")
    interrupt(cut, 3)
    assert run(cut).kept == 3
    assert pictures(cut.release) == pictures(whole.release)
    for levels, other in ((None, "no"), (2, "2/255")):
        with pytest.raises(InputError, match="other settings") as caught:
            run(cut, traceable=levels)
        assert any(fault.startswith("traceable: the release has 5/255") for fault in caught.value.faults)
        assert any(other in fault for fault in caught.value.faults)


def test_workers_of_a_cluster_write_the_same(config: ProtectConfig, tmp_path: Path) -> None:
    config = replace(config, unlabelled=Unlabelled.PROTECT)
    lines = config.labels.read_text().splitlines()
    config.labels.write_text("\n".join(lines[:-2]) + "\n")  # the last photos get random classes, which the key draws
    here = run(config, out=tmp_path / "here")
    with fake_cluster():
        there = run(config, out=tmp_path / "there", engine=EngineName.RAY)
    assert there.protected == len(lines) - 1
    assert pictures(there.release) == pictures(here.release)


def test_what_cannot_be_traceable_is_refused_or_said(config: ProtectConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is beyond the bound"):
        run(config, traceable=9)
    with pytest.raises(InputError, match="expected"):
        run(config, traceable=0)
    notes = Notes()
    universal = replace(config, weights="default", out=tmp_path / "universal")
    protect_folder(universal, notes)
    assert any("--traceable changes nothing" in line for line in notes.lines)
    assert read_run(universal.release).traceable is None
    assert run(universal, traceable=None).kept > 0


def test_levels_may_be_left_out_on_the_command_line() -> None:
    assert with_bare_options(["--traceable", "photos"]) == ["--traceable", str(TRACE_LEVELS), "photos"]
    assert with_bare_options(["--traceable", "4", "photos"]) == ["--traceable", "4", "photos"]


def test_a_victim_is_found_and_copies_are_measured(config: ProtectConfig, tmp_path: Path) -> None:
    photos = tmp_path / "smooth"
    labels = write_smooth(photos, 240, 1)
    write_smooth(tmp_path / "clean", 40, 2)
    tasks = TaskSet(tuple(Task(name, TaskKind.CATEGORICAL, classes) for name, classes in CLASSES.items()))
    weights = write_checkpoint(tmp_path / "learned.safetensors", tasks)
    out = tmp_path / "release"
    made = run(config, images=photos, labels=labels, weights=str(weights), out=out, traceable=6)
    probes = ProbesConfig(tmp_path / "clean", made.release, tmp_path / "probes", queries=200, seed="5" * 64)
    make_probes(probes, SilentProgress())
    write_answers(probes.out, train_victim(made.release), tmp_path / "answers.csv")
    judge = JudgeConfig(probes.out, answers=tmp_path / "answers.csv")
    assert judge_model(judge, SilentProgress()).verdict is TraceVerdict.TRAINED
    write_answers(probes.out, train_victim(photos), tmp_path / "answers.csv")
    assert judge_model(judge, SilentProgress()).verdict is not TraceVerdict.TRAINED

    copies = mtlue.trace.copy(made.release / "000.png", release=made.release, weights=weights, device="cpu")
    assert copies.share is not None
    assert 0.9 < copies.share.mean < 1.1
    key = tmp_path / "other.key"
    key.write_text("cddc" * 16)
    key.chmod(0o600)
    with pytest.raises(InputError, match="is not that of"):
        trace_copy(CopyConfig(made.release / "000.png", made.release, weights=weights, key=key), SilentProgress())
