"""Verify: audit a release, train every victim that is asked for, and judge what they learned."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlue_cli.choices import LearnerName, Tier
from mtlue_cli.devices import choose_device, describe_device
from mtlue_cli.engines.engine import Engine, engine_of
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import LoadedGenerator, load_checkpoint
from mtlue_cli.generator.shipped import resolve_weights
from mtlue_cli.images.colouring import coloured
from mtlue_cli.images.dataset import load_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.keys import cache_key
from mtlue_cli.release.seal import Trust, trust_of
from mtlue_cli.tasks.label_tensors import with_spans
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.overview import column_uses, overview_lines
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.training.runtime import library_versions
from mtlue_cli.verification.audit import Audit, audit_release
from mtlue_cli.verification.countermeasures.base import Pairs
from mtlue_cli.verification.document import Counts
from mtlue_cli.verification.experiment import ExperimentData, Laboratory
from mtlue_cli.verification.figures import ConditionFigures
from mtlue_cli.verification.learner import images_a_network
from mtlue_cli.verification.promise import Promise, utility_notes
from mtlue_cli.verification.report import VerifyResult, verify_result
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.split import Side, divide
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.training_images import TrainingImages
from mtlue_cli.verification.verdict import failed_audit
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify.adaptive import narrowed
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.images import (
    Sources,
    bound_to_key,
    checked_labels,
    load_images,
    load_own_images,
    protect_side,
    service_pairs,
)
from mtlue_cli.workflows.verify.plan import (
    VerifyPlan,
    attackers_weights,
    checked_plan,
    plan_notes,
    settings_to_json,
)
from mtlue_cli.workflows.verify.starts import read_starts, train_starts
from mtlue_cli.workflows.verify.victims import PlanRun

SAMPLES = 6
"""Images that are shown in the report."""


def verify_release(
    config: VerifyConfig, progress: Progress, given: LabelFile | None = None, engine: Engine | None = None
) -> VerifyResult:
    """Judge a release, or a generator, by training victims.

    ``given`` is what the label file of the clean images holds; None: it is read now. ``engine`` trains the victims;
    None: the one that ``config`` names.

    Raises:
        InputError: A fault of the input, found before anything is trained.
    """
    plan = checked_plan(config)
    own = engine_of(config.engine, config.ray_address, config.device, config.workers)
    with own if engine is None else nullcontext(engine) as found:
        return _Verification(config, plan, progress, found).result(given)


@dataclass
class _Verification:
    """One run of ``verify``.

    Attributes:
        config, plan: What was asked for.
        progress: Reports the work.
        engine: Trains the victims.
        notes: What the result tells beside its figures.
    """

    config: VerifyConfig
    plan: VerifyPlan
    progress: Progress
    engine: Engine
    notes: list[str] = field(default_factory=list)

    def result(self, given: LabelFile | None) -> VerifyResult:
        """Audit the release, train the victims, and judge; ``given`` as :func:`verify_release` takes it."""
        config, plan, started = self.config, self.plan, time.monotonic()
        trust = trust_of(None if config.protected is None else config.key, config.signer)
        starts = read_starts(config, plan)
        given = given or read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
        labels = given.table
        loaded = None if config.weights is None else load_checkpoint(resolve_weights(config.weights, labels.tasks))
        promise, table, own_test = checked_labels(config, plan, given, None if loaded is None else loaded.card)
        loaded, key, key_notes = (None, None, ()) if loaded is None else bound_to_key(loaded, config.key, given)
        device = choose_device(self.engine.device if self.engine.works_here else "cpu")
        described = self.engine.described(describe_device(device))
        self._show_subject(given, promise, described, key_notes)
        self._note([*promise.notes, *plan_notes(plan, table.tasks)])
        audit = self._audit(labels, trust)
        if promise.is_assumed:
            promise = promise.measured(None if audit is None else audit.max_change)
            self._note(promise.notes)
        told = partial(
            verify_result,
            subject=f"release {config.protected}" if loaded is None else f"generator {loaded.card.name}",
            tier=config.tier,
            command_line=config.command_line,
            device=described,
            versions=library_versions(),
            epsilon=promise.epsilon,
            key_fingerprint=None if key is None else key.key.fingerprint,
            notes=self.notes,
        )
        settings = settings_to_json(config, plan)
        if audit is not None and audit.faults:
            names = [condition.name for condition in plan.conditions] + [f"probe {name.value}" for name in plan.probes]
            return told(
                failed_audit(len(audit.faults), config.max_learned, config.metric),
                audit=audit,
                not_tested=(*plan.left_out, *(NotTested(name, "the audit failed") for name in names)),
                seconds=_since(started),
                settings=settings,
                counts=None,
                flip=None,
            )
        train, test = self._sides(table, own_test, audit)
        clean, made = self._images(train, "clean images"), None
        if loaded is not None:
            train, clean, made, quarantined = protect_side(loaded, train, labels, clean, config, device, self.progress)
            self._note(quarantined)
        data = self._data(table.tasks, train, test, promise)
        own_images, own_pairs = self._of_the_attacker(loaded, (train, test), labels, data.train_labels, device)
        learning = self._learning(data)
        settings["epochs"] = learning.epochs
        for start in starts.values():
            self.progress.note(f"fine-tuned victims start from {start.source}")
        cache = _cache(config, self.progress)
        sources = Sources(config, train, clean, made, audit, self.progress)
        lab = Laboratory(
            data,
            TrainingImages(clean, lambda: sources.release, promise.epsilon),
            learning,
            device,
            cache,
            starts | train_starts(config, plan, learning, (train, test), device, cache, self.progress),
            attackers_weights(config.weights, config.protected),
            own_images,
            own_pairs,
        )
        _check_floors(lab, config)
        plan = self._narrowed(lab, promise) if config.tier is Tier.ADAPTIVE else plan
        run = PlanRun(lab, config, plan, promise, self.progress, self.engine)
        judgement, probes = run.judgement(), run.probes()
        self._note(utility_notes(judgement.conditions, promise.kept))
        return told(
            judgement,
            victims=run.victims,
            audit=audit,
            probes=probes,
            not_tested=(*plan.left_out, *run.skipped),
            samples=(_pictures(clean), _pictures(sources.release)),
            sample_maps=[
                {task.name: coloured(data.train_labels[task.name][row].numpy(), task) for task in data.tasks.dense}
                for row in range(min(SAMPLES, len(clean)))
            ],
            settings=settings,
            counts=Counts(len(train.table), len(test.table)),
            flip=sources.flip(),
            seconds=_since(started),
        )

    def _note(self, found: Iterable[str]) -> None:
        """Tell the user, now and in the result."""
        for note in found:
            self.notes.append(note)
            self.progress.note(note)

    def _show_subject(self, given: LabelFile, promise: Promise, device: str, key_notes: Sequence[str]) -> None:
        """Show what becomes of each column, and where victims are trained."""
        names = given.table.tasks.names
        others = dict.fromkeys((name for name in names if name not in given.left_out), "is not protected")
        others |= dict.fromkeys(promise.kept, "is kept useful")
        for line in overview_lines(column_uses(given, promise.tasks, others), "measured", can_choose=False):
            self.progress.note(line)
        self.progress.note(f"device: {device}")
        for note in (*given.notes, *key_notes):
            self.progress.note(note)

    def _audit(self, labels: LabelTable, trust: Trust) -> Audit | None:
        """The check of a release's files; None if weights are judged."""
        config, progress = self.config, self.progress
        if config.protected is None:
            progress.note("judging the generator on images protected in memory; no released file is checked")
            return None
        audit = audit_release(
            config.protected,
            config.clean,
            labels,
            file_column=config.reading.file_column,
            workers=config.workers,
            on_start=lambda files: progress.start("audit", files),
            on_file=progress.advance,
            trust=trust,
        )
        progress.finish()
        for note in audit.notes:
            progress.note(note)
        return audit

    def _sides(self, table: LabelTable, own_test: Side | None, audit: Audit | None) -> tuple[Side, Side]:
        """Training and test images."""
        config, limit = self.config, self.plan.limit
        self.progress.start("reading files", None if limit is None else min(limit, len(table)))
        sides = divide(
            Side(config.clean, table),
            own_test,
            left_out=audit.quarantined if audit is not None else (),
            limit=limit,
            drawn=config.limit is None,
            fraction=config.test_fraction,
            seed=config.seed,
            on_file=self.progress.advance,
        )
        self.progress.finish()
        self._note(sides.notes)
        return sides.train, sides.test

    def _images(self, side: Side, what: str) -> Tensor:
        return load_images(side.folder, side.table.file_names, what, self.config, self.progress)

    def _data(self, tasks: TaskSet, train: Side, test: Side, promise: Promise) -> ExperimentData:
        """Labels, and clean test images."""
        config = self.config
        train_labels, test_labels = (
            load_labels(side.table, config.side, workers=config.workers) for side in (train, test)
        )
        return ExperimentData(
            with_spans(tasks, train_labels),
            train_labels,
            self._images(test, "test images"),
            test_labels,
            promise.tasks if promise.kept else None,
        )

    def _of_the_attacker(
        self,
        loaded: LoadedGenerator | None,
        judged: tuple[Side, Side],
        labels: LabelTable,
        train_labels: Mapping[str, Tensor],
        device: torch.device,
    ) -> tuple[Tensor | None, Pairs | None]:
        """The attacker's own clean images, and what the owner's service makes of them; None for what he has not."""
        config = self.config
        own_images = load_own_images(config, judged, self.progress)
        if own_images is None:
            return None, None
        self._note([f"the attacker has {len(own_images):,} clean images of his own"])
        wanted = max(one.attack.needs_own_pairs for one in self.plan.conditions)
        if loaded is None or not wanted or not len(loaded.card.tasks.image_level):
            return own_images, None
        mine, theirs, rows = service_pairs(loaded, judged[0], labels, own_images, wanted, config.seed, device)
        self._note([f"the owner protected {len(mine):,} images for the attacker, as a service"])
        return own_images, Pairs(mine, theirs, {name: column[rows] for name, column in train_labels.items()})

    def _learning(self, data: ExperimentData) -> LearningSettings:
        """How victims are trained."""
        return LearningSettings(
            epochs=self.plan.epochs_with(sum(images_a_network(LearnerName.MTL, data.train_labels, data.tasks))),
            batch_size=self.plan.batch_size,
            learning_rate=self.config.learning_rate,
            crop_size=self.config.size,
            seed=self.config.seed,
        )

    def _narrowed(self, lab: Laboratory, promise: Promise) -> VerifyPlan:
        """The plan of the adaptive tier, after short runs of all attackers."""
        config, epochs = self.config, lab.settings.epochs

        def short_runs(part: VerifyPlan, epochs: int) -> tuple[Sequence[ConditionFigures], Sequence[NotTested]]:
            brief = replace(lab, settings=replace(lab.settings, epochs=epochs))
            found = PlanRun(brief, replace(config, seeds=1), part, promise, self.progress, self.engine)
            figures = found.judgement().conditions
            return figures, [left for left in found.skipped if left.name not in found.failed]

        plan, notes = narrowed(self.plan, epochs, 60 * config.adaptive_minutes, short_runs, seeds=config.seeds)
        self._note(notes)
        return plan


def _cache(config: VerifyConfig, progress: Progress) -> ResultCache:
    """The finished victims that the user's key vouches for; none where there is no key."""
    if config.cache is None:
        return ResultCache(None, None)
    try:
        found = cache_key()
    except InputError as error:
        progress.note(f"no finished victim is kept in {config.cache} or taken from it: {error}")
        return ResultCache(None, None)
    for line in found.announced("authenticates finished victims"):
        progress.note(line)
    return ResultCache(config.cache, found.key, progress.note)


def _check_floors(lab: Laboratory, config: VerifyConfig) -> None:
    """Compute what constant guesses reach, before any victim is trained.

    Raises:
        InputError: No pixel of a task's maps is labelled where victims see them.
    """
    try:
        lab.scoring.floors(config.metric)
        _ = lab.scoring.place_floors
    except ValueError as error:
        raise InputError(f"a task cannot be tested: {error} in the centre of the images, which victims see") from None


def _pictures(images: Tensor) -> list[npt.NDArray[np.uint8]]:
    return [image.permute(1, 2, 0).contiguous().numpy() for image in images[:SAMPLES]]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
