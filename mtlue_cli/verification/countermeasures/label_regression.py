"""Label regression: subtract from the pixels what the published labels predict of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure, chunks, rounded_by_chance

PIXELS = 1024
"""Colour values of all images that are regressed at a time: 4 bytes each and image."""


@dataclass(frozen=True)
class LabelRegression(Countermeasure):
    """Regresses every colour value on the labels of all tasks and subtracts the labels' part; the mean stays.

    Whatever is fixed for a class is gone up to rounding, at any place and strength: with it the classes' own mean
    difference, a part of the natural content. What varies at random inside a class stays, and so does what depends on
    two tasks together but not on either.

    Attributes:
        ridge: Added to the diagonal of the normal equations, in images: a class of n images has its part shrunk by
            about ``n / (n + ridge)``.

    Source:
        Least squares; as a countermeasure to unlearnable examples measured by the authors of this tool. It is to
        class-wise perturbations what subtracting class means is for a single task; the sum over the tasks is fitted
        at once, since their labels are correlated. Images are rounded to 8 bits up or down by chance, which
        leaves no pattern (:func:`~.base.rounded_by_chance`).
    """

    title = "Label regression"
    source = "Least squares of the pixels on the labels; cf. Sandoval-Segura et al., NeurIPS 2023, for the linear case"
    image_level_only = True
    ridge: Annotated[float, Meta(gt=0)] = 1.0

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release without the part that its labels predict, ``(N, 3, S, S)`` uint8."""
        design = centred_design(view.labels, view.tasks.image_level)
        normal = design.T @ design
        normal.diagonal().add_(self.ridge)
        solved = torch.linalg.solve(normal, design.T)
        solved, design = solved.float().to(view.device), design.float().to(view.device)
        rng = torch.Generator().manual_seed(view.seed)
        values = images.flatten(1)
        cleaned = torch.empty_like(values)
        for columns in chunks(values.shape[1], PIXELS):
            pixels = values[:, columns].to(view.device).float()
            labels_part = design @ (solved @ (pixels - pixels.mean(dim=0)))
            cleaned[:, columns] = rounded_by_chance((pixels - labels_part).cpu(), rng)
            view.report(columns.stop / values.shape[1])
        return cleaned.view_as(images)


def centred_design(labels: Mapping[str, Tensor], tasks: TaskSet) -> Tensor:
    """One-hot labels of all tasks, each column less its mean over the labelled images, ``(N, sum of C)`` float64.

    Centred columns stand for the intercept. An unlabelled image is at the mean: zero in all columns of the task.
    """
    columns: list[Tensor] = []
    for task in tasks:
        index = labels[task.name]
        known = index >= 0
        hot = nn.functional.one_hot(index.clamp_min(0).long(), task.num_classes).double() * known.unsqueeze(1)
        hot[known] -= hot.sum(dim=0) / known.sum().clamp_min(1)
        columns.append(hot)
    return torch.cat(columns, dim=1)
