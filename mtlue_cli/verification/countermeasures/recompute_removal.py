"""Removal by recomputing: run the published generator on the release and subtract what it would add."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.generator import Generator
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.tasks.label_tensors import as_labels, class_shares
from mtlue_cli.tasks.spec import UNLABELLED, TaskSet
from mtlue_cli.verification.countermeasures.base import CALL, AttackerView, Countermeasure, chunks


@dataclass(frozen=True)
class RecomputeRemoval(Countermeasure):
    """Computes the perturbation of each released image from its published labels and subtracts it.

    It measures what the weights alone are worth to an attacker. With learned embeddings they are all that he needs: the
    perturbation of the released image is close to that of its original, which a second round comes nearer to. With
    universal weights he lacks the key and draws one of his own; what he subtracts is then another perturbation.

    Attributes:
        rounds: Times that the perturbation is computed: first for the released image, then for what was left of it.

    Source:
        Measured by the authors of this tool; the fixed-point iteration is the usual way to undo a residual map, as in
        Behrmann et al., "Invertible Residual Networks", ICML 2019. Classes of the labels that the generator does not
        know count as unlabelled. A bound of the release other than the generator's own scales what is subtracted.
    """

    title = "Removal by recomputing"
    source = "The generator's own definition (Yu et al., ICML 2025), inverted as in Behrmann et al., ICML 2019"
    rounds: Annotated[int, Meta(ge=1)] = 2
    needs_weights = True

    @property
    def cost(self) -> float:
        """Against plain training."""
        return 1 + 0.05 * self.rounds

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release less what the attacker computes, ``(N, 3, S, S)`` uint8.

        Raises:
            ValueError: He has no weights.
        """
        if view.weights is None:
            raise ValueError("removal by recomputing needs the weights of the generator")
        published = {name: view.labels[name].cpu() for name in view.tasks.names}
        shares = dict(zip(view.tasks.names, class_shares(published, view.tasks), strict=True))
        # Not the owner's key, which the attacker lacks.
        key = Key(hashlib.sha256(f"the key of an attacker, {view.seed}".encode()).digest())
        loaded = load_checkpoint(view.weights).bound(key, view.tasks, shares)
        generator = Generator(loaded, view.device)
        cleaned = torch.empty_like(images)
        for rows in chunks(len(images), CALL):
            given = {name: column[rows] for name, column in view.labels.items()}
            known = known_labels(given, view.tasks, loaded.card.tasks)
            part = {name: list(_as_large(column, loaded.card.image_size).numpy()) for name, column in known.items()}
            released = list(images[rows].permute(0, 2, 3, 1).contiguous().numpy())
            estimate = released
            for _ in range(self.rounds):
                deltas = generator.perturb([generator.square(pixels) for pixels in estimate], part, view.epsilon)
                pairs = zip(released, deltas, strict=True)
                estimate = [protect_pixels(pixels, -delta, view.epsilon) for pixels, delta in pairs]
            cleaned[rows] = torch.from_numpy(np.stack(estimate)).permute(0, 3, 1, 2)
            view.report(rows.stop / len(images))
        return cleaned


def known_labels(labels: Mapping[str, Tensor], tasks: TaskSet, known: TaskSet) -> dict[str, Tensor]:
    """Labels, or label maps, of ``tasks`` in the class indices of ``known``.

    Tasks that it lacks are left out; classes that it lacks are unlabelled.
    """
    found: dict[str, Tensor] = {}
    for task in known:
        if task.name in tasks:
            index_of = {name: index for index, name in enumerate(task.classes)}
            table = [index_of.get(name, UNLABELLED) for name in tasks[task.name].classes]
            column = as_labels(labels[task.name].cpu())
            classes = not column.is_floating_point()
            found[task.name] = torch.tensor([*table, UNLABELLED])[column] if classes else column
    return found


def _as_large(column: Tensor, size: int) -> Tensor:
    """Maps by the nearest pixel at the generator's size; labels of whole images as they are."""
    if column.dim() == 1 or column.shape[-1] == size:
        return column
    planes = column.view(len(column), -1, *column.shape[-2:]).double()
    resized = nn.functional.interpolate(planes, size=(size, size), mode="nearest-exact").to(column.dtype)
    return resized.view(*column.shape[:-2], size, size)
