"""How many modules one photo passes on its way through ``protect``."""

import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from mtlue_cli.release.records import Record
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.photos import PhotoSteps
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import TASKS, write_checkpoint, write_images

PHOTOS = 20
MOST = 25


@pytest.mark.parametrize("weights", ["learned", "universal"])
def test_one_photo_runs_few_modules(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with a function that runs from the reading of the last photo to its record, in any thread."""
    monkeypatch.setenv("MTLUE_KEY", "abba" * 16)
    labels = write_images(tmp_path / "photos", PHOTOS)
    checkpoint = write_checkpoint(tmp_path / "weights.safetensors", TASKS if weights == "learned" else None)
    config = ProtectConfig(tmp_path / "photos", labels, weights=str(checkpoint), device="cpu", workers=1)
    found: set[str] = set()
    recorded: set[str] = set()
    watching = False
    read, add = PhotoSteps.read, Release.add

    def last_is_read(steps: PhotoSteps, row: int) -> object:
        nonlocal watching
        watching = watching or row == PHOTOS - 1
        return read(steps, row)

    def is_recorded(release: Release, record: Record) -> None:
        nonlocal watching
        add(release, record)
        recorded.add(record.source)
        watching = watching and len(recorded) < PHOTOS

    def on_call(frame: FrameType, event: str, _: object) -> None:
        name = str(frame.f_globals.get("__name__"))
        if watching and event == "call" and name.startswith("mtlue_cli."):
            found.add(name.removeprefix("mtlue_cli."))

    monkeypatch.setattr(PhotoSteps, "read", last_is_read)
    monkeypatch.setattr(Release, "add", is_recorded)
    threading.setprofile(on_call)
    sys.setprofile(on_call)
    try:
        protect_folder(config, SilentProgress())
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    print(f"{len(found)} modules run for one photo with {weights} weights: {', '.join(sorted(found))}")
    assert {"images.decode", "perturbation.bound", "images.encode", "release.records"} <= found
    assert len(found) <= MOST
