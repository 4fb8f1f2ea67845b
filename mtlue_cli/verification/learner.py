"""Learners: one network for all tasks, or one per task. They differ only in how they share the tasks out."""

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mtlue_cli.choices import LearnerName, WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.intervention import Intervention
from mtlue_cli.training.methods import TrainingMethod
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, train_multitask
from mtlue_cli.verification.split import draw

LEARNERS: Mapping[LearnerName, Callable[[TaskSet], tuple[TaskSet, ...]]] = {
    LearnerName.MTL: lambda tasks: (tasks,),
    LearnerName.STL: lambda tasks: tuple(tasks.subset([name]) for name in tasks.names),
}
"""How a learner shares the tasks out among networks: every task to exactly one."""

FEWEST_IMAGES = 2
"""Labelled images that a network needs: batch statistics of a single one are of no use."""

Test = Callable[[MultiTaskNetwork], Mapping[str, Tensor]]
"""Called with a network in evaluation mode; gives its outputs for the test images per task, such as ``(M, C)``."""


Halves = Sequence[float | None]
"""A figure measured on the first and on the second half of the test images; None where nothing is labelled."""


@dataclass(frozen=True)
class DenseEpoch:
    """What is kept of a dense task's predictions after one epoch: figures, for the maps would not fit into memory.

    Attributes:
        right: Share of labelled pixels that are right.
        halves: The main figure.
    """

    right: float
    halves: Halves


Read = Callable[[str, Tensor], DenseEpoch]
"""Called with a dense task's name and outputs for the test images, after every epoch."""


@dataclass(frozen=True)
class LearnedEpoch:
    """One epoch of all networks together.

    Attributes:
        record: Figures on the training images; the loss is the mean over the tasks.
        predictions: Image-level task to predicted classes of the test images, ``(M,)`` int32 on the CPU.
        dense: Dense task to what is kept of its predictions.
    """

    record: EpochRecord
    predictions: Mapping[str, Tensor]
    dense: Mapping[str, DenseEpoch] = field(default_factory=dict)


Networks = MutableMapping[tuple[str, ...], tuple[MultiTaskNetwork, TrainingMethod]]
"""Trained networks and their methods, by the names of their tasks."""


@dataclass(frozen=True)
class LearnerRun:
    """What a learner left.

    Attributes:
        epochs: In order.
        probabilities: Image-level task to class probabilities of the test images after the epoch that counts,
            ``(M, C)`` float32.
        maps: Dense task to its outputs for the test images after that epoch, ``(M, channels, S, S)`` float32.
        counted: Task to the epoch that counts, from 1: the last, or the one that validation images chose.
    """

    epochs: tuple[LearnedEpoch, ...]
    probabilities: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]
    counted: Mapping[str, int]

    def predictions(self) -> dict[str, Tensor]:
        """Image-level task to predicted classes of the test images after every epoch, ``(E, M)`` int32."""
        return {
            name: torch.stack([epoch.predictions[name] for epoch in self.epochs])
            for name in self.epochs[-1].predictions
        }

    def after(self, earlier: Sequence[LearnedEpoch]) -> "LearnerRun":
        """This run with the epochs before it, whose numbers they continue."""
        counted = {name: len(earlier) + epoch for name, epoch in self.counted.items()}
        return replace(self, epochs=(*earlier, *self.epochs), counted=counted)


def train_learner(
    learner: LearnerName,
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    device: torch.device,
    test: Test,
    *,
    intervention_factory: Callable[[TaskSet, Mapping[str, Tensor]], Intervention | None] | None = None,
    method_factory: Callable[[], TrainingMethod] | None = None,
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[LearnedEpoch], None] | None = None,
    read: Read | None = None,
    validate: Callable[[MultiTaskNetwork], float | None] | None = None,
    networks: Networks | None = None,
) -> LearnerRun:
    """Train the networks of a learner one after another, each on the images that have a label for it.

    Several networks have seeds of their own, drawn from ``settings.seed`` and their tasks' names, and no weighting:
    with one task there is nothing to weigh. At most one network is in memory. Images are ``(N, 3, S, S)`` uint8; labels
    are task name to ``(N,)`` int64, negative where unlabelled, or to label maps.

    ``intervention_factory`` makes what is done to the batches of one network, from its tasks and labels;
    ``method_factory`` makes its training method; ``on_step`` is called with the number of images in each step,
    ``on_epoch`` with each epoch that all networks have reached. Dense tasks need ``read``.

    ``validate`` scores a network after an epoch: of each network the epoch of the highest score counts, the earliest of
    equals. Without it, or where it cannot score a network and gives None, the last epoch counts. ``networks`` are
    trained on, where they have the same tasks, and take up the new ones.

    Raises:
        InputError: A network would have fewer than two labelled images; found before any is trained.
    """
    require_labelled(learner, labels, tasks)
    groups = LEARNERS[learner](tasks)
    epochs: list[LearnedEpoch] = []
    reached: dict[int, list[LearnedEpoch]] = {}
    probabilities: dict[str, Tensor] = {}
    maps: dict[str, Tensor] = {}
    counted: dict[str, int] = {}
    best: dict[tuple[str, ...], float] = {}

    def add(record: EpochRecord, network: MultiTaskNetwork) -> None:
        """Test a network after one of its epochs; report the epoch if it was the last network to reach it."""
        outputs = {name: scores.detach().float().cpu() for name, scores in test(network).items()}
        dense_outputs = {name: outputs.pop(name) for name in network.tasks.dense.names}
        predictions = {name: scores.argmax(dim=1).to(torch.int32) for name, scores in outputs.items()}
        score = None if validate is None else validate(network)
        if score is None:
            score = float(record.epoch)
        if score > best.get(network.tasks.names, -math.inf):
            best[network.tasks.names] = score
            counted.update(dict.fromkeys(network.tasks.names, record.epoch))
            probabilities.update({name: scores.softmax(dim=1) for name, scores in outputs.items()})
            maps.update(dense_outputs)
        assert read is not None or not dense_outputs
        dense = {name: read(name, found) for name, found in dense_outputs.items()} if read is not None else {}
        reached.setdefault(record.epoch, []).append(LearnedEpoch(record, predictions, dense))
        if len(reached[record.epoch]) == len(groups):
            epochs.append(_together(reached.pop(record.epoch)))
            if on_epoch is not None:
                on_epoch(epochs[-1])

    for group in groups:
        rows = _labelled(labels, group)
        own_labels = {name: labels[name][rows] for name in group.names}
        own_settings = settings
        if len(groups) > 1:
            # Does not depend on the other tasks.
            seed = int.from_bytes(draw("learner", settings.seed, " ".join(group.names).encode())[:4], "big")
            own_settings = replace(settings, seed=seed, weighting=WeightingName.LS)
        known = None if networks is None else networks.get(group.names)
        method = known[1] if known is not None else method_factory() if method_factory is not None else TrainingMethod()
        trained = train_multitask(
            images if bool(rows.all()) else images[rows],
            own_labels,
            group,
            own_settings,
            device,
            on_step,
            add,
            intervention=intervention_factory(group, own_labels) if intervention_factory is not None else None,
            method=method,
            network=None if known is None else known[0],
        )
        if networks is not None:
            networks[group.names] = trained, method
    return LearnerRun(
        tuple(epochs),
        {name: probabilities[name] for name in tasks.image_level.names},
        {name: maps[name] for name in tasks.dense.names},
        counted,
    )


def images_a_network(learner: LearnerName, labels: Mapping[str, Tensor], tasks: TaskSet) -> tuple[int, ...]:
    """How many images each network of a learner sees in one epoch."""
    return tuple(int(_labelled(labels, group).sum()) for group in LEARNERS[learner](tasks))


def require_labelled(learner: LearnerName, labels: Mapping[str, Tensor], tasks: TaskSet) -> None:
    """Refuse a learner that has too little to learn from.

    Raises:
        InputError: A network would have fewer than :data:`FEWEST_IMAGES` labelled images.
    """
    faults = [
        f"task {', '.join(group.names)}: {images} labelled training images, expected at least {FEWEST_IMAGES}"
        for group in LEARNERS[learner](tasks)
        if (images := int(_labelled(labels, group).sum())) < FEWEST_IMAGES
    ]
    if faults:
        raise InputError(
            "some networks have too few images to learn from",
            faults,
            "give more labelled images, leave these tasks out, or train one network for all tasks with --learner mtl",
        )


def _together(parts: Sequence[LearnedEpoch]) -> LearnedEpoch:
    """One epoch of networks of different tasks; each task counts the same in the loss."""
    records = [part.record for part in parts]
    accuracy = {name: value for record in records for name, value in record.accuracy.items()}
    loss = sum(record.loss * len(record.accuracy) for record in records) / len(accuracy)
    predictions = {name: classes for part in parts for name, classes in part.predictions.items()}
    dense = {name: kept for part in parts for name, kept in part.dense.items()}
    return LearnedEpoch(EpochRecord(records[0].epoch, records[0].epochs, loss, accuracy), predictions, dense)


def _labelled(labels: Mapping[str, Tensor], tasks: TaskSet) -> Tensor:
    """Which images have a label for any of ``tasks``, ``(N,)`` bool."""
    return torch.stack([labelled_rows(labels[task.name], task) for task in tasks]).any(dim=0)
