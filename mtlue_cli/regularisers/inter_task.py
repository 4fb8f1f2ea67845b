"""Inter-task embedding regularisation: make the embeddings of different tasks independent."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def inter_task_similarity(embeddings: Mapping[str, Tensor]) -> Tensor:
    """Mean absolute cosine similarity between embeddings of different tasks.

    Args:
        embeddings: Task name to the embeddings of its classes, ``(C, ...)``, alike in shape but for ``C``; may be
            empty.

    Returns:
        A scalar in [0, 1]; 0 for a single task. Every pair of embeddings counts alike.

    Source:
        Yu et al., ICML 2025, ``L_inter``.
    """
    if len(embeddings) < 2:
        return torch.zeros((), device=next(iter(embeddings.values())).device if embeddings else None)
    stacked = torch.cat([maps.flatten(1) for maps in embeddings.values()]).float()
    owner = torch.cat([torch.full((len(maps),), index) for index, maps in enumerate(embeddings.values())])
    unit = nn.functional.normalize(stacked, dim=1)
    other = (owner[:, None] != owner[None, :]).to(stacked.device)
    return (unit @ unit.T).abs()[other].mean()
