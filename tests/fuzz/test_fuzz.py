"""The harness finds what it is for; and a few files of every kind are answered as they should be."""

import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from tests.fuzz import __main__ as fuzz
from tests.fuzz.kinds import KINDS, Case, Kind, cases
from tests.fuzz.mutations import PNG, mutated, with_other_value
from tests.images.pictures import encoded

FEW = 40


@pytest.mark.parametrize("kind", fuzz.NAMES)
def test_hostile_files_are_refused_or_accepted(kind: str, tmp_path: Path) -> None:
    outcomes = [(*fuzz.tried(kind, case, tmp_path), case) for case in islice(cases(KINDS[kind], tmp_path, 1), FEW)]
    assert [(fault, case) for outcome, fault, case in outcomes if outcome == "unexpected"] == []
    assert "refused" in {outcome for outcome, _, _ in outcomes}


@pytest.mark.parametrize("kind", fuzz.NAMES)
def test_sound_files_are_accepted_but_for_labels_that_are_none(kind: str, tmp_path: Path) -> None:
    corpus = KINDS[kind].corpus(tmp_path, 0)
    accepted = [fuzz.tried(kind, case, tmp_path)[0] == "accepted" for case in corpus]
    assert sum(accepted) > len(corpus) / 2


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    first, again, other = ([*islice(cases(KINDS["maps"], tmp_path, seed), 50)] for seed in (3, 3, 4))
    assert first == again != other


def test_changes_reach_chunks_and_values() -> None:
    content = encoded(Image.new("RGB", (8, 8)))
    changed = {mutated(content, Random(seed), [content]) for seed in range(200)}
    assert len(changed) > 150
    assert len({one[:33] for one in changed}) > 30
    assert sum(one.startswith(PNG) for one in changed) > 100
    made = {repr(with_other_value({"a": [1, {"b": 2}], "c": "d"}, Random(seed))) for seed in range(200)}
    assert len(made) > 60


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("time.sleep(600)", "takes more than 0.2 s"),
        ("sys.exit(3)", "the process ended with 3"),
        ("os.kill(os.getpid(), 11)", "the process ended with -11"),
        ("x = bytearray(b'x') * (300 << 20); time.sleep(600)", "takes more than 200 MiB"),
        ("", None),
    ],
)
def test_a_process_that_hangs_ends_or_grows_is_found(body: str, fault: str | None) -> None:
    source = f"import os, sys, time; print('start\\nrefused \\naccepted \\nunexpected file: why', flush=True); {body}"
    tally = fuzz.Tally()
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        seconds = 0.2 if fault == "takes more than 0.2 s" else 500.0  # a busy machine is no reason to end the others
        found = fuzz._watch(process, tally, time.monotonic() + 500, fuzz.Limits(seconds, 200))
        process.kill()
    assert found == fault
    assert tally.counts == {"refused": 1, "accepted": 1, "unexpected": 1}
    assert tally.findings == ["file: why"]


def test_an_unexpected_error_is_counted_and_its_file_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attempt(case: Case, folder: Path) -> bool:
        del folder
        if case.content == b"bad":
            raise ZeroDivisionError("a defect")
        return case.content == b"good"

    def change(case: Case, random: Random, others: Sequence[Case]) -> Case:
        del case, random
        return next(turns, None) or others[0]

    corpus = [Case("file.x", content) for content in (b"good", b"bad", b"other")]
    turns = iter(corpus)
    monkeypatch.setitem(KINDS, "maps", Kind(lambda *_: corpus, attempt, change))
    monkeypatch.setattr("tests.fuzz.kinds.ROUND", 3)
    monkeypatch.setattr("tests.fuzz.kinds.itertools.count", lambda number: [number])
    fuzz.work("maps", 0, tmp_path, fuzz.Findings(tmp_path / "saved"), fuzz.Limits(memory=1 << 20))
    lines = capsys.readouterr().out.splitlines()
    (saved,) = (tmp_path / "saved").iterdir()
    assert saved.read_bytes() == b"bad"
    assert [line.split()[0] for line in lines] == ["start", "accepted", "unexpected", "refused"]
    assert f"{saved}: ZeroDivisionError: 'a defect'" in lines[2]
    with pytest.raises(ZeroDivisionError):
        fuzz.replay(saved)
