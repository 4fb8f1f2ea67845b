"""A training run that is kept on disk as it goes, so that the command that began it can finish it."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

import mtlue_cli
from mtlue_cli.errors import InputError
from mtlue_cli.files import TEMPORARY, write_atomically
from mtlue_cli.training.generator_loop import Record, mean_record
from mtlue_cli.training.runtime import deferred_interrupt
from mtlue_cli.training.state import load_state, save_state
from mtlue_cli.workflows.progress import Progress

HISTORY_STEPS = 50
TRIAL_STEPS = 30
"""Steps that are timed to plan a run by minutes; the first third, when memory is still being taken, does not count."""

RecordT = TypeVar("RecordT", bound=Record)
AnyRecord = TypeVar("AnyRecord", bound=Record, covariant=True)


class Loop(Protocol[AnyRecord]):
    """A training loop that can stop between two steps and go on from its state."""

    step: int
    between_steps: bool

    @property
    def steps(self) -> int:
        """Steps in all."""

    def run(self, until: int | None = None, on_step: Callable[[AnyRecord], None] | None = None) -> None:
        """Train to step ``until``, or to the end."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class ResumableRun(Generic[RecordT]):
    """The plan of a run, its state and its history, in a folder of their own.

    Args:
        folder: Where they are kept.
        identity: Everything that decides the outcome, JSON-ready; a folder of another identity is another run's.
        overwrite: Whether another run's folder may be dropped.
        progress: Whom it tells.
    """

    def __init__(self, folder: Path, identity: Any, overwrite: bool, progress: Progress) -> None:  # noqa: ANN401
        self.folder, self.overwrite, self.progress = folder, overwrite, progress
        whole = [identity, [mtlue_cli.__version__, torch.__version__]]
        self.fingerprint = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        self.plan: dict[str, Any] = {"fingerprint": self.fingerprint}

    def take_up_or_plan(self) -> None:
        """Go on with the plan on disk if it is of the same run; one of another run is dropped only if told so.

        Raises:
            InputError: The folder holds another unfinished run, or something that is none.
        """
        path = self.folder / "plan.json"
        if not self.folder.exists():
            self.write_plan()
            return
        if not any(entry for entry in self.folder.iterdir() if not TEMPORARY.match(entry.name)):
            self.write_plan()  # a run that was killed before it wrote its plan
            return
        if not path.is_file():
            raise InputError(
                f"{self.folder} is in the way and no unfinished run", hint="move it, or choose another --out"
            )
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = {}
        if found.get("fingerprint") == self.fingerprint:
            self.plan = found
            self.progress.note(f"continuing the unfinished training in {self.folder}")
            return
        if not self.overwrite:
            raise InputError(
                f"{self.folder} holds an unfinished run with other settings, labels or images",
                hint="finish it with the command that began it, or drop it with --overwrite",
            )
        self.progress.note(
            f"the unfinished training in {self.folder} is dropped: settings, labels or images have changed since"
        )
        shutil.rmtree(self.folder)
        self.write_plan()

    def write_plan(self) -> None:
        """Keep what was decided so far."""
        write_atomically(self.folder / "plan.json", json.dumps(self.plan).encode())

    def planned_steps(self, decide: Callable[[], int]) -> int:
        """Steps of the run: those of the plan, or what ``decide`` says, which is then planned."""
        if "steps" not in self.plan:
            self.plan["steps"] = decide()
            self.write_plan()
        return int(self.plan["steps"])

    def finish(
        self,
        loop: Loop[RecordT],
        stage: str,
        record_type: type[RecordT],
        figures: Callable[[RecordT], Mapping[str, float]],
        save_seconds: float,
    ) -> list[dict[str, float]]:
        """Run ``loop`` to its end from where it was left; the history of mean figures.

        Args:
            loop: At step 0; its state is loaded if there is one.
            stage: What the progress calls it.
            record_type: Of its records.
            figures: What the progress shows of a mean record.
            save_seconds: Least time between two states on disk.
        """
        path = self.folder / "generator.safetensors"
        history: list[dict[str, float]] = []
        recent: list[RecordT] = []
        if path.exists():
            state = load_state(path)
            loop.load_state_dict(state["loop"])
            history = state["history"]
            recent = [record_type(**record) for record in state["recent"]]
        saved = time.monotonic()
        self.progress.start(stage, loop.steps - loop.step)

        def keep() -> None:
            unfinished = [asdict(record) for record in recent]
            save_state(path, {"loop": loop.state_dict(), "history": history, "recent": unfinished})

        def on_step(record: RecordT) -> None:
            nonlocal saved
            recent.append(record)
            if interrupted():
                raise KeyboardInterrupt
            mean = mean_record(recent[-HISTORY_STEPS:])
            self.progress.advance(1, figures(mean))
            if record.step % HISTORY_STEPS == 0 or record.step == loop.steps:
                history.append({name: float(value) for name, value in asdict(mean).items()})
                recent.clear()
                if time.monotonic() - saved > save_seconds:
                    keep()
                    saved = time.monotonic()

        with deferred_interrupt() as interrupted:
            try:
                loop.run(on_step=on_step)
            except KeyboardInterrupt:
                if loop.between_steps:
                    keep()
                raise
        self.progress.finish()
        keep()
        return history


def steps_within(seconds: Callable[[], float], trial: Loop[RecordT]) -> int:
    """How many steps fit into the seconds that are left after a few timed ones.

    Args:
        seconds: Tells how many are left, when it is asked.
        trial: A loop that is used up by this.
    """
    marks = [time.monotonic()]
    trial.run(until=TRIAL_STEPS, on_step=lambda _: marks.append(time.monotonic()))
    warm = marks[TRIAL_STEPS // 3 :]
    each = (warm[-1] - warm[0]) / (len(warm) - 1)
    return max(10, int(seconds() * 0.97 / each))
