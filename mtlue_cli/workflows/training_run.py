"""The two stages of a training run, surrogate then generator, kept on disk as they go."""

import hashlib
import json
import shutil
import time
from dataclasses import asdict, replace
from typing import Any

import torch

import mtlue_cli
from mtlue_cli.errors import InputError
from mtlue_cli.files import write_atomically
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.objectives.base import Objective
from mtlue_cli.objectives.registry import OBJECTIVES, Ingredients
from mtlue_cli.tasks.shares import class_shares
from mtlue_cli.training.generator_loop import GeneratorLoop, GeneratorSettings, StepRecord, mean_record
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.runtime import deferred_interrupt, placed
from mtlue_cli.training.state import load_state, save_state
from mtlue_cli.training.surrogate import SurrogateRun, epochs_within, train_surrogate
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.train_settings import TrainConfig, TrainingData, generator_size

SURROGATE_SHARE = 0.4
"""Largest share of ``max_minutes`` that a clean surrogate may take."""
SURROGATE_SEED_OFFSET = 1000
SAVE_SECONDS = 30.0
HISTORY_STEPS = 50
TRIAL_STEPS = 30
"""Steps that are timed to plan ``max_minutes``; the first third, when memory is still being taken, does not count."""


class TrainingRun:
    """One run; a run that was stopped goes on from what :attr:`folder` holds.

    Args:
        config: What it was told.
        data: What it learns from.
        device: Where.
        progress: Whom it tells.
        started: ``time.monotonic()`` at the start, from which ``max_minutes`` counts.
    """

    def __init__(
        self, config: TrainConfig, data: TrainingData, device: torch.device, progress: Progress, started: float
    ) -> None:
        self.config, self.data, self.device, self.progress, self.started = config, data, device, progress, started
        self.folder = config.state_folder
        self.spec = OBJECTIVES[config.objective]
        versions = [mtlue_cli.__version__, torch.__version__]
        identity = [config.recorded_settings(), data.tasks.to_json(), data.digest, versions]
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.plan: dict[str, Any] = {"fingerprint": self.fingerprint}

    def take_up_or_plan(self) -> None:
        """Go on with the plan on disk if it is of the same run; one of another run is dropped only if told so.

        Raises:
            InputError: The folder holds another unfinished run, or something that is none.
        """
        path = self.folder / "plan.json"
        if not self.folder.exists():
            self._write_plan()
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
            self.progress.note(f"going on with the unfinished run in {self.folder}")
            return
        if not self.config.overwrite:
            raise InputError(
                f"{self.folder} holds an unfinished run with other settings, labels or images",
                hint="finish it with the command that began it, or drop it with --overwrite",
            )
        self.progress.note(f"the unfinished run in {self.folder} is dropped, as --overwrite says")
        shutil.rmtree(self.folder)
        self._write_plan()

    def train(self) -> tuple[GeneratorLoop, list[dict[str, float]]]:
        """Both stages, or what is left of them; the finished loop and its history of mean figures."""
        clean = self._surrogate().networks(self.data.tasks, self.device) if self.spec.clean_checkpoints else []
        generator = self._fresh_generator()
        if "steps" not in self.plan:
            self.plan["steps"] = self._planned_steps(clean)
            self._write_plan()
        loop = self._loop(generator, self._objective(clean), int(self.plan["steps"]))
        return loop, self._train_generator(loop)

    def _write_plan(self) -> None:
        write_atomically(self.folder / "plan.json", json.dumps(self.plan).encode())

    def _remaining(self) -> float:
        assert self.config.max_minutes is not None
        return self.config.max_minutes * 60 - (time.monotonic() - self.started)

    def _surrogate(self) -> SurrogateRun:
        config, data = self.config, self.data
        settings = LearningSettings(
            epochs=config.surrogate_epochs,
            batch_size=config.batch_size,
            crop_size=config.size,
            backbone=config.surrogate,
            seed=config.seed + SURROGATE_SEED_OFFSET,
            precision=config.precision,
        )
        path = self.folder / "surrogate.safetensors"
        if path.exists():
            state = load_state(path)
            settings = replace(settings, epochs=int(state["epochs"]))
            return SurrogateRun(tuple(state["checkpoints"]), state["accuracy"], settings)
        if "surrogate_epochs" not in self.plan:
            epochs = settings.epochs
            if config.max_minutes is not None:
                budget = self._remaining() * SURROGATE_SHARE
                epochs = epochs_within(budget, data.images, data.labels, data.tasks, settings, self.device)
            self.plan["surrogate_epochs"] = epochs
            self._write_plan()
        settings = replace(settings, epochs=int(self.plan["surrogate_epochs"]))
        self.progress.start(f"clean surrogate ({config.surrogate.value})", settings.epochs * len(data.images))
        figures: dict[str, float] = {}

        def on_epoch(record: EpochRecord) -> None:
            figures.update(loss=record.loss, accuracy=sum(record.accuracy.values()) / len(record.accuracy))

        run = train_surrogate(
            data.images,
            data.labels,
            data.tasks,
            settings,
            self.spec.clean_checkpoints,
            self.device,
            lambda count: self.progress.advance(count, figures),
            on_epoch,
        )
        self.progress.finish()
        save_state(
            path,
            {"checkpoints": list(run.checkpoints), "accuracy": dict(run.accuracy), "epochs": settings.epochs},
        )
        return run

    def _fresh_generator(self) -> PerturbationGenerator:
        shape = GeneratorConfig(epsilon=self.config.epsilon, image_size=generator_size(self.config.size))
        priors = class_shares(self.data.labels, self.data.tasks)
        generator = PerturbationGenerator(shape, self.data.tasks, self.config.seed, priors)
        return placed(generator, self.device)

    def _objective(self, clean: list[Any]) -> Objective:
        def fresh(seed: int) -> torch.nn.Module:
            return placed(build_network(self.config.surrogate, self.data.tasks, seed), self.device)

        return self.spec.build(
            Ingredients(self.data.tasks, clean, fresh, self.config.seed, self.config.learnability_weight)
        )

    def _loop(self, generator: PerturbationGenerator, objective: Objective, steps: int) -> GeneratorLoop:
        config, data = self.config, self.data
        settings = GeneratorSettings(
            steps=steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            intra_weight=config.intra_weight,
            inter_weight=config.inter_weight,
            view_size=config.size,
            seed=config.seed,
            precision=config.precision,
        )
        return GeneratorLoop(generator, objective, data.images, data.labels, settings, self.device)

    def _planned_steps(self, clean: list[Any]) -> int:
        """Steps of ``epochs``, or as many as a few timed ones say will fit into what is left of ``max_minutes``."""
        if self.config.epochs is not None:
            return -(-self.config.epochs * len(self.data.images) // self.config.batch_size)
        trial = self._loop(self._fresh_generator(), self._objective(clean), 10**6)
        marks = [time.monotonic()]
        trial.run(until=TRIAL_STEPS, on_step=lambda _: marks.append(time.monotonic()))
        warm = marks[TRIAL_STEPS // 3 :]
        seconds = (warm[-1] - warm[0]) / (len(warm) - 1)
        return max(10, int(self._remaining() * 0.97 / seconds))

    def _train_generator(self, loop: GeneratorLoop) -> list[dict[str, float]]:
        path = self.folder / "generator.safetensors"
        history: list[dict[str, float]] = []
        recent: list[StepRecord] = []
        if path.exists():
            state = load_state(path)
            loop.load_state_dict(state["loop"])
            history = state["history"]
            recent = [StepRecord(**record) for record in state["recent"]]
        saved = time.monotonic()
        self.progress.start(f"generator ({self.config.objective.value})", loop.settings.steps - loop.step)

        def keep() -> None:
            unfinished = [asdict(record) for record in recent]
            save_state(path, {"loop": loop.state_dict(), "history": history, "recent": unfinished})

        def on_step(record: StepRecord) -> None:
            nonlocal saved
            recent.append(record)
            if interrupted():
                raise KeyboardInterrupt
            mean = mean_record(recent[-HISTORY_STEPS:])
            self.progress.advance(
                1, {"loss": mean.base, loop.objective.follows: mean.agreement, "mean change": mean.mean_change}
            )
            if record.step % HISTORY_STEPS == 0 or record.step == loop.settings.steps:
                history.append({name: float(value) for name, value in asdict(mean).items()})
                recent.clear()
                if time.monotonic() - saved > SAVE_SECONDS:
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
