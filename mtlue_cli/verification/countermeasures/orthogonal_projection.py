"""Orthogonal projection: remove the pixel directions that a linear model uses to tell the classes apart."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.tasks.losses import task_losses
from mtlue_cli.verification.countermeasures.base import CHUNK, AttackerView, Countermeasure, chunks, rounded_by_chance

DEPENDENT = 1e-4
"""A direction is dropped if this share or less of the longest one is left once the earlier directions are taken off."""


@dataclass(frozen=True)
class OrthogonalProjection(Countermeasure):
    """Trains a linear softmax model per task on the release's pixels and projects every image onto what it cannot see.

    Only the release is projected, not the images to be judged, as in the paper. What is linearly separable in pixels is
    removed, such as a pattern that is fixed for a class, and natural content along the same directions with it.

    Attributes:
        epochs: Passes over the release.
        batch_size: Images per step.
        learning_rate: Of gradient descent, against the inverse of the images' mean squared norm about their mean image:
            up to 4 it is stable whatever the images. Dropped to a tenth after half and three quarters of the epochs.
        resolution: Side in pixels of the averaged squares that the model sees; None: every pixel of the release.

    Source:
        Sandoval-Segura et al., "What Can We Learn from Unlearnable Datasets?", NeurIPS 2023, section 4.4: a linear
        model without bias, QR of its weights, ``x - Q Q^T x``. Deviations: (1) the models of all tasks are trained at
        once, each on its own loss, unlabelled cells masked; (2) the mean image of the release is taken off before
        training and projection and put back: without it the projection shifts every image alike, and much is clipped;
        (3) gradient descent starts from zero weights, has momentum 0.9, and its rate follows the norm of the images:
        the paper's 0.1 diverges on images larger than its 32 pixels; (4) a task of C classes gives C - 1 differences of
        its weight vectors, since the softmax ignores their sum; linearly dependent directions are dropped, for QR would
        return random ones; (5) the result is rounded by chance (:func:`~.base.rounded_by_chance`) and clipped to 8
        bits, where the paper trains on floats.

        What to expect on photographs: a linear model weighs the shortcut against the content, so its directions are not
        those of the shortcut. On 1,200 faces protected by the shipped weights, 98 % of the content's energy and 60 % of
        the amplitude of the perturbation's class means stayed.
    """

    title = "Orthogonal projection"
    source = "Sandoval-Segura et al., What Can We Learn from Unlearnable Datasets?, NeurIPS 2023"
    image_level_only = True
    epochs: Annotated[int, Meta(ge=1)] = 20
    batch_size: Annotated[int, Meta(ge=1)] = 256
    learning_rate: Annotated[float, Meta(gt=0)] = 3.0
    resolution: Annotated[int, Meta(ge=1)] | None = None

    @property
    def cost(self) -> float:
        """Against plain training."""
        return 1 + self.epochs / 200

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release without its linearly predictive directions, ``(N, 3, S, S)`` uint8."""
        mean = mean_image(images)
        basis = orthonormal_basis(self.directions(images, mean, view).flatten(1)).to(view.device)
        cleaned = torch.empty_like(images)
        offset = mean.flatten().to(view.device)
        rng = torch.Generator().manual_seed(view.seed)
        for rows in chunks(len(images), CHUNK):
            centred = images[rows].to(view.device).flatten(1).float() - offset
            centred -= (centred @ basis) @ basis.T
            cleaned[rows] = rounded_by_chance((centred + offset).cpu(), rng).view(-1, *images.shape[1:])
        return cleaned

    def directions(self, images: Tensor, mean: Tensor, view: AttackerView) -> Tensor:
        """Train a softmax model per task on ``(N, 3, S, S)`` uint8 images; the directions in which the classes differ.

        Returns:
            ``(sum of C - 1, 3, S, S)`` float on the CPU: weights of each class but a task's last, less the task's mean.
        """
        tasks, size = view.tasks.image_level, images.shape[-1]
        side = min(self.resolution or size, size)
        # (side, size), averages runs of pixels.
        pool = nn.functional.adaptive_avg_pool1d(torch.eye(size), side).t().contiguous().to(view.device)

        def seen(part: Tensor) -> Tensor:
            """uint8 images as a linear model sees them: ``(B, 3 * side**2)`` float in [-1, 1]."""
            pixels = (part.to(view.device).float() - mean.to(view.device)) / 255.0
            return (pixels if side == size else pool @ pixels @ pool.T).flatten(1)

        squares = [seen(part).square().sum() for part in torch.split(images, CHUNK)]
        norm = float(torch.stack(squares).cpu().double().sum()) / len(images)
        classes = [task.num_classes for task in tasks]
        weights = nn.Parameter(torch.zeros(sum(classes), 3 * side * side, device=view.device))
        optimizer = torch.optim.SGD([weights], self.learning_rate / max(norm, 1e-12), momentum=0.9)
        drops = [max(1, round(self.epochs * share)) for share in (0.5, 0.75)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
        rng = torch.Generator().manual_seed(view.seed)
        for epoch in range(self.epochs):
            for rows in torch.split(torch.randperm(len(images), generator=rng), self.batch_size):
                scores = torch.split(seen(images[rows]) @ weights.T, classes, dim=1)
                labels = {name: view.labels[name][rows].to(view.device) for name in tasks.names}
                losses = task_losses(dict(zip(tasks.names, scores, strict=True)), labels, tasks)
                optimizer.zero_grad(set_to_none=True)
                torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch
                optimizer.step()
            schedule.step()
            view.report((epoch + 1) / self.epochs)
        parts = torch.split(weights.detach(), classes)
        differences = torch.cat([(part - part.mean(dim=0))[:-1] for part in parts]).view(-1, 3, side, side)
        # A model that sees averages weighs each pixel by its share in them: the transpose of the averaging.
        return (pool.T @ differences @ pool).cpu()


def mean_image(images: Tensor) -> Tensor:
    """Mean over ``(N, 3, S, S)`` uint8 images, ``(3, S, S)`` float."""
    total = torch.zeros(images.shape[1:], dtype=torch.int64)
    for part in torch.split(images, CHUNK):
        total += part.sum(dim=0, dtype=torch.int64)
    return (total.double() / len(images)).float()


def orthonormal_basis(directions: Tensor) -> Tensor:
    """Orthonormal columns ``(D, rank)`` float that span ``(K, D)`` directions, which may be dependent or zero."""
    basis, triangle = torch.linalg.qr(directions.double().T)
    lengths = triangle.diagonal().abs()
    kept: Tensor = basis[:, lengths > DEPENDENT * directions.double().norm(dim=1).max()].float()
    return kept
