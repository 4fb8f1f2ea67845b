"""A finished victim: its figures, and their form in JSON."""

import math
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from mtlue_cli.choices import MetricName
from mtlue_cli.documents import Document
from mtlue_cli.tasks.spec import Task, TaskSet

Share = Annotated[float, Meta(ge=0, le=1)]
Figure = Annotated[float, Meta(ge=0)]


class CurvePoint(Document, frozen=True, rename={"loss": "train_loss"}):
    """A victim after one epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean loss over the epoch's batches; null if it was not finite.
        train_accuracy: Task to accuracy on the images that the victim trained on, or null.
        test_accuracy: Task to accuracy on clean images; of a task that labels every pixel, in both, the share of pixels
            that are right: the class, a depth within a quarter of the true one, a normal within 30 degrees.
    """

    epoch: int
    loss: float | None
    train_accuracy: Mapping[str, float | None]
    test_accuracy: Mapping[str, Share]

    @classmethod
    def of(
        cls, epoch: int, loss: float, train_accuracy: Mapping[str, float], test_accuracy: Mapping[str, float]
    ) -> "CurvePoint":
        """What was measured; None for what is not finite, which JSON cannot hold."""
        trained = {name: _finite(value) for name, value in train_accuracy.items()}
        return cls(epoch, _finite(loss), trained, dict(test_accuracy))


class ConceptResult(Document, frozen=True):
    """What a victim with a concept bottleneck reaches on test images after its last epoch.

    Attributes:
        target: The column that is predicted through the others.
        concepts, residuals: Classes of the other columns, and vectors that complete them.
        length: Mean number of characters of a concept's name.
        accuracy: Of the target.
        by_concepts: Of the target from the concepts alone.
    """

    target: str
    concepts: int
    residuals: int
    length: float
    accuracy: Share
    by_concepts: Share

    @property
    def efficiency(self) -> float:
        """Accuracy in percent over number times mean length of concepts, those that the vectors stand for included.

        Source:
            Concept Utilization Efficiency of Shang et al., CVPR 2024: what accuracy is worth against number and length
            of the concepts. Deviation: a plain ratio, without a factor of scale.
        """
        return 100 * self.accuracy / ((self.concepts + self.residuals) * self.length)

    @property
    def efficiency_by_concepts(self) -> float:
        """The same of the concepts alone."""
        return 100 * self.by_concepts / (self.concepts * self.length)


class VictimResult(Document, frozen=True):
    """A finished victim.

    Attributes:
        condition: Name of its row.
        seed: Of its weights, order and augmentation.
        scores: Metric to image-level task to the figure on test images after the last epoch, or that of ``stopped``;
            None where there is none.
        dense: Dense task to its figures on test images after the last epoch, by name.
        best_accuracy: Task name to test accuracy of who stops at the best epoch by other clean images, of a dense task
            to its main figure; None where too few are labelled to choose by.
        best_epochs: The epochs that were chosen by either half of the test images.
        curve: Figures after every epoch.
        seconds: What its training took (when it was trained, if it comes from the cache).
        digest: Identity of everything that determines it.
        cached: Whether it comes from the cache.
        correct: Image-level task to a bit per test image, in their order: whether it is right after the last epoch.
        best_correct: The same at the best epochs, each half of the images at the epoch that the other chose.
        stopped: Task to the epoch, from 1, that validation images chose, and that all figures are of in place of the
            last; None: the last counts.
        concepts: Of a victim with a concept bottleneck.
    """

    condition: str
    seed: int
    scores: Mapping[MetricName, Mapping[str, Share | None]]
    dense: Mapping[str, Mapping[str, Figure]]
    best_accuracy: Mapping[str, Figure] | None
    best_epochs: tuple[int, int] | None
    curve: tuple[CurvePoint, ...]
    seconds: float
    digest: str
    cached: bool
    correct: Mapping[str, bytes] = {}
    best_correct: Mapping[str, bytes] | None = None
    stopped: Mapping[str, int] | None = None
    concepts: ConceptResult | None = None

    def figure(self, task: Task, measure: str) -> float | None:
        """The figure called ``measure`` of a task after the last epoch; None where there is none."""
        if task.is_dense:
            return self.dense[task.name].get(measure)
        return self.scores[MetricName(measure)][task.name]

    def measures(self, task: Task) -> tuple[str, ...]:
        """Names of all figures of a task."""
        return tuple(self.dense[task.name]) if task.is_dense else tuple(MetricName)

    def is_of(self, tasks: TaskSet) -> bool:
        """Whether it has every figure of these tasks, and no share above 1."""
        every, alone = {*tasks.names}, {*tasks.image_level.names}
        best = dict.fromkeys(every, 0.0) if self.best_accuracy is None else self.best_accuracy
        return (
            all(alone <= self.scores.get(metric, {}).keys() for metric in MetricName)
            and {*tasks.dense.names} <= self.dense.keys()
            and every <= best.keys()
            and all(best[name] <= 1 for name in alone)
            and all(every <= point.test_accuracy.keys() for point in self.curve)
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
