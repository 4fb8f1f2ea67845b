"""How far chance in the choice of test images may put a learned fraction off."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mtlue_cli.choices import MetricName
from mtlue_cli.documents import Document
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.verification.victim_result import VictimResult

RESAMPLES = 2000
"""Times that the test images are drawn anew."""

AT_ONCE = 100
"""Of these, how many are held as floats at a time."""

Hits = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


class Interval(Document, frozen=True):
    """Where a learned fraction may lie: percentiles over test images drawn anew (bootstrap).

    With several seeds it also covers how far these differ (Student's t).

    Attributes:
        low, high: Its ends; the figure lies between them.
        confidence: Share of such intervals that hold the true figure.
    """

    low: float
    high: float
    confidence: float


def packed(hits: Tensor) -> bytes:
    """``(M,)`` bool as one bit per image."""
    return np.packbits(hits.cpu().numpy()).tobytes()


@dataclass(frozen=True)
class Bootstrap:
    """Draws the test images anew, with replacement, the same ones for every victim.

    Each time the victims, the clean victims and the constant guess are scored on what was drawn. The training is not
    repeated, and the best epochs stay those that were chosen.

    Source:
        Percentile bootstrap of paired observations: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.

    Attributes:
        tasks: The image-level tasks.
        labels: Task name to ``(M,)`` int64, negative where unlabelled.
        first_half: ``(M,)`` bool, which test images choose an epoch that the others measure.
        metric: What victims are scored by. There is no interval of AUROC, which needs more than what was right.
        confidence: In (0, 1).
        seed: Of the drawing.
    """

    tasks: TaskSet
    labels: Mapping[str, Tensor]
    first_half: Tensor
    metric: MetricName
    confidence: float
    seed: int

    def interval(
        self,
        victims: Sequence[VictimResult],
        clean: Sequence[VictimResult],
        names: Sequence[str],
        learned: Repeated,
        *,
        at_best_epoch: bool = False,
    ) -> Interval | None:
        """Interval of ``learned``, the learned fraction averaged over the tasks called ``names``.

        None where it has no bounds, as the clean victims hardly beat the floor; for AUROC; for a task that labels every
        pixel, and for victims of whom it is not known which images they got right.
        """
        found = [victim.best_correct if at_best_epoch else victim.correct for victim in victims]
        known = [hits for hits in (*found, *(victim.correct for victim in clean)) if hits is not None]
        complete = len(known) == len(found) + len(clean) and all({*names} <= hits.keys() for hits in known)
        if self.metric is MetricName.AUROC or not complete:
            return None
        floor = self._scores(self._constant, names)
        references = [self._scores(self._read(victim.correct), names) for victim in clean]
        reference = np.mean(references, axis=0)
        scores = [self._scores(self._read(hits or {}), names, by_half=at_best_epoch) for hits in found]
        gap = reference - floor
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (np.mean(scores, axis=0) - floor) / gap
        count = len(learned.values)
        if count > 1:
            # The victims and the clean ones, by whose gain over the floor they are divided, both differ by seed.
            gains = [scores.mean() - floor.mean() for scores in references]
            spread = math.hypot(np.std(learned.values, ddof=1), learned.mean * np.std(gains, ddof=1) / gap.mean())
            off = float(spread) / count**0.5
            drawn = drawn + off * np.random.default_rng(self.seed).standard_t(count - 1, RESAMPLES)
        # Where the clean victim learns nothing, the fraction could be anything.
        bounded = np.isfinite(drawn) & (gap > 0)
        tail = (1 - self.confidence) / 2
        low = float(np.quantile(np.where(bounded, drawn, -np.inf), tail, method="lower"))
        high = float(np.quantile(np.where(bounded, drawn, np.inf), 1 - tail, method="higher"))
        if not np.isfinite([low, high]).all():
            return None
        least = self._least_reach(names) / float(gap.mean())
        return Interval(min(low, learned.mean - least), max(high, learned.mean + least), self.confidence)

    def _least_reach(self, names: Sequence[str]) -> float:
        """How far a share over so many images may be off if it is 0 or 1 in all draws: 3 / n for a confidence of 0.95.

        Source:
            The rule of three: Hanley and Lippman-Hand, JAMA 249, 1983.
        """
        sizes = [self._groups(name, by_half=False).sum(axis=1) for name in names]
        fewest = min(len(each) * int(each.min()) for each in sizes)  # each group weighs as much as every other
        return -math.log(1 - self.confidence) / max(1, fewest)

    def _scores(self, hits: Mapping[str, Hits], names: Sequence[str], *, by_half: bool = False) -> Values:
        """Mean score over the tasks each time, ``(RESAMPLES,)``, of who is right where ``hits`` say so."""
        groups = [self._groups(name, by_half=by_half) for name in names]
        right = self._sums(np.concatenate([hits[name] & group for name, group in zip(names, groups, strict=True)]))
        sizes = self._sums(np.concatenate(groups))
        with np.errstate(invalid="ignore"):
            shares = np.where(sizes > 0, right / np.maximum(sizes, 1), 0.0)
            ends = np.cumsum([len(group) for group in groups])[:-1]
            parts = zip(np.split(shares, ends, axis=1), np.split(sizes > 0, ends, axis=1), strict=True)
            scores: Values = np.mean([part.sum(axis=1) / drawn.sum(axis=1) for part, drawn in parts], axis=0)
        return scores

    def _groups(self, name: str, *, by_half: bool) -> Hits:
        """The images over which a share is counted, ``(G, M)``: a task's score is the mean of these shares."""
        truth = self.labels[name].cpu().numpy()
        groups: Hits = (truth >= 0)[None]
        if self.metric is MetricName.BALANCED:
            groups = truth == np.unique(truth[truth >= 0])[:, None]
        elif by_half:
            half = self.first_half.cpu().numpy()
            groups = groups & np.stack([half, ~half])
            groups = groups[groups.any(axis=1)]
        return groups

    def _sums(self, vectors: Hits) -> Values:
        """How many of the marked images are drawn each time, ``(RESAMPLES, K)``, for ``(K, M)`` marks."""
        marks = vectors.T.astype(np.float32)
        parts = [self._draws[start : start + AT_ONCE] for start in range(0, RESAMPLES, AT_ONCE)]
        return np.concatenate([part.astype(np.float32) @ marks for part in parts]).astype(np.float64)

    @cached_property
    def _draws(self) -> npt.NDArray[np.uint8]:
        """How often each image is drawn each time, ``(RESAMPLES, M)``."""
        rng, count = np.random.default_rng(self.seed), len(self.first_half)
        starts = count * np.arange(AT_ONCE)[:, None]  # each resample counts in a range of its own
        parts = (
            np.bincount((starts + rng.integers(count, size=(AT_ONCE, count))).ravel(), minlength=AT_ONCE * count)
            for _ in range(RESAMPLES // AT_ONCE)
        )
        return np.concatenate([part.astype(np.uint8).reshape(AT_ONCE, count) for part in parts])

    @cached_property
    def _constant(self) -> Mapping[str, Hits]:
        """Where the best constant guess is right, per task."""
        found: dict[str, Hits] = {}
        for task in self.tasks:
            truth = self.labels[task.name].cpu().numpy()
            found[task.name] = truth == np.bincount(truth[truth >= 0]).argmax()
        return found

    def _read(self, correct: Mapping[str, bytes]) -> dict[str, Hits]:
        count = len(self.first_half)
        return {
            name: np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(bool)
            for name, bits in correct.items()
        }
