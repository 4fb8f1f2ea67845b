"""Intra-task embedding regularisation: push the class embeddings of one task apart."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def intra_task_similarity(embeddings: Mapping[str, Tensor]) -> Tensor:
    """Mean over tasks of the mean cosine similarity between embeddings of different classes of one task.

    Args:
        embeddings: Task name to the embeddings of its classes, ``(C, ...)``; a task with one class is left out; may be
            empty.

    Returns:
        A scalar in [-1, 1]; its least value for ``C`` classes is ``-1 / (C - 1)``, a simplex.

    Source:
        Yu et al., ICML 2025, ``L_intra``.
    """
    means: list[Tensor] = []
    for maps in embeddings.values():
        count = len(maps)
        if count < 2:
            continue
        unit = nn.functional.normalize(maps.flatten(1).float(), dim=1)
        cosine = unit @ unit.T
        means.append((cosine.sum() - cosine.diagonal().sum()) / (count * (count - 1)))
    if not means:
        return torch.zeros((), device=next(iter(embeddings.values())).device if embeddings else None)
    return torch.stack(means).mean()
