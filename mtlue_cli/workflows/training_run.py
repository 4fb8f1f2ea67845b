"""The two stages of a training run, surrogate then generator, kept on disk as they go."""

import time
from dataclasses import replace
from typing import Any

import torch

from mtlue_cli.choices import ObjectiveName
from mtlue_cli.devices import on_device
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.objectives.base import Objective
from mtlue_cli.objectives.registry import OBJECTIVES, Ingredients
from mtlue_cli.tasks.shares import class_shares
from mtlue_cli.training.generator_loop import GeneratorLoop, GeneratorSettings, StepRecord
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.state import load_state, save_state
from mtlue_cli.training.surrogate import SurrogateRun, epochs_within, train_surrogate
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.resumable_run import ResumableRun, steps_within
from mtlue_cli.workflows.train_settings import TrainConfig, TrainingData, generator_size
from mtlue_cli.workflows.training_start import TrainingStart

SURROGATE_SHARE = 0.4
"""Largest share of ``max_minutes`` that a clean surrogate may take."""
SURROGATE_BATCH = 64
"""Least images per step of a surrogate: on a CPU half as many take nearly as long."""
SURROGATE_SEED_OFFSET = 1000
QUIET_PATTERNS = 0.5
"""Initial gain of the closed-form patterns where nothing asks for them; see :meth:`TrainingRun._pattern_gain`."""
SAVE_SECONDS = 30.0


class TrainingRun:
    """One run; a run that was stopped goes on from what its state folder holds.

    Args:
        config: What it was told.
        data: What it learns from.
        device: Where.
        progress: Whom it tells.
        started: ``time.monotonic()`` at the start, from which ``max_minutes`` counts.
        start: What the generator begins as; None: untrained.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        device: torch.device,
        progress: Progress,
        started: float,
        start: TrainingStart | None = None,
    ) -> None:
        self.config, self.data, self.device, self.progress, self.started = config, data, device, progress, started
        self.start = start
        self.spec = OBJECTIVES[config.objective]
        self.recipe = config.recipe_for(data.tasks, data.images)
        begun = None if start is None else start.to_json()
        settings = config.recorded_settings()
        if config.private:
            # Its length is no part of it: a run with another --train continues as planned.
            settings = {name: value for name, value in settings.items() if name not in ("max_minutes", "max_steps")}
        identity = [settings, data.tasks.to_json(), data.digest, begun]
        self.disk: ResumableRun[StepRecord] = ResumableRun(config.state_folder, identity, config.overwrite, progress)

    def take_up_or_plan(self) -> None:
        """As :meth:`ResumableRun.take_up_or_plan`."""
        self.disk.take_up_or_plan()

    def train(self) -> tuple[GeneratorLoop, list[dict[str, float]]]:
        """Both stages, or what is left of them; the finished loop and its history of mean figures."""
        clean = self._surrogate().networks(self.data.tasks, self.device) if self.spec.clean_checkpoints else []
        generator = self._fresh_generator()
        steps = self.disk.planned_steps(lambda: self._planned_steps(clean))
        loop = self._loop(generator, self._objective(clean), steps)
        objective = loop.objective.follows

        def figures(mean: StepRecord) -> dict[str, float]:
            return {"loss": mean.base, objective: mean.agreement, "mean change": mean.mean_change}

        stage = f"generator ({self.config.objective.value})"
        return loop, self.disk.finish(loop, stage, StepRecord, figures, SAVE_SECONDS)

    def _remaining(self) -> float:
        assert self.config.max_minutes is not None
        return self.config.max_minutes * 60 - (time.monotonic() - self.started)

    def _surrogate(self) -> SurrogateRun:
        config, data = self.config, self.data
        settings = LearningSettings(
            epochs=config.surrogate_epochs,
            batch_size=max(SURROGATE_BATCH, self.recipe.batch_size),
            crop_size=config.size,
            backbone=config.surrogate,
            seed=config.seed + SURROGATE_SEED_OFFSET,
            precision=config.precision,
        )
        path = self.disk.folder / "surrogate.safetensors"
        if path.exists():
            state = load_state(path)
            settings = replace(settings, epochs=int(state["epochs"]))
            return SurrogateRun(tuple(state["checkpoints"]), state["accuracy"], settings)
        if "surrogate_epochs" not in self.disk.plan:
            epochs = settings.epochs
            if config.max_minutes is not None:
                budget = self._remaining() * SURROGATE_SHARE
                epochs = epochs_within(budget, data.images, data.labels, data.tasks, settings, self.device)
            self.disk.plan["surrogate_epochs"] = epochs
            self.disk.write_plan()
        settings = replace(settings, epochs=int(self.disk.plan["surrogate_epochs"]))
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
            self.recipe.distortions,
        )
        self.progress.finish()
        save_state(
            path,
            {"checkpoints": list(run.checkpoints), "accuracy": dict(run.accuracy), "epochs": settings.epochs},
        )
        return run

    def _fresh_generator(self) -> PerturbationGenerator:
        config, tasks = self.config, self.data.tasks
        size, priors = generator_size(config.size), class_shares(self.data.labels, tasks)
        if self.start is not None:
            begun = self.start.generator(
                tasks, config.epsilon, size, config.seed, priors, self._pattern_gain(), config.chroma
            )
            return on_device(begun, self.device)
        shape = GeneratorConfig(
            epsilon=config.epsilon,
            image_size=size,
            pattern_gain=self._pattern_gain(),
            chroma=self.recipe.chroma,
            decoder_width=self.recipe.decoder_width,
        )
        return on_device(PerturbationGenerator(shape, tasks, config.seed, priors), self.device)

    def _learnability(self) -> float:
        return self.config.learnability(len(self.data.tasks))

    def _pattern_gain(self) -> float:
        """How loudly the closed-form patterns start.

        Where something asks for what is easy to learn, they are most of the answer. Targeted poisoning alone finds
        patterns of its own, in luminance too, and is held up by loud ones: they fill the bound.
        """
        targeted_alone = self.config.objective is not ObjectiveName.EM and not self._learnability()
        return QUIET_PATTERNS if targeted_alone else GeneratorConfig().pattern_gain

    def _objective(self, clean: list[Any]) -> Objective:
        def fresh(seed: int) -> torch.nn.Module:
            return on_device(build_network(self.config.surrogate, self.data.tasks, seed), self.device)

        return self.spec.build(Ingredients(self.data.tasks, clean, fresh, self.config.seed, self._learnability()))

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
        )
        return GeneratorLoop(generator, objective, data.images, data.labels, settings, self.device)

    def _planned_steps(self, clean: list[Any]) -> int:
        """Steps of ``epochs``, or as many as a few timed ones say will fit into what is left of ``max_minutes``."""
        if self.config.epochs is not None:
            return -(-self.config.epochs * len(self.data.images) // self.recipe.batch_size)
        steps = steps_within(self._remaining, self._loop(self._fresh_generator(), self._objective(clean), 10**6))
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)
