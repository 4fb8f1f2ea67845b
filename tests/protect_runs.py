"""Runs of ``protect`` that are watched or interrupted, shared by the tests of several layers."""

from collections import Counter
from dataclasses import replace

import pytest

from mtlue_cli.release.records import Record
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder


class Notes(SilentProgress):
    """Keeps the messages to the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        """Keep it."""
        self.lines.append(message)


def interrupt(config: ProtectConfig, after: int) -> None:
    """A run that is killed after a number of records."""
    original, done = Release.add, Counter[str]()

    def add(release: Release, record: Record) -> None:
        original(release, record)
        done["records"] += 1
        if done["records"] == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "add", add)
        with pytest.raises(KeyboardInterrupt):
            protect_folder(replace(config, workers=1), SilentProgress())
