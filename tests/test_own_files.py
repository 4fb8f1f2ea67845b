"""What stands in place of a file of the program's own is refused with a reason, neither waited for nor read whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlue_cli.choices import BackboneName, ImageFormat
from mtlue_cli.commands.config_file import values_of_files
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import read_regular
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.images.palettes import read_palette
from mtlue_cli.keys import Key
from mtlue_cli.release.packed import unpack
from mtlue_cli.release.records import (
    FOLDER,
    MANIFEST_NAME,
    PLANNED_NAME,
    RUN_NAME,
    SHARDS_NAME,
    RunRecord,
    read_manifest,
    read_planned,
    read_run,
    write_manifest,
    write_run,
)
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.presets.preset import load_preset
from mtlue_cli.training.pretrained import load_start
from mtlue_cli.training.runtime import load_state
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.train.run import StateFolder

DEEP = "[" * 100_000
HUGE = 1 << 40
"""Bytes of a file of zeros that takes no room on the disk."""


def _plan(path: Path) -> None:
    StateFolder(path.parent, "identity", False, SilentProgress()).open()


def _nothing(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A reader that takes what is damaged for absent."""

    def refuse(path: Path) -> None:
        assert not read(path)
        raise InputError("nothing was read")

    return refuse


OWN: dict[str, Callable[[Path], object]] = {
    f"{FOLDER}/{RUN_NAME}": lambda path: read_run(path.parents[1]),
    f"{FOLDER}/{MANIFEST_NAME}": lambda path: read_manifest(path.parents[1]),
    f"{FOLDER}/{PLANNED_NAME}": _nothing(lambda path: read_planned(path.parents[1])),
    f"{FOLDER}/{SHARDS_NAME}": lambda path: unpack(path.parents[1], path.parents[1] / "plain"),
    "beside/.mtlue": lambda path: read_run(path.parent),
    "key.json": _nothing(lambda path: ResultCache(path.parent, Key(bytes(range(32)))).load("key")),
    "generator.safetensors": load_state,
    "start.safetensors": lambda path: load_start(path, BackboneName.SMALL),
    "weights.safetensors": read_card,
    "plan.json": _plan,
    "labels.csv": read_label_file,
    "labels.jsonl": read_label_file,
    "labels.json": read_label_file,
    "labels.parquet": read_label_file,
    "mtlue.toml": lambda path: values_of_files("protect", [], path),
    "preset.toml": lambda path: load_preset(str(path)),
    "palette.json": read_palette,
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _deep(path: Path) -> None:
    path.write_text(DEEP + "\n")


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, HUGE)


@pytest.mark.parametrize("make", [_fifo, _endless, _deep, _huge])
@pytest.mark.parametrize("name", OWN)
def test_a_file_of_another_kind_or_size_is_refused(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    write_run(tmp_path, RunRecord(8, "faces", "ab" * 32, ("age",), ImageFormat.PNG, False))
    write_manifest(tmp_path, [])
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(MtlueError) as caught:
        OWN[name](path)
    assert len(str(caught.value)) < 500


def test_the_size_is_looked_at_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="has 5 bytes, expected at most 4"):
        read_regular(tmp_path / "a", 4)


@pytest.mark.parametrize(
    "plan", ["[]", "3", '"text"', "null", '{"steps": -1}', '{"steps": 0}', '{"steps": "9"}', '{"steps": true}']
)
def test_an_odd_plan_of_a_training_is_refused(plan: str, tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state", "identity", False, SilentProgress())
    folder.open()
    text = plan.replace("{", f'{{"fingerprint": "{folder.fingerprint}", ') if plan.startswith("{") else plan
    (tmp_path / "state" / "plan.json").write_text(text)
    with pytest.raises(InputError, match=r"is damaged: steps is|holds an unfinished run with other settings"):
        StateFolder(tmp_path / "state", "identity", False, SilentProgress()).open()
