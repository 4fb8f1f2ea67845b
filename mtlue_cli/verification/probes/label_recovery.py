"""Label recovery: which labels can be read off the perturbation alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.choices import ProbeName
from mtlue_cli.metrics.classification import accuracies, floors
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.verification.probes.base import ROWS, Probe, ProbeFigures, ProbeSample

Reader = Callable[[ProbeSample, Tensor, Tensor, TaskSet, torch.device], dict[str, Tensor]]
"""Fits on the first rows, reads the second ones: scores ``(M, C)`` of each task."""


@dataclass(frozen=True)
class LabelRecovery(Probe):
    """Fits a linear classifier a task to ``release - originals`` of half of the images and tests it on the other half.

    There are two readers: a coarse one of averaged perturbations, which needs few images, and a fine one that sees
    every pixel. The better one on a third of the first half, fitted on the other two thirds, reads the second half. A
    task without labels in either half is left out.

    The figures are ``accuracy`` and ``floor`` (the majority class's share), the means over the tasks, and those of each
    task as ``accuracy:TASK`` and ``floor:TASK``.

    Attributes:
        resolution: Side of the averaged perturbation, in pixels, of the coarse reader.
        shrinkage: Share of the mean variance that is added to every variance: in the covariance within classes, and
            in the inner products of the fine reader.
        fine_resolution: Largest side of the perturbation that the fine reader sees.
        fine_images: Most images that the fine reader learns from.

    Source:
        Linear discriminant analysis with a shrunken covariance (Friedman, "Regularized Discriminant Analysis", JASA
        1989); the fine reader is ridge regression of the one-hot labels through inner products. That perturbations of
        unlearnable examples are linearly separable: Yu et al., "Availability Attacks Create Shortcuts", KDD 2022.
    """

    resolution: int = 16
    shrinkage: float = 0.1
    fine_resolution: int = 96
    fine_images: int = 1000
    title = "labels read off the perturbation"

    def run(self, sample: ProbeSample, seed: int, device: torch.device) -> ProbeFigures:
        """Accuracies and floors; ``ValueError`` if no task has labels in both halves."""

        def reached_by(reader: Reader, fit: Tensor, test: Tensor, tasks: TaskSet) -> dict[str, float]:
            truth = {name: sample.labels[name][test] for name in tasks.names}
            return accuracies(reader(sample, fit, test, tasks, device), truth, tasks)

        fit, test = sample.divided(seed, 2)
        tasks = _labelled_in(sample, fit, test)
        if not len(tasks):
            raise ValueError("label recovery needs a task that is labelled in both halves of the images")
        inner_fit, inner_test = torch.tensor_split(fit, (2 * len(fit) // 3,))
        known = _labelled_in(sample, inner_fit, inner_test)
        reader: Reader = self.read_coarsely
        if len(known):
            readers = (self.read_coarsely, self.read_finely)
            coarse, fine = (sum(reached_by(tried, inner_fit, inner_test, known).values()) for tried in readers)
            reader = self.read_finely if fine > coarse else self.read_coarsely
        reached = reached_by(reader, fit, test, tasks)
        floor = floors({name: sample.labels[name][test] for name in tasks.names}, tasks)
        figures = {"accuracy": sum(reached.values()) / len(tasks), "floor": sum(floor.values()) / len(tasks)}
        figures |= {f"accuracy:{name}": value for name, value in reached.items()}
        figures |= {f"floor:{name}": value for name, value in floor.items()}
        finding = _finding(figures["accuracy"], figures["floor"], tasks)
        return ProbeFigures(ProbeName.LABEL_RECOVERY, self.title, figures, finding)

    def read_coarsely(
        self, sample: ProbeSample, fit_rows: Tensor, test_rows: Tensor, tasks: TaskSet, device: torch.device
    ) -> dict[str, Tensor]:
        """Linear discriminant analysis of averaged perturbations; a :data:`Reader`."""
        # On the CPU: not every accelerator computes in float64.
        fit, test = (_deltas(sample, rows, self.resolution, device).cpu().double() for rows in (fit_rows, test_rows))
        squares = fit.T @ fit
        return {
            task.name: discriminant_scores(
                fit, squares, sample.labels[task.name][fit_rows], test, task.num_classes, self.shrinkage
            )
            for task in tasks
        }

    def read_finely(
        self, sample: ProbeSample, fit_rows: Tensor, test_rows: Tensor, tasks: TaskSet, device: torch.device
    ) -> dict[str, Tensor]:
        """Ridge regression on every pixel; a :data:`Reader`."""
        labelled = torch.stack([sample.labels[name][fit_rows] >= 0 for name in tasks.names]).any(dim=0)
        fit_rows = fit_rows[labelled][: self.fine_images]
        fit = _deltas(sample, fit_rows, self.fine_resolution, device)
        mean = fit.mean(dim=0)
        fit -= mean
        parts = (_deltas(sample, rows, self.fine_resolution, device) for rows in torch.split(test_rows, ROWS))
        across = torch.cat([((part - mean) @ fit.T).cpu() for part in parts]).double()
        products = (fit @ fit.T).cpu().double()
        return {
            task.name: ridge_scores(
                products, across, sample.labels[task.name][fit_rows], task.num_classes, self.shrinkage
            )
            for task in tasks
        }


def ridge_scores(products: Tensor, across: Tensor, labels: Tensor, classes: int, shrinkage: float) -> Tensor:
    """Ridge regression of one-hot labels on features that are known by their inner products.

    Inner products of the fit with itself are ``(N, N)`` float64, ``across`` from what is read to the fit ``(M, N)``;
    labels are ``(N,)`` int64, negative where left out. A share of the mean squared length is added to every one.

    Returns:
        ``(M, classes)`` float64; without a label the same for all classes.
    """
    known = labels >= 0
    if not bool(known.any()):
        return across.new_zeros(len(across), classes)
    hot = nn.functional.one_hot(labels[known], classes).double()
    prior = hot.mean(dim=0)
    own = products[known][:, known]
    # The constant keeps it solvable where no image was changed.
    own.diagonal().add_(shrinkage * own.diagonal().mean() + 1e-6)
    scores: Tensor = across[:, known] @ torch.linalg.solve(own, hot - prior) + prior
    return scores


def discriminant_scores(
    fit: Tensor, squares: Tensor, labels: Tensor, test: Tensor, classes: int, shrinkage: float
) -> Tensor:
    """Linear discriminant scores: log prior plus log density of a normal with a covariance common to the classes.

    The fit is ``(N, D)`` float64, its labels ``(N,)`` int64, negative where left out; ``squares``, ``fit.T @ fit``, is
    most of the work, and the same for all tasks. A share of the mean variance is added to every variance.

    Returns:
        ``(M, classes)`` float64 for a test ``(M, D)``; minus infinity for a class without a sample.
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


def _labelled_in(sample: ProbeSample, *parts: Tensor) -> TaskSet:
    """Tasks with a label in each of the parts."""
    return sample.tasks.subset(
        task.name for task in sample.tasks if all(bool((sample.labels[task.name][rows] >= 0).any()) for rows in parts)
    )


def _deltas(sample: ProbeSample, rows: Tensor, side: int, device: torch.device) -> Tensor:
    """Averaged perturbations, ``(N, 3 * side**2)`` float32 in 255ths on ``device``."""
    parts = []
    for part in torch.split(rows, ROWS):
        delta = sample.release[part].to(device).float() - sample.originals[part].to(device).float()
        parts.append(nn.functional.adaptive_avg_pool2d(delta, min(side, delta.shape[-1])).flatten(1))
    return torch.cat(parts)


def _finding(accuracy: float, floor: float, tasks: TaskSet) -> str:
    read = (accuracy - floor) / (1 - floor) if floor < 1 else 0.0
    if read < 0.1:
        verdict = "no better than guessing: no linear model can read the labels from the perturbation"
    elif read < 0.8:
        verdict = "more than guessing: labels show in the perturbation, mixed with what differs from image to image"
    else:
        verdict = "nearly all: the perturbation is a linear code of the labels, which label regression may remove"
    return (
        f"A linear reader of the perturbation names {accuracy:.1%} of the labels of {len(tasks)} "
        f"task{'s' if len(tasks) > 1 else ''} (majority guess {floor:.1%}), {verdict}."
    )
