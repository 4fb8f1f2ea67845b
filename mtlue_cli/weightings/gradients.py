"""Weightings that weigh the gradients of the tasks at the representation that they share, with TorchJD's solvers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.weightings.base import RandomStream, Weighting


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


Weigher = Callable[[TaskGradients], Tensor]
"""Weights ``(A,)``, float, on the CPU, of two or more tasks; may remember earlier steps."""


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


def torchjd(solver: str, **options: object) -> Callable[[int, int], RepresentationWeighting]:
    """What builds a weighting whose weights ``torchjd.aggregation`` finds from the Gramian alone."""

    def build(tasks: int, seed: int) -> RepresentationWeighting:
        from torchjd import aggregation  # takes seconds

        solve = getattr(aggregation, solver)(**options)
        return RepresentationWeighting(tasks, seed, lambda gradients: solve(gradients.gramian))

    return build


def pcgrad(tasks: int, seed: int) -> RepresentationWeighting:
    """Every gradient loses its component against each other one that it conflicts with, in random order; then the sum.

    Source:
        Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1.
    """
    from torchjd.aggregation import PCGradWeighting

    solve, stream = PCGradWeighting(), RandomStream(seed)

    def weigh(gradients: TaskGradients) -> Tensor:
        with stream.drawing():
            weights: Tensor = solve(gradients.gramian)
        return weights

    return RepresentationWeighting(tasks, seed, weigh)


def nash_mtl(tasks: int, seed: int) -> RepresentationWeighting:
    """The update on which tasks that bargain for it agree: weights ``w`` with ``G w = 1 / w`` for the Gramian ``G``.

    Source:
        Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, claim 3.1. The equation is solved directly,
        as FairGrad's with alpha 1 (Ban and Ji, ICML 2024), not by the authors' sequence of convex programmes: that one
        takes seconds per step at forty tasks and starts from even weights, where it is undefined as soon as a task
        conflicts with the sum of all. It is solved for gradients of length 1, which the solution allows for exactly.
        The length of the joint gradient is not capped.
    """
    from torchjd.aggregation import FairGradWeighting

    solve = FairGradWeighting(alpha=1.0)

    def weigh(gradients: TaskGradients) -> Tensor:
        lengths = gradients.gramian.diagonal().sqrt()
        weights: Tensor = solve(gradients.gramian / lengths.outer(lengths)) / lengths
        return weights

    return RepresentationWeighting(tasks, seed, weigh)


def excess_mtl(tasks: int, seed: int, step_size: float = 0.01) -> RepresentationWeighting:
    """Tasks with the largest estimated excess risk, relative to that of the first step, gain weight step by step.

    Source:
        He et al., "Robust Multi-Task Learning with Excess Risks", ICML 2024, equations 6 to 9; ``step_size`` is that of
        the multiplicative update of the weights. The diagonal second moment is that of the representation's gradient
        summed over the batch, ``(K, D)``, not of all parameters. A task that is not labelled in a batch counts with
        the gradient that it had last (the mean of the others before its first): zeros would ruin the baseline that
        later estimates are divided by.
    """
    from torchjd.aggregation import ExcessMTLWeighting

    update, latest = ExcessMTLWeighting(robust_step_size=step_size), dict[int, Tensor]()

    def weigh(gradients: TaskGradients) -> Tensor:
        latest.update(zip(gradients.tasks, gradients.pooled, strict=True))
        typical = gradients.pooled.mean(dim=0)
        weights: Tensor = update(torch.stack([latest.get(task, typical) for task in range(tasks)]))
        return weights[list(gradients.tasks)]

    return RepresentationWeighting(tasks, seed, weigh)
