"""Verify: audit a release, train every victim that is asked for, and judge what they learned."""

import platform
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor

from mtlue_cli import __version__
from mtlue_cli.choices import LearnerName
from mtlue_cli.devices import choose_device, describe_device
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import LoadedGenerator
from mtlue_cli.images.colouring import coloured
from mtlue_cli.images.dataset import load_labels
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.overview import column_uses, overview_lines
from mtlue_cli.tasks.spans import with_spans
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.verification.conditions import Condition, Material, Role, VictimSpec
from mtlue_cli.verification.experiment import DivergedError, ExperimentData, Laboratory
from mtlue_cli.verification.figures import ConditionFigures, figures_of
from mtlue_cli.verification.learner import images_an_epoch
from mtlue_cli.verification.probes.base import FEWEST_IMAGES, ProbeResult, ProbeSample
from mtlue_cli.verification.probes.registry import PROBES
from mtlue_cli.verification.promise import Promise, promised, promised_by_release
from mtlue_cli.verification.report import VerifyResult
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.split import Side
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.training_images import FROM_CLEAN, TrainingImages
from mtlue_cli.verification.verdict import Judgement, failed_audit, judge
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.generator import attackers_weights, load_judged
from mtlue_cli.workflows.verify.images import (
    Sources,
    audit_files,
    divide_sides,
    load_side,
    protect_side,
    read_test_side,
)
from mtlue_cli.workflows.verify.settings import VerifyPlan, check_usage, reason_of, require_asked, require_fit
from mtlue_cli.workflows.verify.starts import make_starts, read_starts

SAMPLES = 6
"""Images that are shown in the report."""


def verify_release(config: VerifyConfig, progress: Progress, given: LabelFile | None = None) -> VerifyResult:
    """Judge a release, or a generator, by training victims.

    Args:
        config: What the user asks for.
        progress: Hears of every step.
        given: What the label file of the clean images holds; None: read now.

    Raises:
        InputError: A fault of the input, found before anything is trained.
    """
    started = time.monotonic()
    check_usage(config)
    plan = config.plan
    starts = read_starts(config)
    given = given or read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
    labels = given.table
    match_labels(config.clean, labels)
    judged = load_judged(config.weights, config.key, given) if config.weights is not None else None
    loaded = None if judged is None else judged.loaded
    promise = _promise(config, loaded, given)
    table = labels.recoded(labels.tasks.subset(promise.tasks))
    require_fit(config, table.tasks)
    own_test = read_test_side(config, table, given.bins)
    device = choose_device(config.device)
    others = dict.fromkeys((name for name in labels.tasks.names if name not in given.left_out), "is not protected")
    for line in overview_lines(column_uses(given, promise.tasks, others), "measured", can_choose=False):
        progress.note(line)
    progress.note(f"device: {describe_device(device)}")
    for note in (*given.notes, *(() if judged is None else judged.notes), *promise.notes):
        progress.note(note)
    subject = f"release {config.protected}" if loaded is None else f"generator {loaded.card.name}"
    setting: dict[str, Any] = {
        "settings": config.settings_to_json(),
        "device": describe_device(device),
        "versions": _versions(),
        "epsilon": promise.epsilon,
        "key_fingerprint": None if judged is None or judged.key is None else judged.key.key.fingerprint,
        "notes": list(promise.notes),
        "counts": None,
        "flip": None,
    }
    audit = None
    if config.protected is not None:
        audit = audit_files(config, config.protected, labels, progress)
        if audit.faults:
            judgement = failed_audit(len(audit.faults), config.max_learned, config.metric)
            untried = [
                *(condition.name for condition in plan.conditions),
                *(f"probe {name.value}" for name in plan.probes),
            ]
            left_out = (*plan.left_out, *(NotTested(name, "the audit failed") for name in untried))
            return VerifyResult(
                judgement,
                audit,
                (),
                left_out,
                subject,
                config.tier,
                setting,
                config.command_line,
                ([], []),
                _since(started),
            )
    else:
        progress.note("judging the generator on images protected in memory; no released file is checked")

    sides = divide_sides(config, plan, Side(config.clean, table), own_test, audit, progress)
    clean, made = load_side(sides.train, "clean images", config, progress), None
    if loaded is not None:
        kept, clean, made, quarantined = protect_side(loaded, sides.train, labels, clean, config, device, progress)
        sides = replace(sides, train=kept, notes=(*sides.notes, *quarantined))
        for note in quarantined:
            progress.note(note)
    setting["counts"] = {"train_images": len(sides.train.table), "test_images": len(sides.test.table)}
    setting["notes"] += list(sides.notes)
    train_labels = load_labels(sides.train.table, config.side, workers=config.workers)
    data = ExperimentData(
        with_spans(table.tasks, train_labels),
        train_labels,
        load_side(sides.test, "test images", config, progress),
        load_labels(sides.test.table, config.side, workers=config.workers),
    )
    sources = Sources(config, sides.train, clean, made, audit, progress)
    settings = LearningSettings(
        epochs=plan.epochs_with(images_an_epoch(LearnerName.MTL, data.train_labels, data.tasks)),
        batch_size=plan.batch_size,
        learning_rate=config.learning_rate,
        crop_size=config.size,
        seed=config.seed,
    )
    setting["settings"]["epochs"] = settings.epochs
    lab = Laboratory(
        data,
        TrainingImages(clean, sources.release, promise.epsilon),
        settings,
        device,
        ResultCache(config.cache),
        make_starts(config, settings, (sides.train, sides.test), starts, device, progress),
        attackers_weights(config.weights, config.protected),
    )
    run = PlanRun(lab, config, plan, promise, progress)
    judgement, probes = run.judgement(), run.probes()
    setting["flip"] = sources.flip()
    return VerifyResult(
        judgement,
        audit,
        probes,
        (*plan.left_out, *run.skipped),
        subject,
        config.tier,
        setting,
        config.command_line,
        (_pictures(clean), _pictures(sources.release())),
        _since(started),
        _coloured_maps(data),
    )


@dataclass
class PlanRun:
    """All conditions of one plan, as far as their clean victims learn anything.

    Attributes:
        lab: Where they are run.
        config, plan: What was asked for.
        promise: Which tasks are judged.
        progress: Reports the work.
        skipped: What was planned and could not be run, with the reason.
    """

    lab: Laboratory
    config: VerifyConfig
    plan: VerifyPlan
    promise: Promise
    progress: Progress
    skipped: list[NotTested] = field(default_factory=list)

    def judgement(self) -> Judgement:
        """Train everything and judge it; what rests on a clean victim that learned nothing is skipped.

        Raises:
            InputError: Something that was asked for cannot be run; found before anything is trained.
        """
        require_asked(self.plan, self.lab.require)
        clean: dict[VictimSpec, list[VictimResult]] = {}
        useless: dict[VictimSpec, str] = {}
        found: list[ConditionFigures] = []
        for condition in self.plan.conditions:
            if condition.victim in useless:
                self._skip(condition, useless[condition.victim])
                continue
            try:
                victims = [self._victim(condition, seed) for seed in self.config.seed_range]
            except (DivergedError, InputError) as error:
                self._skip(condition, reason_of(error))
                if condition.role is Role.REFERENCE:
                    useless[condition.victim] = f"its victim cannot be trained on clean images: {reason_of(error)}"
                continue
            if condition.role is Role.REFERENCE:
                clean[condition.victim] = victims
            found.append(self._figures(condition, victims, clean[condition.victim]))
            if condition.role is Role.REFERENCE and found[-1].average is None:
                useless[condition.victim] = "its victim learns nothing from clean images either"
        first = self.plan.conditions[0].victim
        asked = {condition.name for condition in self.plan.asked}
        return judge(
            found,
            self.config.metric,
            self.config.max_learned,
            self.promise.tasks,
            complete=first not in useless,
            missing=[left for left in self.skipped if left.name in asked],
        )

    def probes(self) -> tuple[ProbeResult, ...]:
        """What is measured without a victim."""
        if not self.plan.probes:
            return ()
        if len(self.lab.images.clean) < FEWEST_IMAGES:
            self.skipped += [NotTested(f"probe {name.value}", "too few images") for name in self.plan.probes]
            return ()
        data = self.lab.data
        # Loading the release is a stage of its own.
        sample = ProbeSample(
            self.lab.images.clean, self.lab.images.release(), data.train_labels, data.tasks.image_level
        )
        self.progress.start("probes", len(self.plan.probes))
        results: list[ProbeResult] = []
        for name in self.plan.probes:
            try:
                results.append(PROBES[name].run(sample, self.config.seed, self.lab.device))
            except ValueError as error:
                self.skipped.append(NotTested(f"probe {name.value}", str(error)))
            self.progress.advance()
        self.progress.finish()
        return tuple(results)

    def _skip(self, condition: Condition, reason: str) -> None:
        self.skipped.append(NotTested(condition.name, reason))
        self.progress.note(f"not tested: {condition.name}: {reason}")

    def _figures(
        self, condition: Condition, victims: list[VictimResult], clean: list[VictimResult]
    ) -> ConditionFigures:
        data, metric = self.lab.data, self.config.metric
        floor, place_floor = self.lab.scoring.floors(metric), self.lab.scoring.place_floors()
        steps = self.lab.steps_per_epoch(condition)
        return figures_of(condition, victims, clean, floor, data.tasks, self.promise.tasks, metric, place_floor, steps)

    def _victim(self, condition: Condition, seed: int) -> VictimResult:
        name = condition.name if self.config.seeds == 1 else f"{condition.name} (seed {seed})"
        if condition.material not in FROM_CLEAN:
            self.lab.images.release()  # loading the release is a stage of its own
        data = self.lab.data
        total = images_an_epoch(condition.victim.learner, data.train_labels, data.tasks)
        total *= self.lab.settings.epochs
        if condition.material is Material.CLEAN_PART:
            total = round(total * (1 - condition.protected_fraction))
        self.progress.start(name, total)

        def on_epoch(point: CurvePoint) -> None:
            accuracy = sum(point.test_accuracy.values()) / len(point.test_accuracy)
            self.progress.advance(0, {"loss": point.loss, "accuracy": accuracy})

        try:
            result = self.lab.run(
                condition,
                seed,
                on_step=self.progress.advance,
                on_epoch=on_epoch,
                on_preparation=lambda share: self.progress.advance(0, {"prepared %": 100 * share}),
            )
            if result.cached:
                self.progress.advance(total)
        finally:
            self.progress.finish()
        if result.cached:
            self.progress.note(f"{name}: finished earlier, taken from the cache")
        return result


def _promise(config: VerifyConfig, loaded: LoadedGenerator | None, given: LabelFile) -> Promise:
    labels = given.table.tasks
    if loaded is not None:
        return promised(loaded.card.epsilon, loaded.card.tasks.names, labels)
    assert config.protected is not None  # check_usage saw to it
    return promised_by_release(config.protected, labels, given.usual_tasks.names)


def _pictures(images: Tensor) -> list[npt.NDArray[np.uint8]]:
    return [image.permute(1, 2, 0).contiguous().numpy() for image in images[:SAMPLES]]


def _coloured_maps(data: ExperimentData) -> list[dict[str, npt.NDArray[np.uint8]]]:
    """The maps of the images that :func:`_pictures` shows, coloured, by task."""
    dense, count = data.tasks.dense, min(SAMPLES, len(next(iter(data.train_labels.values()))))
    return [
        {task.name: coloured(data.train_labels[task.name][row].numpy(), task) for task in dense} for row in range(count)
    ]


def _versions() -> dict[str, str]:
    return {
        "mtlue": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
