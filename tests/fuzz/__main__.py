"""Attack the program with hostile files: ``python -m tests.fuzz --minutes 2``.

Each kind of file gets an equal part of the time, and a process of its own, which is ended where a file takes too long
or too much memory. ``--replay FILE`` tries a saved file again.

Prints for each kind how many files were tried, refused with a reason, accepted, and answered in an unexpected way: by
an exception that is none of the program's own, a crash, a hang, or too much memory. Exit code 1 if there is any; the
files that did it are saved.
"""

import argparse
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.kinds import Case

NAMES = ("images", "labels", "maps", "checkpoints", "records", "seals", "cache", "shards")
OUTCOMES = ("refused", "accepted", "unexpected")
MOST_SECONDS = 10.0
"""For one file."""
MOST_MEMORY = 1536
"""MiB for the whole process, of which libraries take a third."""
MOST_PIXELS = 1_000_000
"""Of a photo or a map; larger ones are refused."""

MOST_FINDINGS = 20
"""Of a kind; then it is given up."""
START_SECONDS = 300.0
"""For loading libraries and making sound files."""
START = "start"
"""What a process says before it makes sound files."""


@dataclass(frozen=True)
class Limits:
    """What one file may take: seconds, and MiB of the whole process."""

    seconds: float = MOST_SECONDS
    memory: int = MOST_MEMORY


@dataclass
class Tally:
    """How many files of a kind had which outcome; the findings in words."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


class Findings:
    """A folder of the files that did it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, kind: str, name: str, content: bytes, fault: str) -> str:
        """Keep a file; returns a line about it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self.folder.iterdir()))
        path = self.folder / f"{kind}-{number}-{Path(name).name}"
        path.write_bytes(content)
        return f"{path}: {fault}"


def attack(kind: str, seconds: float, seed: int, findings: Findings, limits: Limits = Limits()) -> Tally:
    """Try files of a kind for so long."""
    tally = Tally()
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="mtlue-fuzz-") as folder:
        for started in count():  # another process goes on with other files
            if time.monotonic() >= deadline or len(tally.findings) >= MOST_FINDINGS:
                break
            words = [
                "--worker",
                kind,
                "--seed",
                str(seed + 10**6 * started),
                "--saved",
                str(findings.folder),
            ]
            words += ["--folder", folder, "--memory", str(limits.memory)]
            with subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz", *words],
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            ) as process:
                fault = _watch(process, tally, deadline, limits)
                process.kill()
            if fault is not None:
                name, content = _current(Path(folder))
                tally.counts["unexpected"] += 1
                tally.findings.append(findings.save(kind, name, content, fault))
    return tally


def _watch(process: "subprocess.Popen[bytes]", tally: Tally, deadline: float, limits: Limits) -> str | None:
    """Count what a process says of its files, until the time is over; what is wrong with the process, or None."""
    assert process.stdout is not None
    stream, begun = process.stdout.fileno(), b""
    last, allowed = time.monotonic(), START_SECONDS
    while time.monotonic() < deadline and len(tally.findings) < MOST_FINDINGS:
        if not select.select([stream], [], [], 0.2)[0]:
            if _memory(process.pid) > limits.memory:
                return f"takes more than {limits.memory} MiB"
            if time.monotonic() - last > allowed:
                return f"takes more than {allowed:g} s"
            continue
        said = os.read(stream, 1 << 16)
        if not said:
            code = process.wait()
            return None if code == 0 else f"the process ended with {code}"
        *lines, begun = (begun + said).split(b"\n")
        for line in lines:
            outcome, _, fault = line.decode(errors="replace").partition(" ")
            last, allowed = time.monotonic(), START_SECONDS if outcome == START else limits.seconds
            if outcome in OUTCOMES:
                tally.counts[outcome] += 1
            if fault:
                tally.findings.append(fault)
    return None


def _memory(process: int) -> int:
    """MiB of a process at present; 0 where that is not known."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize() >> 20


def _current(folder: Path) -> tuple[str, bytes]:
    """Name and content of the file that was tried last."""
    try:
        name, _, content = (folder / "current").read_bytes().partition(b"\n")
    except OSError:
        return "none", b""
    return name.decode(), content


def work(kind: str, seed: int, folder: Path, findings: Findings, limits: Limits) -> None:
    """Try one file after the other, and say on standard output what came of each."""
    from tests.fuzz.kinds import KINDS, cases

    place = folder / kind
    place.mkdir(exist_ok=True)
    for case in cases(KINDS[kind], place, seed, lambda: print(START, flush=True)):
        (folder / "current").write_bytes(case.name.encode() + b"\n" + case.content)
        outcome, fault = tried(kind, case, place)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        too_much = memory > limits.memory
        if too_much:
            outcome, fault = "unexpected", f"took {memory} MiB"
        line = findings.save(kind, case.name, case.content, fault) if fault else ""
        print(outcome, line.replace("\n", " "), flush=True)
        if too_much:  # for good: the figure is the largest so far
            return


def tried(kind: str, case: "Case", place: Path) -> tuple[str, str]:
    """The outcome of a file, and what is unexpected about it."""
    from mtlue_cli.budget import Budget, limited_to
    from mtlue_cli.commands.decoders import reading_photos
    from tests.fuzz.kinds import KINDS

    try:
        with limited_to(Budget(max_pixels=MOST_PIXELS)), reading_photos(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ("accepted" if KINDS[kind].attempt(case, place) else "refused"), ""
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "unexpected", f"{type(error).__name__}: {str(error)[:200]!r} in {where.filename}, line {where.lineno}"


def replay(path: Path) -> int:
    """Try a saved file again, with the traceback of what is unexpected."""
    from mtlue_cli.budget import Budget, limited_to
    from mtlue_cli.commands.decoders import reading_photos
    from tests.fuzz.kinds import KINDS, Case

    kind, _, name = path.name.split("-", 2)
    with tempfile.TemporaryDirectory(prefix="mtlue-fuzz-") as folder:
        place = Path(folder)
        names = {Path(case.name).name: case.name for case in KINDS[kind].corpus(place, 0)}
        case = Case(names.get(name, name), path.read_bytes())
        with limited_to(Budget(max_pixels=MOST_PIXELS)), reading_photos():
            accepted = KINDS[kind].attempt(case, place)
    print("accepted" if accepted else "refused")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="time for all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="other files for another seed")
    parser.add_argument("--kind", choices=NAMES, action="append", help="only this kind; may be repeated")
    parser.add_argument("--memory", type=int, default=MOST_MEMORY, help="MiB that a process may take")
    parser.add_argument("--saved", type=Path, default=Path("fuzz-findings"), help="folder for files that did it")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try a saved file again")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    findings, limits = Findings(arguments.saved), Limits(memory=arguments.memory)
    if arguments.replay is not None:
        return replay(arguments.replay)
    if arguments.worker is not None:
        work(arguments.worker, arguments.seed, arguments.folder, findings, limits)
        return 0
    kinds = arguments.kind or NAMES
    unexpected: list[str] = []
    print(f"{'':12}" + "".join(f"{outcome:>12}" for outcome in ("tried", *OUTCOMES)), flush=True)
    for kind in kinds:
        tally = attack(kind, 60 * arguments.minutes / len(kinds), arguments.seed, findings, limits)
        figures = (tally.counts.total(), *(tally.counts[outcome] for outcome in OUTCOMES))
        print(f"{kind:12}" + "".join(f"{figure:12,}" for figure in figures), flush=True)
        unexpected += tally.findings or ([] if tally.counts else [f"{kind}: no file was tried"])
    for line in unexpected:
        print(line)
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
