"""Embedding regularisation: class embeddings of a task far apart, those of different tasks independent.

``embeddings`` is task name to the embeddings of its classes, ``(C, ...)``, alike in shape but for ``C``; may be empty.

Source:
    Yu et al., ICML 2025, ``L_intra`` and ``L_inter``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def intra_task_similarity(embeddings: Mapping[str, Tensor]) -> Tensor:
    """Mean over tasks of the mean cosine similarity between embeddings of different classes of one task.

    Returns:
        A scalar in [-1, 1]; its least value for ``C`` classes is ``-1 / (C - 1)``, a simplex. Tasks of one class do
        not count.
    """
    means: list[Tensor] = []
    for maps in embeddings.values():
        count = len(maps)
        if count < 2:
            continue
        unit = nn.functional.normalize(maps.flatten(1).float(), dim=1)
        cosine = unit @ unit.T
        means.append((cosine.sum() - cosine.diagonal().sum()) / (count * (count - 1)))
    return torch.stack(means).mean() if means else _none(embeddings)


def inter_task_similarity(embeddings: Mapping[str, Tensor]) -> Tensor:
    """Mean absolute cosine similarity between embeddings of different tasks; every pair of embeddings counts alike.

    Returns:
        A scalar in [0, 1]; 0 for a single task.
    """
    if len(embeddings) < 2:
        return _none(embeddings)
    stacked = torch.cat([maps.flatten(1) for maps in embeddings.values()]).float()
    owner = torch.cat([torch.full((len(maps),), index) for index, maps in enumerate(embeddings.values())])
    unit = nn.functional.normalize(stacked, dim=1)
    other = (owner[:, None] != owner[None, :]).to(stacked.device)
    return (unit @ unit.T).abs()[other].mean()


def _none(embeddings: Mapping[str, Tensor]) -> Tensor:
    return torch.zeros((), device=next(iter(embeddings.values())).device if embeddings else None)
