"""One victim on one condition's training images, tested on clean images."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli import __version__
from mtlue_cli.choices import BackboneName, WeightingName
from mtlue_cli.devices import training_processes
from mtlue_cli.errors import DivergedError, InputError
from mtlue_cli.files import file_digest
from mtlue_cli.networks.concept_bottleneck import bottleneck_of
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.intervention import Intervention
from mtlue_cli.training.multitask_loop import LearningSettings, predict, steps_an_epoch
from mtlue_cli.training.pretrained import PretrainedStart
from mtlue_cli.training.runtime import choose_precision, data_digest
from mtlue_cli.verification.conditions import Condition, Material
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure, Pairs
from mtlue_cli.verification.learner import (
    FEWEST_IMAGES,
    LearnedEpoch,
    LearnerRun,
    Networks,
    images_a_network,
    require_labelled,
    train_learner,
)
from mtlue_cli.verification.result_cache import ResultCache, document_digest
from mtlue_cli.verification.scoring import Scoring
from mtlue_cli.verification.split import draw_share
from mtlue_cli.verification.training_images import FROM_CLEAN, TrainingImages
from mtlue_cli.verification.victim_result import ConceptResult, CurvePoint, VictimResult

RESULT_SCHEMA = 7
"""Of cached results; another number makes all earlier entries invalid."""

PAIRS = 200
"""Most originals with their protected versions that an attacker with a published generator is given."""

PAIRS_SHARE = 0.1
"""Most pairs as a share of the training images: with more he would simply train on his clean ones."""

FEWEST_PAIRS = 8

FEWEST_VALIDATION = 8
"""Validation images that an attacker who stops early needs."""

NO_SERVICE = "nobody protects the attacker's images for him: judge the generator with --weights instead of a release"

PACKAGES = ("numpy", "pillow", "torch", "torchmetrics", "torchvision")
"""What computes a result beside this program; another version may compute another one."""


@dataclass(frozen=True)
class ExperimentData:
    """What all conditions share.

    Attributes:
        tasks: What is learned.
        train_labels: Task name to ``(N,)`` int64, or to label maps, in the order of every condition's images.
        test_images: ``(M, 3, S, S)`` uint8, clean.
        test_labels: Task name to ``(M,)`` int64, or to label maps.
        judged: The tasks whose figures choose a best epoch; None: all.
    """

    tasks: TaskSet
    train_labels: Mapping[str, Tensor]
    test_images: Tensor
    test_labels: Mapping[str, Tensor]
    judged: tuple[str, ...] | None = None

    @cached_property
    def digest(self) -> str:
        """Identity of the shared data; hashed once for all conditions."""
        return document_digest(
            {
                "tasks": self.tasks.to_json(),
                "train": data_digest(torch.empty(0, dtype=torch.uint8), self.train_labels),
                "test": data_digest(self.test_images, self.test_labels),
                "judged": self.judged,
            }
        )


@dataclass(frozen=True)
class Laboratory:
    """Everything that stays the same from condition to condition.

    Attributes:
        data: Labels and test images.
        images: Clean and released training images.
        settings: Budget of every victim; backbone, weighting and seed are set by the condition.
        device: Where victims are trained.
        cache: Finished victims.
        starts: Where training methods that need one start from, by backbone.
        weights: The generator's checkpoint, where an attacker has it.
        own_images: Clean images of an attacker's own, ``(K, 3, S, S)`` uint8; None: he has none.
        own_pairs: Some of these and what the owner's service made of them, under labels of his choice; None: there is
            no service.
    """

    data: ExperimentData
    images: TrainingImages
    settings: LearningSettings
    device: torch.device
    cache: ResultCache
    starts: Mapping[BackboneName, PretrainedStart] = field(default_factory=dict)
    weights: Path | None = None
    own_images: Tensor | None = None
    own_pairs: Pairs | None = None

    def run(
        self,
        condition: Condition,
        seed: int,
        on_step: Callable[[int], None] | None = None,
        on_epoch: Callable[[CurvePoint], None] | None = None,
        on_preparation: Callable[[float], None] | None = None,
    ) -> VictimResult:
        """Train the victim of ``condition`` and test it after every epoch, or fetch it from the cache.

        The last epoch counts, and beside it the best one as chosen by clean images that it is not measured on. Of an
        attacker who stops early by validation images, the one that these choose counts, and no other.

        The seed is that of weights, order, augmentation and whatever the attacker draws. ``on_step`` is called with the
        number of images in each step, ``on_preparation`` with the share in [0, 1] of the attacker's preparation.

        Raises:
            InputError: As :meth:`require`, or the victim needs a start and there is none.
            DivergedError: Its loss or its output is not finite.
            ValueError: A task has no labelled test image.
        """
        self.require(condition)
        victim, start, settings = condition.victim, self._start(condition), self._settings(condition, seed)
        key = self.key_of(condition, seed)
        found = self.finished(key)
        if found is not None:
            return found
        started = time.monotonic()
        attack = condition.attack
        test_images = attack.at_inference(self.data.test_images)
        curve: list[CurvePoint] = []
        concepts: list[ConceptResult] = []

        def test(network: MultiTaskNetwork) -> Mapping[str, Tensor]:
            found = predict(network, test_images, settings.crop_size, self.device)
            if (bottleneck := bottleneck_of(network)) is not None:
                with bottleneck.without_residuals():
                    alone = predict(network, test_images, settings.crop_size, self.device)
                concepts.append(self.scoring.concepts(bottleneck, found, alone))
            return found

        def record(epoch: LearnedEpoch) -> None:
            scores = self.scoring.accuracies(epoch)
            figures = epoch.record
            curve.append(CurvePoint.of(len(curve) + 1, figures.loss, figures.accuracy, scores))
            if on_epoch is not None:
                on_epoch(curve[-1])

        run: LearnerRun | None = None
        networks: Networks | None = {} if condition.trajectory else None
        for images, labels in self.images.stages(condition, self.data.train_labels, seed):
            validate = None
            if attack.validation is not None:
                (images, labels), held_out = self.images.hold_out((images, labels), attack.validation, seed)
                validate = self._validator(attack.at_inference(held_out[0]), held_out[1])
            view = self._view(attack, labels, seed, on_preparation)
            done = run
            run = train_learner(
                victim.learner,
                attack.before_training(images, view),
                labels,
                self.data.tasks,
                settings,
                self.device,
                test,
                intervention_factory=partial(_intervention, attack, view),
                method_factory=partial(victim.method.build, start),
                on_step=on_step,
                on_epoch=record,
                read=self.scoring.read,
                validate=validate,
                networks=networks,
            )
            run = run if done is None else run.after(done.epochs)
        assert run is not None, "there is always something to train on"
        outputs = (bool(found.isfinite().all()) for found in (*run.probabilities.values(), *run.maps.values()))
        if curve[-1].loss is None or not all(outputs):
            raise DivergedError("its training diverged: the loss or the output is not finite")
        early = None if attack.validation is not None else self.scoring.early_stop(run)
        result = VictimResult(
            condition.name,
            seed,
            self.scoring.image_level(run),
            self.scoring.dense(run),
            None if early is None else early.accuracy,
            None if early is None else early.epochs,
            tuple(curve),
            round(time.monotonic() - started, 2),
            key,
            cached=False,
            correct=self.scoring.correct(run),
            best_correct=None if early is None else self.scoring.correct(run, early.epochs),
            stopped=None if attack.validation is None else run.counted,
            concepts=concepts[max(run.counted.values()) - 1] if concepts else None,
        )
        self.cache.store(key, result)
        return result

    def finished(self, key: str) -> VictimResult | None:
        """What the cache holds under a :meth:`key_of`; None if that is nothing, or a damaged entry."""
        found = self.cache.load(key)
        return found if found is not None and found.is_of(self.data.tasks) else None

    def require(self, condition: Condition) -> None:
        """Refuse a condition that cannot be run, as far as that is known before anything is trained.

        Raises:
            InputError: The countermeasure does not fit or lacks what it needs, or there is too little to learn from.
        """
        condition.notes(self.data.tasks)
        if condition.countermeasure is not None:
            side, has_weights = self.settings.crop_size, self.weights is not None  # batches are crops
            condition.countermeasure.require_fit(self.data.tasks, side, has_weights=has_weights)
        require_images(condition, len(self.images.clean))
        if condition.attack.needs_own_images and self.own_images is None:
            raise InputError("the attacker has no clean images of his own: give them with --attacker-images DIR")
        if condition.attack.needs_own_pairs and self.own_pairs is None:
            raise InputError(NO_SERVICE)
        if condition.attack.needs_own_pairs and self.own_pairs is not None:
            left = len(self.own_pairs.originals)
            if left < FEWEST_PAIRS:
                raise InputError(f"the generator could protect {left} of the attacker's images, too few for pairs")
        require_labelled(condition.victim.learner, self.data.train_labels, self.data.tasks)

    def steps_per_epoch(self, condition: Condition) -> int:
        """Optimiser steps of one epoch of the condition's victim; of several networks, of the one with most images."""
        images = max(images_a_network(condition.victim.learner, self.data.train_labels, self.data.tasks))
        return steps_an_epoch(images - round(_left_out(condition) * images), self.settings.batch_size)

    def images_seen(self, condition: Condition) -> int:
        """How many images all networks of the condition's victim see in its training: what progress is counted in."""
        images = sum(images_a_network(condition.victim.learner, self.data.train_labels, self.data.tasks))
        return round(images * condition.total_epochs(self.settings.epochs) * (1 - _left_out(condition)))

    def _validator(self, images: Tensor, labels: Mapping[str, Tensor]) -> Callable[[MultiTaskNetwork], float | None]:
        """Mean accuracy of a network on validation images, over those of its tasks that choose the epoch.

        None of a network without such a task.

        Raises:
            InputError: None of the images has a label.
        """
        tasks = self.data.tasks.image_level
        known = {name: labels[name] >= 0 for name in (self.data.judged or tasks.names) if name in tasks}
        if not any(bool(rows.any()) for rows in known.values()):
            raise InputError("no validation image has a label")

        def score(network: MultiTaskNetwork) -> float | None:
            outputs = predict(network, images, self.settings.crop_size, self.device)
            accuracies = [
                float((outputs[name].argmax(dim=1) == labels[name])[rows].double().mean())
                for name, rows in known.items()
                if name in outputs and bool(rows.any())
            ]
            return sum(accuracies) / len(accuracies) if accuracies else None

        return score

    def _view(
        self,
        countermeasure: Countermeasure,
        labels: Mapping[str, Tensor],
        seed: int,
        on_progress: Callable[[float], None] | None,
    ) -> AttackerView:
        pairs = self.own_pairs if countermeasure.needs_own_pairs else None
        if countermeasure.needs_pairs:
            rng = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(len(self.images.clean), generator=rng)[: _pairs_of(len(self.images.clean))]
            pair_labels = {name: column[chosen] for name, column in self.data.train_labels.items()}
            pairs = Pairs(self.images.clean[chosen], self.images.release()[chosen], pair_labels)
        return AttackerView(
            labels,
            self.data.tasks,
            pairs,
            self.settings.crop_size,
            seed,
            self.device,
            on_progress,
            self.images.epsilon,
            self.weights if countermeasure.needs_weights else None,
            self.own_images if countermeasure.needs_own_images else None,
        )

    @cached_property
    def _own_digest(self) -> str | None:
        return None if self.own_images is None else data_digest(self.own_images, {})

    @cached_property
    def _pairs_digest(self) -> str | None:
        return None if self.own_pairs is None else data_digest(self.own_pairs.protected, self.own_pairs.labels)

    @cached_property
    def scoring(self) -> Scoring:
        """What victims are scored by."""
        data = self.data
        first_half = draw_share(data.test_images, 0.5, self.settings.seed, "early stopping")
        crop = self.settings.crop_size
        return Scoring(data.tasks, data.train_labels, data.test_labels, crop, first_half, data.judged)

    def _start(self, condition: Condition) -> PretrainedStart | None:
        victim = condition.victim
        return self.starts.get(victim.backbone) if victim.method.needs_start else None

    def _settings(self, condition: Condition, seed: int) -> LearningSettings:
        victim, epochs = condition.victim, condition.stage_epochs(self.settings.epochs)
        return replace(self.settings, backbone=victim.backbone, weighting=victim.weighting, seed=seed, epochs=epochs)

    def key_of(self, condition: Condition, seed: int) -> str:
        """Digest of everything that decides the result; numbers go in as they are, not as names show them."""
        victim, countermeasure = condition.victim, condition.countermeasure
        settings, start = self._settings(condition, seed), self._start(condition)
        weights = self.weights if condition.attack.needs_weights else None
        packages = PACKAGES if settings.weighting is WeightingName.LS else (*PACKAGES, "torchjd")
        return document_digest(
            {
                "schema": RESULT_SCHEMA,
                "material": condition.material,
                "protected_fraction": condition.protected_fraction,
                "trajectory": condition.trajectory,
                "countermeasure": countermeasure and [countermeasure.family, countermeasure.settings_to_json()],
                "learner": victim.learner,
                "method": [victim.method.family, victim.method.settings_to_json()],
                "settings": asdict(settings),
                "start": None if start is None else start.digest,
                "clean": self.images.clean_digest,
                "release": None if condition.material in FROM_CLEAN else self.images.release_digest,
                "epsilon": None if condition.material is Material.CLEAN else self.images.epsilon,
                "weights": None if weights is None else file_digest(weights),
                "pairs": [PAIRS, PAIRS_SHARE],
                "own_images": self._own_digest if condition.attack.needs_own_images else None,
                **({"own_pairs": self._pairs_digest} if condition.attack.needs_own_pairs else {}),
                "data": self.data.digest,
                "halves": self.settings.seed,
                "device": self.device.type,
                "arithmetic": str(choose_precision(settings.precision, self.device)),
                **({} if (count := training_processes().count) == 1 else {"processes": count}),
                "versions": {"mtlue": __version__, **{package: version(package) for package in packages}},
            }
        )


def require_images(condition: Condition, images: int) -> None:
    """Refuse a condition that so many training images are too few for.

    Raises:
        InputError: They are.
    """
    if (validation := condition.attack.validation) is not None:
        held_out = round(validation.share * images)
        if held_out < FEWEST_VALIDATION:
            raise InputError(f"{held_out} validation images are too few, expected at least {FEWEST_VALIDATION}")
        if validation.clean > 0 and not round(validation.clean * held_out):
            raise InputError(
                f"clean={validation.clean:g} of {held_out} validation images is none, expected 0 or at least "
                f"{1 / held_out:.2g}"
            )
    if condition.attack.needs_pairs and _pairs_of(images) < FEWEST_PAIRS:
        raise InputError(f"{images} training images leave too few for pairs")
    if condition.material is Material.CLEAN_PART:
        clean = images - round(condition.protected_fraction * images)
        if clean < FEWEST_IMAGES:
            raise InputError(f"too little to learn from: {clean} of {images} images are clean")


def _pairs_of(images: int) -> int:
    """Originals with their protected versions that an attacker with a published generator is given."""
    return min(PAIRS, int(PAIRS_SHARE * images))


def _left_out(condition: Condition) -> float:
    """Share of the training images that the condition's victim is not trained on."""
    if condition.material is Material.CLEAN_PART:
        return condition.protected_fraction
    validation = condition.attack.validation
    return 0.0 if validation is None else validation.share


def _intervention(
    attack: Countermeasure, view: AttackerView, tasks: TaskSet, labels: Mapping[str, Tensor]
) -> Intervention | None:
    """What is done to the batches of a network of ``tasks``."""
    return attack.during_training(replace(view, tasks=tasks, labels=labels))
