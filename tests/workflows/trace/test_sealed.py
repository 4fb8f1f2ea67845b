"""Sealed answers whose design is not that of ``mtlue trace probes`` are refused."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec import structs

from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.workflows.trace.sealed import COMMITMENT, Probe, SealedAnswers, commitment_of, opened, sealed_path

ZEROS = "0" * 64


@dataclass
class Folder:
    """A folder of probes to be."""

    path: Path

    def write(self, classes: tuple[str, ...], stages: int | None = None) -> None:
        """Probes of one task, whose stage number ``i`` tests the code of ``classes[i]``, with one decoy."""
        self.path.mkdir()
        probes: list[Probe] = []
        for stage, shown in enumerate(classes):
            for arm in (0, 1):
                name = f"{stage}{arm}.png"
                (self.path / name).write_text(name)
                digest = file_digest(self.path / name)
                probes.append(Probe(name, digest, "0.jpg", stage, arm, 8, {"age": shown}, ("age",)))
        sealed = SealedAnswers(
            ZEROS, "", ZEROS, "f", ZEROS, 8, {"age": ("a", "b", "c")}, stages or len(classes), 2, 1, tuple(probes)
        )
        sealed_path(self.path).write_bytes(sealed.content())
        (self.path / COMMITMENT).write_bytes(commitment_of(sealed, sealed.content()).content())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "probes")


def test_a_code_that_several_stages_test_is_refused(folder: Folder) -> None:
    folder.write(("a", "b", "a"))
    with pytest.raises(InputError) as caught:
        opened(folder.path)
    assert caught.value.faults == ("stage 3 tests the code of age 'a', which an earlier one has shown",)


def test_codes_of_their_own_are_accepted(folder: Folder) -> None:
    folder.write(("a", "b"))
    assert structs.asdict(opened(folder.path)[0])["stages"] == 2


def test_more_stages_than_probes_are_refused_at_once(folder: Folder) -> None:
    folder.write(("a",), stages=10**12)
    with pytest.raises(InputError, match="are not those that were made"):
        opened(folder.path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_a_fifo_in_place_of_the_commitment_is_not_waited_for(folder: Folder) -> None:
    folder.write(("a",))
    (folder.path / COMMITMENT).unlink()
    os.mkfifo(folder.path / COMMITMENT)
    with pytest.raises(InputError, match="FIFO"):
        opened(folder.path)
