"""The two stages of a training run, surrogate then generator, kept on disk so that an interrupted run resumes."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import mtlue_cli
from mtlue_cli.choices import BackboneName, ObjectiveName, TrainingMethodName
from mtlue_cli.devices import ALONE, Processes, on_device
from mtlue_cli.errors import DivergedError, InputError
from mtlue_cli.files import is_temporary, read_regular, write_atomically
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.keys import Key, find_key
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.objectives import OBJECTIVES, Ingredients, Objective
from mtlue_cli.tasks.label_tensors import class_shares
from mtlue_cli.training.generator_loop import GeneratorLoop, GeneratorSettings, StepRecord, mean_record
from mtlue_cli.training.methods import METHODS
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.pretrained import PretrainedStart
from mtlue_cli.training.runtime import deferred_interrupt, load_state, save_state, state_faults
from mtlue_cli.training.surrogate import SurrogateRun, epochs_within, head_images, train_head, train_surrogate
from mtlue_cli.training.visibility import ADAPT_STEPS, FLIP_TARGETS, VisibilityControl
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.train.config import SURROGATE_BATCH, SurrogateChoice, TrainConfig
from mtlue_cli.workflows.train.settings import Recipe, TrainingData, generator_size
from mtlue_cli.workflows.train.start import TrainingStart

GENERATOR_STATE = "generator.safetensors"
SURROGATE_SHARE = 0.4
"""Largest share of ``max_minutes`` that clean surrogates may take together; a head on frozen features counts little."""
SURROGATE_SEED_OFFSET = 1000
QUIET_PATTERNS = 0.5
"""Initial gain of the closed-form patterns for objectives that do not need them: :meth:`TrainingRun._pattern_gain`."""
SAVE_SECONDS = 30.0
"""Least time between two states on disk."""
HISTORY_STEPS = 50
TIMED_SHARE = 0.97
"""Share of the remaining time that the planned steps fill."""
TRIAL_STEPS = 30
"""Steps that are timed to plan a run by minutes; the first third, when memory is still being taken, does not count."""


class StateFolder:
    """The folder of an unfinished run: its plan, the trained surrogate, the state of the generator.

    Args:
        path: The folder, made with the first write.
        identity: Everything that decides the outcome, JSON-ready; a folder of another identity belongs to another run.
        overwrite: Whether another run's folder may be dropped.
        progress: Where messages go.
        secret: Key of the user that authenticates the content of the folder; None: it is not authenticated.
        processes: Those that share the run; the main one alone reads and writes the folder.
    """

    def __init__(
        self,
        path: Path,
        identity: Any,  # noqa: ANN401 - JSON
        overwrite: bool,
        progress: Progress,
        secret: Key | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.path, self.overwrite, self.progress, self.secret = path, overwrite, progress, secret
        self.processes = processes
        whole = [identity, [mtlue_cli.__version__, torch.__version__]]
        self.fingerprint = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        self.plan: dict[str, Any] = {"fingerprint": self.fingerprint}

    def open(self) -> None:
        """Resume the run in the folder, or begin a new one; another run's folder is dropped only with ``overwrite``.

        Raises:
            InputError: The folder holds another unfinished run, or something else.
        """
        self.plan = self.processes.on_main(self._opened)

    def _opened(self) -> dict[str, Any]:
        if not self.path.exists() or all(is_temporary(entry.name) for entry in self.path.iterdir()):
            self._write_plan()  # new, or left by a run that was killed before it wrote its plan
            return self.plan
        plan = self.path / "plan.json"
        if not plan.is_file():
            raise InputError(
                f"{self.path} exists and is not an unfinished run", hint="move it, or choose another --out"
            )
        try:
            found = json.loads(read_regular(plan))
        except (OSError, ValueError, RecursionError):
            found = {}
        mac = found.pop("mac", None) if isinstance(found, dict) else None
        if isinstance(found, dict) and found.get("fingerprint") == self.fingerprint and mac == self._mac(found):
            odd = [name for name in found if name != "fingerprint" and not _is_count(found[name])]
            if odd:
                raise InputError(
                    f"{plan} is damaged: {odd[0]} is {found[odd[0]]!r}, expected a number from 1 up",
                    hint=f"delete {self.path}",
                )
            self.progress.note(f"continuing the unfinished training in {self.path}")
            return found
        if not self.overwrite:
            raise InputError(
                f"{self.path} holds an unfinished run with other settings, labels or images, or of another key",
                hint="finish it with the command that began it, or discard it with --overwrite",
            )
        self.progress.note(
            f"the unfinished training in {self.path} is discarded: settings, labels or images have changed since, or "
            "your key did not begin it"
        )
        shutil.rmtree(self.path)
        self._write_plan()
        return self.plan

    def planned(self, name: str, decide: Callable[[], int]) -> int:
        """The number of this name in the plan; the first time, ``decide`` gives it, the same in all processes."""
        if name not in self.plan:
            self.plan[name] = decide()
            self._write_plan()
        number: int = self.plan[name]
        return number

    def _write_plan(self) -> None:
        if not self.processes.is_main:
            return
        mac = self._mac(self.plan)
        written = self.plan if mac is None else {**self.plan, "mac": mac}
        write_atomically(self.path / "plan.json", json.dumps(written).encode())

    def _mac(self, plan: Mapping[str, Any]) -> str | None:
        message = b"mtlue training plan v1\n" + json.dumps(dict(plan), sort_keys=True).encode()
        return None if self.secret is None else self.secret.derive(message).hex()

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write a state into the folder."""
        if self.processes.is_main:
            save_state(self.path / name, state, self.secret)

    def load(self, name: str) -> dict[str, Any] | None:
        """A state that was written into the folder; None if there is none.

        Raises:
            CheckpointError: It is damaged, or someone else wrote it.
        """
        path = self.path / name
        return self.processes.on_main(lambda: load_state(path, self.secret) if path.exists() else None)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


@dataclass
class TrainingRun:
    """One run; a run that was stopped resumes from its state folder.

    Attributes:
        config: Its settings.
        data: What it learns from.
        recipe: The settings that depend on the data.
        device: Where.
        progress: Where it reports.
        started: ``time.monotonic()`` at the start, from which ``max_minutes`` counts.
        start: The weights that the generator begins with; None: untrained.
        pretrained: Those that surrogates on ImageNet start from, if there are such.
        processes: Those that train the generator together. Its surrogate is trained by the main one.
    """

    config: TrainConfig
    data: TrainingData
    recipe: Recipe
    device: torch.device
    progress: Progress
    started: float
    start: TrainingStart | None = None
    pretrained: PretrainedStart | None = None
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        config, data = self.config, self.data
        self.spec = OBJECTIVES[config.objective]
        self.surrogates = self.recipe.surrogates
        settings = config.recorded_settings() | self.recipe.to_json()
        if config.private:
            # Its length is no part of it: a run with another --train continues as planned.
            settings = {name: value for name, value in settings.items() if name not in ("max_minutes", "max_steps")}
        start = None if self.start is None else self.start.to_json()
        identity = [settings, data.tasks.to_json(), data.digest, start]
        secret = self._secret() if self.processes.is_main else None
        self.state = StateFolder(config.state_folder, identity, config.overwrite, self.progress, secret, self.processes)

    def _secret(self) -> Key | None:
        """The key that authenticates the state of this run: the user's own; None where there can be none."""
        try:
            found = find_key(None)
        except InputError as error:
            self.progress.note(f"no key authenticates the state of this training: {error}")
            return None
        for line in found.announced("authenticates the states of trainings"):
            self.progress.note(line)
        return found.key

    def train(self) -> tuple[GeneratorLoop, list[dict[str, float]]]:
        """Both stages, or what is left of them; the finished loop and its history of mean figures.

        Raises:
            InputError: As :meth:`StateFolder.open`.
            DivergedError: A loss or weights are not finite.
        """
        self.state.open()
        if self.config.epochs is not None:
            self._leave_out_unmet(self._steps_of_epochs(self.config.epochs))
        clean: list[list[MultiTaskNetwork]] = []
        if self.spec.clean_checkpoints:
            # With maps a head is trained like any other surrogate.
            maps = len(self.data.tasks.dense) > 0
            long = sum(maps or one.method is not TrainingMethodName.HEAD for one in self.surrogates)
            limited = self.config.max_minutes is not None
            seconds = self._remaining() * SURROGATE_SHARE / max(1, long) if limited else None
            for index, surrogate in enumerate(self.surrogates):
                clean.append(self._trained(index, surrogate, seconds).networks(self.data.tasks, self.device))
        generator = self._fresh_generator()
        steps = self.state.planned("steps", lambda: self._planned_steps(clean))
        self._leave_out_unmet(steps)
        objective = self._objective(clean[: len(self.surrogates)], self.recipe.first_alone)
        loop = self._loop(generator, objective, steps)
        return loop, self._finish(loop)

    def _leave_out_unmet(self, steps: int) -> None:
        """Keep to the first surrogate if the turn of the others does not come within ``steps``."""
        first, *others = (one.name for one in self.surrogates)
        alone = self.recipe.first_alone
        if others and steps <= alone:
            later = f"{', '.join(others)} would join after {alone:,}"
            self.progress.note(f"all {steps:,} steps are against {first}: {later}")
            self.surrogates = self.surrogates[:1]

    def _steps_of_epochs(self, epochs: int) -> int:
        images = len(self.data.images)
        return -(-epochs * images // min(self.recipe.batch_size, images))

    def _finish(self, loop: GeneratorLoop) -> list[dict[str, float]]:
        """Run ``loop``, which is at step 0, from its state on disk to its end; the history of mean figures."""
        history: list[dict[str, float]] = []
        recent: list[StepRecord] = []
        state = self.state.load(GENERATOR_STATE)
        if state is not None:
            with state_faults(self.state.path / GENERATOR_STATE):
                loop.load_state_dict(state["loop"])
                history = list(state["history"])
                recent = [StepRecord(**record) for record in state["recent"]]
        saved = time.monotonic()
        self.progress.start(f"generator ({self.config.objective.value})", loop.steps - loop.step)

        def keep() -> None:
            unfinished = [asdict(record) for record in recent]
            self.state.save(GENERATOR_STATE, {"loop": loop.state_dict(), "history": history, "recent": unfinished})

        def on_step(record: StepRecord) -> None:
            nonlocal saved
            recent.append(record)
            mean = mean_record(recent)
            figures = {"loss": mean.base, self.spec.agreement: mean.agreement, "mean change": mean.mean_change}
            self.progress.advance(1, figures)
            if record.step % HISTORY_STEPS == 0 or record.step == loop.steps:
                history.append({name: float(value) for name, value in asdict(mean).items()})
                recent.clear()
                if time.monotonic() - saved > SAVE_SECONDS:
                    keep()
                    saved = time.monotonic()
            if any(self.processes.mean([interrupted()])):
                raise KeyboardInterrupt

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

    def _remaining(self) -> float:
        assert self.config.max_minutes is not None
        return self.config.max_minutes * 60 - (time.monotonic() - self.started)

    def _trained(self, index: int, surrogate: SurrogateChoice, seconds: float | None) -> SurrogateRun:
        """A surrogate trained on clean images in ``seconds`` at most, or the one that an earlier run left."""
        config, data = self.config, self.data
        suffix = f"-{index + 1}" if index else ""
        state_name = f"surrogate{suffix}.safetensors"
        settings = LearningSettings(
            epochs=config.surrogate_epochs,
            batch_size=max(SURROGATE_BATCH, self.recipe.batch_size),
            crop_size=config.size,
            backbone=surrogate.backbone,
            seed=config.seed + SURROGATE_SEED_OFFSET + index,
            precision=config.precision,
        )
        state = self.state.load(state_name)
        if state is not None:
            with state_faults(self.state.path / state_name):
                settings = replace(settings, epochs=int(state["epochs"]))
                return SurrogateRun(tuple(state["checkpoints"]), dict(state["accuracy"]), settings)

        stage = f"clean surrogate ({surrogate.name})"
        figures: dict[str, float] = {}

        def on_step(count: int) -> None:
            self.progress.advance(count, figures)

        def affordable() -> int:
            if seconds is None:
                return settings.epochs
            within = partial(epochs_within, seconds, data.images, data.labels, data.tasks, settings, self.device)
            return self.processes.on_main(within)

        def on_epoch(record: EpochRecord) -> None:
            figures.update(loss=record.loss, accuracy=sum(record.accuracy.values()) / len(record.accuracy))

        learned = data.images, data.labels, data.tasks
        distortions = self.recipe.distortions
        if surrogate.method is TrainingMethodName.HEAD and self.pretrained is not None and not len(data.tasks.dense):
            self.progress.start(stage, head_images(len(data.images)))
            train = partial(train_head, *learned, settings, self.pretrained, self.device, on_step, distortions)
        else:
            settings = replace(settings, epochs=self.state.planned(f"surrogate{suffix}_epochs", affordable))
            self.progress.start(stage, settings.epochs * len(data.images))
            keep, method = self.spec.clean_checkpoints, METHODS[surrogate.method].build(self.pretrained)
            train = partial(
                train_surrogate, *learned, settings, keep, self.device, on_step, on_epoch, distortions, method
            )
        run = self.processes.on_main(train)
        self.progress.finish()
        if not all(bool(one.isfinite().all()) for state in run.checkpoints for one in state.values()):
            raise DivergedError(f"training the surrogate {surrogate.name} has diverged: its weights are not finite")
        self.state.save(
            state_name,
            {"checkpoints": list(run.checkpoints), "accuracy": dict(run.accuracy), "epochs": settings.epochs},
        )
        return run

    def _fresh_generator(self) -> PerturbationGenerator:
        config, tasks = self.config, self.data.protected
        size, priors = generator_size(config.size), class_shares(self.data.labels, tasks)
        if self.start is not None:
            # Where the recipe allows no colour, the start's own would be lost in grey photos.
            chroma = self.recipe.chroma if self.recipe.chroma == 0 else config.chroma
            begun = self.start.generator(tasks, config.epsilon, size, config.seed, priors, self._pattern_gain(), chroma)
            return on_device(begun, self.device)
        shape = GeneratorConfig(
            epsilon=config.epsilon,
            image_size=size,
            pattern_gain=self._pattern_gain(),
            chroma=self.recipe.chroma,
            decoder_width=self.recipe.decoder_width,
        )
        return on_device(PerturbationGenerator(shape, tasks, config.seed, priors), self.device)

    def _pattern_gain(self) -> float:
        """Initial amplitude of the closed-form patterns.

        Objectives that reward what is easy to learn rely on these patterns. Targeted poisoning alone finds patterns of
        its own, also in luminance, and strong initial patterns slow it down: they fill the bound.
        """
        targeted_alone = self.config.objective is not ObjectiveName.EM and not self.recipe.learnability_weight
        return QUIET_PATTERNS if targeted_alone else GeneratorConfig().pattern_gain

    def _objective(self, clean: list[Any], alone: int) -> Objective:
        def fresh(seed: int) -> torch.nn.Module:
            return on_device(build_network(learning, tasks, seed), self.device)

        # The surrogate that learns beside the generator starts from scratch, like a victim.
        tasks = self.data.protected
        scratch = [one.backbone for one in self.recipe.surrogates if one.method is TrainingMethodName.SCRATCH]
        learning = scratch[0] if scratch else BackboneName.SMALL
        shares = [one.share for one in self.surrogates]
        return self.spec.build(
            Ingredients(tasks, clean, fresh, self.config.seed, self.recipe.learnability_weight, shares, alone)
        )

    def _loop(self, generator: PerturbationGenerator, objective: Objective, steps: int) -> GeneratorLoop:
        config, data = self.config, self.data
        settings = GeneratorSettings(
            steps=steps,
            batch_size=self.recipe.batch_size,
            learning_rate=self.recipe.learning_rate,
            intra_weight=config.intra_weight,
            inter_weight=config.inter_weight,
            view_size=config.size,
            distortions=self.recipe.distortions,
            seed=config.seed,
            precision=config.precision,
            accumulate=config.accumulate,
        )
        target = FLIP_TARGETS[self.recipe.visibility]
        control = None if target is None else VisibilityControl(target, data.images, data.labels)
        return GeneratorLoop(
            generator,
            objective,
            data.images,
            data.labels,
            settings,
            self.device,
            control,
            self.processes,
            data.tasks.subset(data.kept),
        )

    def _planned_steps(self, clean: list[Any]) -> int:
        """Steps of ``epochs``; or as many as fit into the rest of ``max_minutes``, by the time that a few take."""
        if self.config.epochs is not None:
            return self._steps_of_epochs(self.config.epochs)
        warm, alone = TRIAL_STEPS // 3, self.recipe.first_alone
        trial_alone = 2 * warm if alone else 0
        trial = self._loop(self._fresh_generator(), self._objective(clean, trial_alone), 10**6)
        marks = [time.monotonic()]
        trial.run(until=TRIAL_STEPS, on_step=lambda _: marks.append(time.monotonic()))

        def step_seconds(first: int, last: int) -> float:
            return (marks[last] - marks[first]) / (last - first)

        turns = step_seconds(trial_alone + warm // 2 if alone else warm, TRIAL_STEPS)  # others are warm then too
        first = step_seconds(warm, trial_alone) if alone else turns
        control, began = trial.visibility, time.monotonic()
        if control is not None:  # what it does every ADAPT_STEPS, which the timed steps do not reach
            control.measure(trial.generator)
        adapting = (time.monotonic() - began) / ADAPT_STEPS
        first, turns, remaining = self.processes.mean([first + adapting, turns + adapting, self._remaining()])
        seconds = remaining * TIMED_SHARE
        alone_steps = min(alone, seconds / first)
        steps = max(10, int(alone_steps + (seconds - alone_steps * first) / turns))
        least = self.config.least_steps
        if steps < least:
            shutil.rmtree(self.state.path)  # a longer training gives its surrogate more time too
            spent, needed = time.monotonic() - self.started, (least + TRIAL_STEPS) * first / TIMED_SHARE
            minutes = math.ceil(max(spent + needed, needed / (1 - SURROGATE_SHARE)) / 60)
            raise InputError(
                f"the training would end after {steps} steps, and at least {least} are needed to protect",
                hint=f"give it more time with --train {minutes}, or use ready-made patterns with --quick",
            )
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)
