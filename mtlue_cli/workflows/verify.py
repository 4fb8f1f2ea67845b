"""Verify: audit a release, train victims from scratch on it and on clean images, and judge what they learned."""

import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from mtlue_cli import __version__
from mtlue_cli.choices import BackboneName
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import LoadedGenerator, load_checkpoint
from mtlue_cli.generator.shipped import resolve_weights
from mtlue_cli.images.dataset import load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.metrics.classification import floors
from mtlue_cli.perturbation.batching import BatchedPerturbation
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.training.multitask_loop import LearningSettings
from mtlue_cli.training.runtime import choose_device, describe_device, placed
from mtlue_cli.verification.audit import Audit, audit_release
from mtlue_cli.verification.controls import uniform_noise
from mtlue_cli.verification.experiment import Condition, CurvePoint, ExperimentData, VictimResult, run_condition
from mtlue_cli.verification.in_memory import protect_in_memory
from mtlue_cli.verification.promise import Promise, promised, promised_by_release
from mtlue_cli.verification.report import VerifyResult
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.split import Side, Sides, divide
from mtlue_cli.verification.verdict import failed_audit, judge
from mtlue_cli.workflows.progress import Progress

CLEAN, PROTECTED, NOISE = "clean", "protected", "noise"
MARGIN = 1.1
"""Side of the loaded images over the side of the crops that a victim sees."""


@dataclass(frozen=True)
class VerifyConfig:
    """What to verify, and how.

    Attributes:
        clean, labels: The original images and their label file.
        protected: The release to judge; or
        weights: a generator, by name or path, to judge without a release. Exactly one of the two.
        test, test_labels: Clean test images; None: a share of ``clean`` is held out.
        test_fraction: That share, in (0, 1).
        file_column: Header of the file column.
        epochs, batch_size, learning_rate, backbone: Of every victim.
        size: Side in pixels of the crops that a victim sees.
        max_learned: Highest average learned fraction that still counts as protected.
        control: Whether to train a victim on uniform noise too.
        cache: Folder of finished victims; None: none is kept.
        limit: Only the first rows of the labels.
        seed: Of split, noise and victims.
        device: As the option says, such as ``auto``.
        workers: Threads that decode.
    """

    clean: Path
    labels: Path
    protected: Path | None = None
    weights: str | None = None
    test: Path | None = None
    test_labels: Path | None = None
    test_fraction: float = 0.2
    file_column: str | None = None
    backbone: BackboneName = BackboneName.RESNET18
    epochs: int = 8
    size: int = 64
    batch_size: int = 128
    learning_rate: float = 1e-3
    max_learned: float = 0.25
    control: bool = True
    cache: Path | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    workers: int = 2

    @property
    def side(self) -> int:
        """Side in pixels of the square images that are loaded."""
        return max(round(self.size * MARGIN), self.size)


def verify_release(config: VerifyConfig, progress: Progress) -> VerifyResult:
    """Judge a release, or a generator, by training victims.

    Raises:
        InputError: A fault of the input, found before anything is trained.
    """
    started = time.monotonic()
    _check_usage(config)
    labels = read_label_file(config.labels, file_column=config.file_column, for_learning=False).table
    match_labels(config.clean, labels)
    loaded = load_checkpoint(resolve_weights(config.weights, labels.tasks)) if config.weights is not None else None
    promise = _promise(config, loaded, labels.tasks)
    table = labels.recoded(labels.tasks.subset(promise.tasks))
    own_test = _read_test_side(config, table)
    device = choose_device(config.device)
    progress.note(f"device: {describe_device(device)}")
    for note in promise.notes:
        progress.note(note)
    subject = f"release {config.protected}" if loaded is None else f"generator {loaded.card.name}"
    setting: dict[str, Any] = {
        "settings": _settings_to_json(config),
        "device": describe_device(device),
        "versions": _versions(),
        "epsilon": promise.epsilon,
        "notes": list(promise.notes),
    }

    audit = None
    if config.protected is not None:
        audit = _audit(config, config.protected, labels, progress)
        if audit.faults:
            judgement = failed_audit(len(audit.faults), config.max_learned)
            return VerifyResult(judgement, audit, {}, subject, setting, _since(started))
    else:
        progress.note("judging the generator on images protected in memory; no released file is checked")

    sides = _divide(config, Side(config.clean, table), own_test, audit, progress)
    train, test = sides.train, sides.test
    floor = floors(test.labels(), table.tasks)
    clean_images = _load(train, "clean images", config, progress)
    test_images = _load(test, "test images", config, progress)
    data = ExperimentData(table.tasks, train.labels(), test_images, test.labels())

    def protected_images() -> Tensor:
        if loaded is not None:
            return _protect(loaded, train, labels, clean_images, config, device, progress)
        assert audit is not None and config.protected is not None  # noqa: PT018 - _check_usage saw to it
        names = tuple(audit.released[name] for name in train.table.file_names)
        released = LabelTable(names, train.table.columns, train.table.tasks)
        return _load(Side(config.protected, released), "released images", config, progress)

    conditions = [Condition(CLEAN, lambda: clean_images), Condition(PROTECTED, protected_images)]
    if config.control:
        conditions.append(Condition(NOISE, lambda: uniform_noise(clean_images, promise.epsilon, config.seed)))
    victims: dict[str, VictimResult] = {}
    for condition in conditions:
        victims[condition.name] = _run(condition, data, config, device, progress)
        accuracy = {name: victim.accuracy for name, victim in victims.items()}
        judgement = judge(
            table.tasks,
            floor,
            accuracy[CLEAN],
            accuracy.get(PROTECTED),
            accuracy.get(NOISE),
            promise.tasks,
            config.max_learned,
        )
        if not judgement.can_judge:
            break  # the clean victim learned nothing: more victims would tell nothing
    setting["counts"] = {"train_images": len(train.table), "test_images": len(test.table)}
    return VerifyResult(judgement, audit, victims, subject, setting, _since(started))


def _check_usage(config: VerifyConfig) -> None:
    if (config.protected is None) == (config.weights is None):
        raise InputError("give exactly one of --protected and --weights: a release to judge, or a generator")
    if (config.test is None) != (config.test_labels is None):
        raise InputError("--test and --test-labels belong together: a folder of clean test images and its labels")
    if config.test is None and not 0 < config.test_fraction < 1:
        raise InputError(f"--test-fraction is {config.test_fraction:g}, expected a share between 0 and 1")
    if config.protected is not None and not config.protected.is_dir():
        raise InputError(f"{config.protected} is no folder", hint="make a release with mtlue protect")
    if config.protected is not None and config.protected.resolve() == config.clean.resolve():
        raise InputError("the release and the clean images are the same folder")


def _read_test_side(config: VerifyConfig, table: LabelTable) -> Side | None:
    """Separate test images in the class indices of ``table``; None if a share is held out instead."""
    if config.test is None or config.test_labels is None:
        return None
    found = read_label_file(config.test_labels, file_column=config.file_column, for_learning=False).table
    match_labels(config.test, found)
    problems = table.tasks.unmet_by(found.tasks)
    if problems:
        raise InputError(f"the test labels {config.test_labels} do not fit {config.labels}", problems)
    return Side(config.test, found.recoded(table.tasks))


def _audit(config: VerifyConfig, release: Path, table: LabelTable, progress: Progress) -> Audit:
    audit = audit_release(
        release,
        config.clean,
        table,
        file_column=config.file_column,
        workers=config.workers,
        on_start=lambda files: progress.start("audit", files),
        on_file=progress.advance,
    )
    progress.finish()
    for note in audit.notes:
        progress.note(note)
    return audit


def _divide(config: VerifyConfig, images: Side, test: Side | None, audit: Audit | None, progress: Progress) -> Sides:
    progress.start("reading files", None if config.limit is None else min(config.limit, len(images.table)))
    sides = divide(
        images,
        test,
        left_out=audit.quarantined if audit is not None else (),
        limit=config.limit,
        fraction=config.test_fraction,
        seed=config.seed,
        on_file=progress.advance,
    )
    progress.finish()
    for note in sides.notes:
        progress.note(note)
    return sides


def _promise(config: VerifyConfig, loaded: LoadedGenerator | None, labels: TaskSet) -> Promise:
    if loaded is not None:
        return promised(loaded.card.epsilon, loaded.card.tasks.names, labels)
    assert config.protected is not None  # _check_usage saw to it
    return promised_by_release(config.protected, labels)


def _load(side: Side, what: str, config: VerifyConfig, progress: Progress) -> Tensor:
    progress.start(f"loading {what}", len(side.table))
    images = load_square_images(
        side.folder, side.table.file_names, config.side, workers=config.workers, on_image=progress.advance
    )
    progress.finish()
    return images


def _protect(
    loaded: LoadedGenerator,
    train: Side,
    labels: LabelTable,
    clean_images: Tensor,
    config: VerifyConfig,
    device: torch.device,
    progress: Progress,
) -> Tensor:
    generator = placed(loaded.generator, device).eval()
    # The generator takes all its tasks, also those that these labels cannot measure.
    row_of = {name: row for row, name in enumerate(labels.file_names)}
    given = labels.take(row_of[name] for name in train.table.file_names).recoded(loaded.card.tasks)
    progress.start("protecting in memory", len(clean_images))
    protected = protect_in_memory(
        BatchedPerturbation(generator, device),
        loaded.card.image_size,
        loaded.card.epsilon,
        train.folder,
        train.table.file_names,
        given.columns,
        clean_images,
        workers=config.workers,
        on_images=progress.advance,
    )
    progress.finish()
    return protected


def _run(
    condition: Condition, data: ExperimentData, config: VerifyConfig, device: torch.device, progress: Progress
) -> VictimResult:
    settings = LearningSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        crop_size=config.size,
        backbone=config.backbone,
        seed=config.seed,
    )
    # The stage opens after the images are there: loading them is a stage of its own.
    images = condition.images()
    progress.start(f"{condition.name} victim", len(images) * config.epochs)

    def on_epoch(point: CurvePoint) -> None:
        accuracy = sum(point.test_accuracy.values()) / len(point.test_accuracy)
        progress.advance(0, {"loss": point.loss, "accuracy": accuracy})

    result = run_condition(
        Condition(condition.name, lambda: images),
        data,
        settings,
        device,
        ResultCache(config.cache),
        on_step=progress.advance,
        on_epoch=on_epoch,
    )
    if result.cached:
        progress.advance(len(images) * config.epochs)
    progress.finish()
    if result.cached:
        progress.note(f"{condition.name} victim: finished earlier, taken from the cache")
    return result


def _settings_to_json(config: VerifyConfig) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def _versions() -> dict[str, str]:
    return {
        "mtlue": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
