"""Verify: audit a release, train every victim that is asked for, and judge what they learned."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlue_cli.choices import LearnerName, Tier
from mtlue_cli.devices import choose_device, describe_device
from mtlue_cli.engines.engine import Engine, engine_of
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.shipped import resolve_weights, shipped_weights
from mtlue_cli.images.colouring import coloured
from mtlue_cli.images.dataset import load_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.keys import cache_key
from mtlue_cli.release.seal import trust_of
from mtlue_cli.tasks.label_tensors import with_spans
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.overview import column_uses, overview_lines
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.training.runtime import library_versions
from mtlue_cli.verification.audit import audit_release
from mtlue_cli.verification.bootstrap import Bootstrap
from mtlue_cli.verification.conditions import Condition, Material, Role, VictimSpec
from mtlue_cli.verification.countermeasures.base import Pairs
from mtlue_cli.verification.document import Counts
from mtlue_cli.verification.experiment import DivergedError, ExperimentData, Laboratory
from mtlue_cli.verification.figures import ConditionFigures, figures_of
from mtlue_cli.verification.learner import images_a_network
from mtlue_cli.verification.probes.base import FEWEST_IMAGES, ProbeFigures, ProbeSample
from mtlue_cli.verification.probes.registry import PROBES
from mtlue_cli.verification.promise import Promise, utility_notes
from mtlue_cli.verification.report import VerifyResult, verify_result
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.split import Side, divide
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.training_images import FROM_CLEAN, TrainingImages
from mtlue_cli.verification.verdict import Judgement, failed_audit, judge
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult
from mtlue_cli.workflows.progress import Progress, SilentProgress
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
    reason_of,
    require_asked,
    settings_to_json,
)
from mtlue_cli.workflows.verify.starts import read_starts, train_starts

GPU_SHARE = 0.25
"""Of a GPU, that a victim on a cluster takes: networks and images are small. Whether more fit well was not measured."""

CONFIDENCE = 0.95
"""Of the intervals that are shown where none is asked for."""

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
    if engine is not None:
        return _verified(config, plan, progress, given, engine)
    with engine_of(config.engine, config.ray_address, config.device, config.workers) as engine:
        return _verified(config, plan, progress, given, engine)


def _verified(
    config: VerifyConfig, plan: VerifyPlan, progress: Progress, given: LabelFile | None, engine: Engine
) -> VerifyResult:
    started = time.monotonic()
    trust = trust_of(None if config.protected is None else config.key, config.signer)
    starts = read_starts(config, plan)
    given = given or read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
    labels = given.table
    loaded = None if config.weights is None else load_checkpoint(resolve_weights(config.weights, labels.tasks))
    promise, table, own_test = checked_labels(config, plan, given, None if loaded is None else loaded.card)
    loaded, key, notes = (None, None, ()) if loaded is None else bound_to_key(loaded, config.key, given)
    device = choose_device("cpu" if engine.is_remote else config.device)
    described = engine.described(describe_device(device))
    others = dict.fromkeys((name for name in labels.tasks.names if name not in given.left_out), "is not protected")
    others |= dict.fromkeys(promise.kept, "is kept useful")
    for line in overview_lines(column_uses(given, promise.tasks, others), "measured", can_choose=False):
        progress.note(line)
    progress.note(f"device: {described}")
    planned = plan_notes(plan, table.tasks)
    for note in (*given.notes, *notes, *promise.notes, *planned):
        progress.note(note)
    setting: dict[str, Any] = {
        "subject": f"release {config.protected}" if loaded is None else f"generator {loaded.card.name}",
        "tier": config.tier,
        "command_line": config.command_line,
        "settings": settings_to_json(config, plan),
        "device": described,
        "versions": library_versions(),
        "epsilon": promise.epsilon,
        "key_fingerprint": None if key is None else key.key.fingerprint,
        "notes": [*promise.notes, *planned],
        "counts": None,
        "flip": None,
    }

    def note_all(found: Iterable[str]) -> None:
        """Tell the user, now and in the result."""
        for note in found:
            setting["notes"].append(note)
            progress.note(note)

    audit = None
    if config.protected is not None:
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
    else:
        progress.note("judging the generator on images protected in memory; no released file is checked")
    if audit is not None and audit.faults:
        names = [*(condition.name for condition in plan.conditions), *(f"probe {name.value}" for name in plan.probes)]
        return verify_result(
            failed_audit(len(audit.faults), config.max_learned, config.metric),
            audit=audit,
            not_tested=(*plan.left_out, *(NotTested(name, "the audit failed") for name in names)),
            seconds=_since(started),
            **setting,
        )

    progress.start("reading files", None if plan.limit is None else min(plan.limit, len(table)))
    sides = divide(
        Side(config.clean, table),
        own_test,
        left_out=audit.quarantined if audit is not None else (),
        limit=plan.limit,
        drawn=config.limit is None,
        fraction=config.test_fraction,
        seed=config.seed,
        on_file=progress.advance,
    )
    progress.finish()
    note_all(sides.notes)
    train, test = sides.train, sides.test
    clean, made = load_images(train.folder, train.table.file_names, "clean images", config, progress), None
    if loaded is not None:
        train, clean, made, quarantined = protect_side(loaded, train, labels, clean, config, device, progress)
        note_all(quarantined)
    setting["counts"] = Counts(len(train.table), len(test.table))
    train_labels = load_labels(train.table, config.side, workers=config.workers)
    data = ExperimentData(
        with_spans(table.tasks, train_labels),
        train_labels,
        load_images(test.folder, test.table.file_names, "test images", config, progress),
        load_labels(test.table, config.side, workers=config.workers),
        promise.tasks if promise.kept else None,
    )
    sources = Sources(config, train, clean, made, audit, progress)
    settings = LearningSettings(
        epochs=plan.epochs_with(sum(images_a_network(LearnerName.MTL, data.train_labels, data.tasks))),
        batch_size=plan.batch_size,
        learning_rate=config.learning_rate,
        crop_size=config.size,
        seed=config.seed,
    )
    setting["settings"]["epochs"] = settings.epochs
    own_images = load_own_images(config, (train, test), progress)
    if own_images is not None:
        note_all([f"the attacker has {len(own_images):,} clean images of his own"])
    own_pairs = None
    wanted_pairs = max(one.attack.needs_own_pairs for one in plan.conditions)
    if own_images is not None and loaded is not None and wanted_pairs and len(loaded.card.tasks.image_level):
        mine, theirs, rows = service_pairs(loaded, train, labels, own_images, wanted_pairs, config.seed, device)
        own_pairs = Pairs(mine, theirs, {name: column[rows] for name, column in train_labels.items()})
        note_all([f"the owner protected {len(mine):,} images for the attacker, as a service"])
    for start in starts.values():
        progress.note(f"fine-tuned victims start from {start.source}")
    cache = _cache(config, progress)
    lab = Laboratory(
        data,
        TrainingImages(clean, lambda: sources.release, promise.epsilon),
        settings,
        device,
        cache,
        starts | train_starts(config, plan, settings, (train, test), device, cache, progress),
        attackers_weights(config.weights, config.protected),
        own_images,
        own_pairs,
    )
    if config.tier is Tier.ADAPTIVE:

        def short_runs(part: VerifyPlan, epochs: int) -> tuple[Sequence[ConditionFigures], Sequence[NotTested]]:
            brief = replace(lab, settings=replace(settings, epochs=epochs))
            found = PlanRun(brief, replace(config, seeds=1), part, promise, progress, engine)
            return found.judgement().conditions, found.skipped

        plan, notes = narrowed(plan, settings.epochs, 60 * config.adaptive_minutes, short_runs)
        note_all(notes)
    run = PlanRun(lab, config, plan, promise, progress, engine)
    judgement, probes = run.judgement(), run.probes()
    note_all(utility_notes(judgement.conditions, promise.kept))
    setting["flip"] = sources.flip()
    return verify_result(
        judgement,
        victims=run.victims,
        audit=audit,
        probes=probes,
        not_tested=(*plan.left_out, *run.skipped),
        samples=(_pictures(clean), _pictures(sources.release)),
        sample_maps=[
            {task.name: coloured(train_labels[task.name][row].numpy(), task) for task in data.tasks.dense}
            for row in range(min(SAMPLES, len(clean)))
        ],
        seconds=_since(started),
        **setting,
    )


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


@dataclass(frozen=True)
class Unit:
    """One victim.

    Attributes:
        number: Of its condition among those that are trained together.
        condition, seed: What it is.
        trains: Whether it is to be trained; else its key in the cache is asked for.
    """

    number: int
    condition: Condition
    seed: int
    trains: bool = True

    def __str__(self) -> str:
        return f"{self.condition.name}, seed {self.seed}"


Done = Callable[[tuple[int, int, Any]], None]
"""Takes the number and the seed of a unit, and its result, its key, or why there is none."""


@dataclass(frozen=True)
class RemoteVictims:
    """Work on victims in another process.

    Attributes:
        lab: Everything that they share, without a cache.
        device: Where they are trained.
    """

    lab: Laboratory
    device: str

    @contextmanager
    def __call__(self) -> Iterator[Callable[[Unit, Done], None]]:
        """Make the work.

        Raises:
            MtlueError: A file that the attacker needs is not there.
        """
        weights = self.lab.weights
        if weights is not None and not weights.exists():  # those that come with the program may lie elsewhere here
            weights = shipped_weights().get(weights.stem)
            if weights is None:
                raise MtlueError(f"{self.lab.weights} is not on all computers of the cluster; put it where all see it")
        lab = replace(self.lab, device=choose_device(self.device), weights=weights)

        yield lambda unit, done: _work(lab.run if unit.trains else lab.key_of, unit, done)


def _work(attempt: Callable[[Condition, int], Any], unit: Unit, done: Done) -> None:
    try:
        found = attempt(unit.condition, unit.seed)
    except (DivergedError, InputError) as error:
        found = error
    done((unit.number, unit.seed, found))


def _given(images: Tensor) -> Tensor:
    return images


@dataclass
class PlanRun:
    """All conditions of one plan, as far as their clean victims learn anything.

    Attributes:
        lab: Where they are run.
        config, plan: What was asked for.
        promise: Which tasks are judged.
        progress: Reports the work.
        engine: Trains the victims.
        skipped: What was planned and could not be run, with the reason.
        victims: Digests of all victims that the judgement rests on.
    """

    lab: Laboratory
    config: VerifyConfig
    plan: VerifyPlan
    promise: Promise
    progress: Progress
    engine: Engine
    skipped: list[NotTested] = field(default_factory=list)
    victims: list[str] = field(default_factory=list)

    def judgement(self) -> Judgement:
        """Train everything and judge it; what rests on a clean victim that learned nothing is skipped.

        Raises:
            InputError: Something that was asked for cannot be run; found before anything is trained.
        """
        require_asked(self.plan, self.lab.require)
        conditions = self.plan.conditions
        victims: dict[Condition, Sequence[VictimResult]] = {}
        figures: dict[Condition, ConditionFigures] = {}
        useless: dict[VictimSpec, str] = {}
        # Clean victims come first: what rests on one that learns nothing need not be trained.
        references = [condition for condition in conditions if condition.role is Role.REFERENCE]
        for wave in (references, [condition for condition in conditions if condition.role is not Role.REFERENCE]):
            trained = self._train([condition for condition in wave if condition.victim not in useless])
            for condition in wave:
                if condition.victim in useless:
                    self._skip(condition, useless[condition.victim])
                    continue
                found = trained[condition]
                if isinstance(found, Exception):
                    self._skip(condition, reason_of(found))
                    if condition.role is Role.REFERENCE:
                        useless[condition.victim] = f"its victim cannot be trained on clean images: {reason_of(found)}"
                    continue
                victims[condition] = found
                clean = victims[Condition(condition.victim, Material.CLEAN)]
                figures[condition] = self._figures(condition, found, clean)
                if condition.role is Role.REFERENCE and figures[condition].average is None:
                    useless[condition.victim] = "its victim learns nothing from clean images either"
        in_order = [condition for condition in conditions if condition in figures]
        self.victims += [victim.digest for condition in in_order for victim in victims[condition]]
        names = [condition.name for condition in conditions]
        self.skipped.sort(key=lambda left: names.index(left.name))
        first = conditions[0].victim
        asked = {condition.name for condition in self.plan.asked}
        return judge(
            [figures[condition] for condition in in_order],
            self.config.metric,
            self.config.max_learned,
            self.promise.tasks,
            confidence=self.config.confidence,
            complete=first not in useless,
            missing=[left for left in self.skipped if left.name in asked],
        )

    def probes(self) -> tuple[ProbeFigures, ...]:
        """What is measured without a victim."""
        if not self.plan.probes:
            return ()
        if len(self.lab.images.clean) < FEWEST_IMAGES:
            self.skipped += [NotTested(f"probe {name.value}", "too few images") for name in self.plan.probes]
            return ()
        data = self.lab.data
        # Loading the release is a stage of its own.
        sample = ProbeSample(
            self.lab.images.clean,
            self.lab.images.release(),
            data.train_labels,
            data.tasks.subset(self.promise.tasks).image_level,
        )
        self.progress.start("probes", len(self.plan.probes))
        results: list[ProbeFigures] = []
        for name in self.plan.probes:
            try:
                results.append(PROBES[name].run(sample, self.config.seed, self.lab.device))
            except ValueError as error:
                self.skipped.append(NotTested(f"probe {name.value}", str(error)))
            self.progress.advance()
        self.progress.finish()
        return tuple(results)

    def _train(self, conditions: Sequence[Condition]) -> dict[Condition, Sequence[VictimResult] | Exception]:
        """The victims of each condition, or why one of them cannot be trained."""
        trained: dict[tuple[int, int], VictimResult] = {}
        errors: dict[int, Exception] = {}
        seeds = self.config.seed_range
        units = [Unit(number, condition, seed) for number, condition in enumerate(conditions) for seed in seeds]

        def done(outcome: tuple[int, int, VictimResult | Exception]) -> None:
            number, seed, found = outcome
            if isinstance(found, Exception):
                errors.setdefault(number, found)
            else:
                trained[number, seed] = found

        if self.engine.is_remote:
            self._train_afar(units, done)
        else:
            self.engine.run(self._here, (unit for unit in units if unit.number not in errors), done)
        return {
            condition: errors[number] if number in errors else [trained[number, seed] for seed in seeds]
            for number, condition in enumerate(conditions)
        }

    @contextmanager
    def _here(self) -> Iterator[Callable[[Unit, Done], None]]:
        """Work on victims in this process."""
        yield partial(_work, self._victim)

    @cached_property
    def _afar(self) -> RemoteVictims:
        release = partial(_given, self.lab.images.release())
        images = replace(self.lab.images, release=release)
        return RemoteVictims(
            replace(
                self.lab,
                images=images,
                cache=ResultCache(None, None, SilentProgress().note),
                device=torch.device("cpu"),
            ),
            self.engine.device,
        )

    def _train_afar(self, units: Sequence[Unit], done: Done) -> None:
        """Have workers train victims that are not in the cache, which is read and written here alone, with the key."""
        keys: dict[tuple[int, int], str | Exception] = {}
        self.engine.run(
            self._afar,
            [replace(unit, trains=False) for unit in units],
            lambda found: keys.__setitem__(found[:2], found[2]),
            GPU_SHARE,
        )
        left: list[Unit] = []
        for unit in units:
            key = keys[unit.number, unit.seed]
            found = self.lab.finished(key) if isinstance(key, str) else key
            if found is None:
                left.append(unit)
                continue
            if isinstance(found, VictimResult):
                self.progress.note(f"{self._name(unit.condition, unit.seed)}: finished earlier, taken from the cache")
            done((unit.number, unit.seed, found))

        def store(outcome: tuple[int, int, VictimResult | Exception]) -> None:
            if isinstance(outcome[2], VictimResult):
                self.lab.cache.store(outcome[2].digest, outcome[2])
            done(outcome)
            self.progress.advance()

        self.progress.start("victims", len(left))
        try:
            self.engine.run(self._afar, left, store, GPU_SHARE)
        finally:
            self.progress.finish()

    def _name(self, condition: Condition, seed: int) -> str:
        return condition.name if self.config.seeds == 1 else f"{condition.name} (seed {seed})"

    def _skip(self, condition: Condition, reason: str) -> None:
        self.skipped.append(NotTested(condition.name, reason))
        self.progress.note(f"not tested: {condition.name}: {reason}")

    def _figures(
        self, condition: Condition, victims: Sequence[VictimResult], clean: Sequence[VictimResult]
    ) -> ConditionFigures:
        data, metric = self.lab.data, self.config.metric
        floor, place_floor = self.lab.scoring.floors(metric), self.lab.scoring.place_floors
        steps, judged = self.lab.steps_per_epoch(condition), self.promise.tasks
        return figures_of(
            condition, victims, clean, floor, data.tasks, judged, metric, place_floor, steps, self.bootstrap
        )

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """What draws the test images anew for intervals."""
        data, config = self.lab.data, self.config
        confidence = CONFIDENCE if config.confidence is None else config.confidence
        first_half = self.lab.scoring.first_half
        return Bootstrap(data.tasks.image_level, data.test_labels, first_half, config.metric, confidence, config.seed)

    def _victim(self, condition: Condition, seed: int) -> VictimResult:
        name = self._name(condition, seed)
        if condition.material not in FROM_CLEAN:
            self.lab.images.release()  # loading the release is a stage of its own
        total = self.lab.images_seen(condition)
        self.progress.start(name, total)

        def on_epoch(point: CurvePoint) -> None:
            accuracy = sum(point.test_accuracy.values()) / len(point.test_accuracy)
            self.progress.advance(0, {"loss": math.nan if point.loss is None else point.loss, "accuracy": accuracy})

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


def _pictures(images: Tensor) -> list[npt.NDArray[np.uint8]]:
    return [image.permute(1, 2, 0).contiguous().numpy() for image in images[:SAMPLES]]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
