"""Task weights from the gradients of the tasks at the representation that they share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mtlue_cli.weightings.base import Weighting


@dataclass(frozen=True)
class TaskGradients:
    """The gradients of one step's labelled tasks at the shared representation, float32 on the CPU.

    Attributes:
        tasks: Positions of the tasks that have a gradient, ascending; the A rows below are theirs.
        gramian: ``(A, A)`` inner products of the tasks' gradients, scaled so that the diagonal's mean is 1.
        pooled: ``(A, D)`` gradients summed over the batch: those of an offset added to every sample's representation.
    """

    tasks: tuple[int, ...]
    gramian: Tensor
    pooled: Tensor


class Weigher(Protocol):
    """Chooses the weights of one step; may remember earlier ones."""

    def __call__(self, gradients: TaskGradients) -> Tensor:
        """Weights ``(A,)``, float, on the CPU, of two or more tasks."""


def from_gramian(solve: Callable[[Tensor], Tensor]) -> Weigher:
    """The weigher that gives ``solve`` the Gramian ``(A, A)`` and nothing else."""
    return lambda gradients: solve(gradients.gramian)


class RepresentationWeighting(Weighting):
    """Everything below the heads learns from a weighted sum of the tasks' gradients, each head from its own loss.

    A step costs one pass through the backbone, as with linear scalarisation, and one more per task through the heads.
    With a single labelled task there is nothing to weigh and its gradient passes as it is; so it does where the
    representation is not trained, and where a gradient is not finite (a diverged run then looks as it does under linear
    scalarisation). Where a solver finds no finite weights, the tasks weigh alike in that step. Solvers work on a matrix
    of tasks by tasks, on the CPU, whatever the device.

    Source:
        Sener and Koltun, NeurIPS 2018, section 3.3: the gradients at the representation bound those of the shared
        parameters from above; known as ``rep_grad`` in LibMTL. So this is what every weighting built on it deviates in:
        the Gramian is that of the ``(B, D)`` representation, not of all shared parameters, and it is scaled to a mean
        diagonal of 1, because solvers have absolute thresholds and these gradients are small. The losses of the heads
        are not weighted. Adam does not see a common factor of all weights.

    Args:
        tasks: Number of tasks.
        seed: Kept for the record; a weigher that draws has its own stream.
        weigher: Chooses the weights.
    """

    def __init__(self, tasks: int, seed: int, weigher: Weigher) -> None:
        super().__init__(tasks, seed)
        self._weigher = weigher

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:
        """Backpropagate the sum of the losses, its gradient replaced at the representation."""
        total = torch.stack(list(losses.values())).sum()
        if len(losses) == 1 or not features.requires_grad:
            torch.autograd.backward(total)
            return
        rows = torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses.values()])
        with torch.autocast(features.device.type, enabled=False):
            rows = rows.float()
            joint = torch.tensordot(self.weights(rows).to(rows.device), rows, dims=1).to(features.dtype)
        handle = features.register_hook(lambda _: joint)  # type: ignore[no-untyped-call]  # untyped in torch
        try:
            torch.autograd.backward(total)
        finally:
            handle.remove()

    @torch.no_grad()
    def weights(self, rows: Tensor) -> Tensor:
        """Weights ``(K,)`` of task gradients ``(K, B, D)``, float32 both; 0 for a task whose gradient is zero."""
        largest = rows.abs().amax().clamp_min(torch.finfo(rows.dtype).tiny)
        unit = (rows / largest).flatten(1)
        gramian = (unit @ unit.T).cpu()
        if not gramian.isfinite().all():
            return torch.ones(len(rows))
        active = gramian.diagonal() > 0
        weights = active.float()
        if active.sum() > 1:
            gramian = gramian[active][:, active]
            pooled = rows.sum(dim=1).cpu()[active]
            positions = tuple(active.nonzero().flatten().tolist())
            chosen = self._weigher(TaskGradients(positions, gramian / gramian.diagonal().mean(), pooled))
            weights[active] = chosen.float() if chosen.isfinite().all() else 1 / len(positions)
        return weights
