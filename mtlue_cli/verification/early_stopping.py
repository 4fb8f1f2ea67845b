"""The best epoch of a victim, chosen on other images than those that it is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mtlue_cli.verification.by_content import draw_share


@dataclass(frozen=True)
class EarlyStop:
    """What an attacker reaches who stops at the best epoch.

    Attributes:
        accuracy: Task name to accuracy in [0, 1], of a dense task to the gain of its main figure.
        epochs: The best epoch by the first half, which is measured on the second, and the best by the second; from 1.
    """

    accuracy: Mapping[str, float]
    epochs: tuple[int, int]


def halve(images: Tensor, seed: int) -> Tensor:
    """Which images form the first half: ``(M,)`` bool, drawn by their content and ``seed``.

    Args:
        images: Clean test images, ``(M, 3, S, S)`` uint8.
        seed: Of the draw.
    """
    return draw_share(images, 0.5, seed, "early stopping")


Halves = tuple[float | None, float | None]
"""A figure measured on the first and on the second half of the test images; None where nothing is labelled."""


def stop_early(
    predictions: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    first_half: Tensor,
    gains: Mapping[str, Sequence[Halves]] | None = None,
) -> EarlyStop | None:
    """Choose the epoch on one half of the clean test images, measure it on the other, and the other way round.

    The best of many epochs on the images that it is chosen by is too good; each half judges only what the other chose.
    An epoch is judged by its mean accuracy over the tasks (for a dense task its main figure's gain), the earliest of
    equals wins, and a task's accuracy is the mean of its two measurements; a task that is labelled in one half only is
    chosen by and measured on that one alone.

    Args:
        predictions: Task name to class indices after every epoch, ``(E, M)`` integers.
        labels: Task name to ``(M,)`` int64, negative where unlabelled.
        first_half: ``(M,)`` bool, such as :func:`halve` gives.
        gains: Dense task to the gain of its main figure after every epoch; None: there are no dense tasks.

    Returns:
        The accuracies at the best epochs; None if one half has no label at all, so that it can choose nothing.

    Raises:
        ValueError: A task has no label in either half.
    """
    dense = gains or {}
    names = (*predictions, *dense)
    curves = [
        _accuracy_curves(predictions, labels, half) | _gain_curves(dense, side)
        for side, half in enumerate((first_half, ~first_half))
    ]
    unlabelled = [name for name in names if not any(name in half for half in curves)]
    if unlabelled:
        raise ValueError(f"tasks without a labelled image: {', '.join(unlabelled)}")
    if not all(curves):
        return None
    first, second = (_best_epoch(half) for half in curves)
    accuracy: dict[str, float] = {}
    for name in names:
        measured = [half[name][epoch] for half, epoch in zip(curves, (second, first), strict=True) if name in half]
        accuracy[name] = sum(measured) / len(measured)
    return EarlyStop(accuracy, (first + 1, second + 1))


def _accuracy_curves(
    predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor], half: Tensor
) -> dict[str, list[float]]:
    """Accuracy after every epoch of the tasks that have a label in this half."""
    curves: dict[str, list[float]] = {}
    for name, guesses in predictions.items():
        known = half & (labels[name] >= 0)
        if bool(known.any()):
            curves[name] = (guesses[:, known] == labels[name][known]).double().mean(dim=1).tolist()
    return curves


def _gain_curves(gains: Mapping[str, Sequence[Halves]], side: int) -> dict[str, list[float]]:
    """Gain after every epoch of the dense tasks that have a label in one half."""
    curves = {name: [halves[side] for halves in epochs] for name, epochs in gains.items()}
    return {name: known for name, curve in curves.items() if len(known := [v for v in curve if v is not None])}


def _best_epoch(curves: Mapping[str, list[float]]) -> int:
    """The earliest epoch of the highest mean over the tasks, from 0."""
    means = [sum(epoch) / len(epoch) for epoch in zip(*curves.values(), strict=True)]
    return means.index(max(means))
