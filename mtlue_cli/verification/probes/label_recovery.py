"""Label recovery: which labels can be read off the perturbation alone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.choices import ProbeName
from mtlue_cli.metrics.classification import accuracies, floors
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.verification.probes.base import ProbeResult, ProbeSample

ROWS = 256
"""Images that are held as floats at a time."""


@dataclass(frozen=True)
class LabelRecoverySettings:
    """What the classifier sees and how it is fitted.

    Attributes:
        resolution: Side of the averaged perturbation, in pixels.
        shrinkage: Share of the mean variance that is added to every variance, in the covariance within classes.
    """

    resolution: int = 16
    shrinkage: float = 0.1


def label_recovery(
    sample: ProbeSample, seed: int, device: torch.device, settings: LabelRecoverySettings | None = None
) -> ProbeResult:
    """Fit a linear classifier a task to ``release - originals`` of half of the images and test it on the other half.

    Args:
        sample: Originals, release and labels; a task without labels in either half is left out.
        seed: Of the division of the images.
        device: Where it is computed.
        settings: What the classifier sees.

    Returns:
        ``accuracy`` and ``floor``, the means over the tasks, and ``accuracy:TASK`` and ``floor:TASK`` of each; the
        floor is the majority class's share.

    Raises:
        ValueError: No task has labels in both halves.

    Source:
        Linear discriminant analysis with a shrunken covariance (Friedman, "Regularized Discriminant Analysis", JASA
        1989). That perturbations of unlearnable examples are linearly separable: Yu et al., "Availability Attacks
        Create Shortcuts", KDD 2022.
    """
    settings = settings or LabelRecoverySettings()
    order = torch.randperm(len(sample.originals), generator=torch.Generator().manual_seed(seed))
    fit_rows, test_rows = torch.tensor_split(order, 2)
    fit, test = (_deltas(sample, rows, settings.resolution, device) for rows in (fit_rows, test_rows))
    tasks = sample.tasks.subset(
        task.name
        for task in sample.tasks
        if all(bool((sample.labels[task.name][rows] >= 0).any()) for rows in (fit_rows, test_rows))
    )
    if not len(tasks):
        raise ValueError("label recovery needs a task that is labelled in both halves of the images")
    squares = fit.T @ fit
    scores = {
        task.name: discriminant_scores(
            fit, squares, sample.labels[task.name][fit_rows], test, task.num_classes, settings.shrinkage
        )
        for task in tasks
    }
    truth = {name: sample.labels[name][test_rows] for name in tasks.names}
    reached, floor = accuracies(scores, truth, tasks), floors(truth, tasks)
    figures = {"accuracy": sum(reached.values()) / len(tasks), "floor": sum(floor.values()) / len(tasks)}
    figures |= {f"accuracy:{name}": value for name, value in reached.items()}
    figures |= {f"floor:{name}": value for name, value in floor.items()}
    return ProbeResult(ProbeName.LABEL_RECOVERY, figures, _finding(figures["accuracy"], figures["floor"], tasks))


def discriminant_scores(
    fit: Tensor, squares: Tensor, labels: Tensor, test: Tensor, classes: int, shrinkage: float
) -> Tensor:
    """Linear discriminant scores: log prior plus log density of a normal with a covariance common to the classes.

    Args:
        fit: ``(N, D)`` float64.
        squares: ``fit.T @ fit``, the same for all tasks and most of the work.
        labels: ``(N,)`` int64; negative: left out.
        test: ``(M, D)`` float64.
        classes: Number of classes; one without a sample scores minus infinity.
        shrinkage: Share of the mean variance that is added to every variance.

    Returns:
        ``(M, classes)`` float64.
    """
    known = labels >= 0
    hot = nn.functional.one_hot(labels[known], classes).double()
    counts = hot.sum(dim=0)
    means = (hot.T @ fit[known]) / counts.clamp_min(1).unsqueeze(1)
    unknown = fit[~known]
    within = squares - unknown.T @ unknown - (means.T * counts) @ means
    covariance = within / counts.sum()
    # The constant keeps it solvable where nothing varies within classes.
    covariance.diagonal().add_(shrinkage * covariance.diagonal().mean() + 1e-6)
    weights = torch.linalg.solve(covariance, means.T)
    prior = counts.div(counts.sum()).log()
    scores: Tensor = test @ weights + prior - 0.5 * (means.T * weights).sum(dim=0)
    return scores


def _deltas(sample: ProbeSample, rows: Tensor, side: int, device: torch.device) -> Tensor:
    """Averaged perturbations, ``(N, 3 * side**2)`` float64 in 255ths."""
    parts = []
    for part in torch.split(rows, ROWS):
        delta = sample.release[part].to(device).float() - sample.originals[part].to(device).float()
        parts.append(nn.functional.adaptive_avg_pool2d(delta, min(side, delta.shape[-1])).flatten(1))
    # On the CPU: not every accelerator computes in float64.
    return torch.cat(parts).cpu().double()


def _finding(accuracy: float, floor: float, tasks: TaskSet) -> str:
    read = (accuracy - floor) / (1 - floor) if floor < 1 else 0.0
    if read < 0.1:
        verdict = "no better than guessing: the perturbation gives the labels away to no linear reader"
    elif read < 0.8:
        verdict = "more than guessing: labels show in the perturbation, mixed with what differs from image to image"
    else:
        verdict = "nearly all: the perturbation is a linear code of the labels, which label regression may remove"
    return (
        f"A linear reader of the perturbation names {accuracy:.1%} of the labels of {len(tasks)} "
        f"task{'s' if len(tasks) > 1 else ''} (majority guess {floor:.1%}), {verdict}."
    )
