"""Scores of dense predictions, and what a prediction that never looks at the image reaches.

A floor is the best constant, taken from the training labels and scored on the test labels: the class of most pixels,
the median depth (which no constant beats in absolute error), the mean normal. Pixels of all images count alike.
"""

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index
from torchmetrics.functional.regression import mean_absolute_error, mean_absolute_percentage_error

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.kinds import KINDS
from mtlue_cli.tasks.label_tensors import as_labels
from mtlue_cli.tasks.spec import Task

MIOU, PIXEL_ACCURACY = "miou", "pixel_accuracy"
ABSOLUTE_ERROR, RELATIVE_ERROR = "absolute_error", "relative_error"
MEAN_ANGLE, MEDIAN_ANGLE = "mean_angle", "median_angle"
ANGLES = (11.25, 22.5, 30.0)
"""Degrees within which a normal is called right, as the field has them."""

CONCLUSIVE_MARGIN = 0.02
"""A clean victim must beat the floor by this much, or its task says nothing about protection: a share by two points,
an error by 2 % of the floor's."""

_ROUNDING = 1e-9
"""Slack for the binary representation of shares such as 0.52 - 0.5."""

_MAIN = {TaskKind.SEGMENTATION: MIOU, TaskKind.DEPTH: ABSOLUTE_ERROR, TaskKind.NORMALS: MEAN_ANGLE}
_ERRORS = frozenset({ABSOLUTE_ERROR, RELATIVE_ERROR, MEAN_ANGLE, MEDIAN_ANGLE})


def main_metric(task: Task) -> str:
    """Name of the figure that a dense task is judged by: mIoU, absolute error or mean angle."""
    return _MAIN[task.kind]


def lower_is_better(metric: str) -> bool:
    """Whether ``metric`` is an error."""
    return metric in _ERRORS


def dense_scores(outputs: Tensor, labels: Tensor, task: Task) -> dict[str, float]:
    """Every figure of a dense task, over the labelled pixels of all images together.

    Outputs are ``(N, C, H, W)``: logits for segmentation, one channel of depth, or normals of any length. Labels are
    ``(N, H, W)`` class indices, or ``(N, C, H, W)`` depth or normals, as stored or as a loop sees them.

    Returns:
        Segmentation: ``miou`` (mean over the classes that are labelled or predicted) and ``pixel_accuracy`` in [0, 1].
        Depth: ``absolute_error`` in the task's unit, ``relative_error`` as a share of the depth. Normals:
        ``mean_angle`` and ``median_angle`` in degrees, ``within_11.25``, ``within_22.5`` and ``within_30`` as shares.

    Raises:
        ValueError: No pixel is labelled.
    """
    labels = as_labels(labels)
    known = KINDS[task.kind].known(labels)
    if not bool(known.any()):
        raise ValueError(f"task {task.name!r} has no labelled pixel")
    if task.kind is TaskKind.SEGMENTATION:
        classes, truth = outputs.argmax(dim=1)[known], labels[known]
        return {
            MIOU: float(multiclass_jaccard_index(classes, truth, num_classes=task.num_classes, average="macro")),
            PIXEL_ACCURACY: float(multiclass_accuracy(classes, truth, num_classes=task.num_classes, average="micro")),
        }
    given, wanted = (values.movedim(1, -1)[known].float() for values in (outputs, labels))
    if task.kind is TaskKind.DEPTH:
        return {
            ABSOLUTE_ERROR: float(mean_absolute_error(given, wanted)),
            RELATIVE_ERROR: float(mean_absolute_percentage_error(given, wanted)),
        }
    # The angle from both sine and cosine: the arc cosine alone has no resolution near 0.
    given, wanted = (torch.nn.functional.normalize(vectors.double(), dim=1) for vectors in (given, wanted))
    angles = torch.atan2(torch.linalg.cross(given, wanted).norm(dim=1), (given * wanted).sum(dim=1)).rad2deg()
    # A vector of no length has no direction; it is as wrong as a right angle.
    angles[given.norm(dim=1) == 0] = 90.0
    shares = {f"within_{limit:g}": float((angles <= limit).double().mean()) for limit in ANGLES}
    return {MEAN_ANGLE: float(angles.mean()), MEDIAN_ANGLE: float(angles.median()), **shares}


def dense_floor(train_labels: Tensor, test_labels: Tensor, task: Task, *, per_place: bool = False) -> dict[str, float]:
    """What the best constant of the training labels scores on the test labels, as :func:`dense_scores` has it.

    With ``per_place`` there is a constant for each place in the image: what is learned of where things usually are, and
    nothing of the image at hand. Both sets must then be of one size.

    Raises:
        ValueError: No pixel is labelled on one of the sides.
    """
    train = as_labels(train_labels)
    known = KINDS[task.kind].known(train)
    if not bool(known.any()):
        raise ValueError(f"task {task.name!r} has no labelled pixel")
    constant = _constant(train, known, task, per_place)
    if task.kind is TaskKind.SEGMENTATION:
        constant = torch.nn.functional.one_hot(constant, task.num_classes).movedim(-1, 0).float()
    size = test_labels.shape[-2:]
    return dense_scores(constant.expand(len(test_labels), -1, *size), test_labels, task)


def learned_fraction(protected: float, clean: float, floor: float) -> float:
    """Share of what clean images teach that is learned from protected ones; of an error it is what it falls by.

    ``(protected - floor) / (clean - floor)``, which for errors is ``(floor - protected) / (floor - clean)``: 1 as much
    as from clean images, 0 nothing, below 0 misled. Ask :func:`beats_floor` first.
    """
    return (protected - floor) / (clean - floor)


def beats_floor(clean: float, floor: float, metric: str) -> bool:
    """Whether a clean victim beats ``floor`` by :data:`CONCLUSIVE_MARGIN`: a learned fraction then means something."""
    if lower_is_better(metric):
        return clean <= (1 - CONCLUSIVE_MARGIN) * floor
    return clean - floor >= CONCLUSIVE_MARGIN - _ROUNDING


def _constant(train: Tensor, known: Tensor, task: Task, per_place: bool) -> Tensor:
    """The constant prediction, broadcastable to ``(C, H, W)``, of classes ``(H, W)`` or ``(1, 1)``.

    What has no labelled pixel at its place takes the constant of all places.
    """
    if task.kind is TaskKind.SEGMENTATION:
        counts = torch.stack([(train == index).sum(dim=0) for index in range(task.num_classes)])
        overall = counts.sum(dim=(1, 2)).argmax().view(1, 1)
        return torch.where(known.any(dim=0), counts.argmax(dim=0), overall) if per_place else overall
    if task.kind is TaskKind.DEPTH:
        overall = train[known[:, None]].median().view(1, 1, 1)
        if not per_place:
            return overall
        placed = torch.where(known[:, None], train, torch.nan).nanmedian(dim=0).values
    else:
        overall = train.sum(dim=(0, 2, 3)).view(3, 1, 1)
        if not per_place:
            return overall
        placed = torch.where(known.any(dim=0), train.sum(dim=0), torch.nan)
    return torch.where(placed.isnan(), overall, placed)
