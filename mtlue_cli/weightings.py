"""Task weightings of a multi-task network: adapters on TorchJD, and all of them by name.

Some weigh the losses themselves; a step then costs what plain training costs. The others weigh the gradients of the
tasks at the representation that they share, with TorchJD's solvers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from mtlue_cli.choices import WeightingName
from mtlue_cli.devices import own_random_numbers
from mtlue_cli.errors import InputError


class Weighting(ABC, nn.Module):
    """Puts the losses of several tasks together into one update of a multi-task network.

    Its parameters, if it learns any, are trained beside the network's. One object belongs to one training run.

    A task without a labelled sample in the batch, whose loss is exactly 0, takes no part in that step: it gets no
    weight, and what the weighting remembers of it stays as it was. The seed is that of whatever it draws.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.seed = seed

    @abstractmethod
    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:
        """Add the gradients of one step to the network's parameters.

        Args:
            losses: Task name to scalar; exactly 0 where no sample of the batch is labelled.
            features: The shared representation ``(B, D)`` that every loss depends on, in the graph of the network.
        """

    def new_epoch(self) -> None:
        """Called before the first step of every epoch."""


class RandomStream:
    """Lends its own state to the global generator of the CPU, which TorchJD draws from, and puts the old one back."""

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, global draws on the CPU come from this stream; each use continues where the last one ended."""
        with own_random_numbers():
            torch.set_rng_state(self._state)
            yield
            self._state = torch.get_rng_state()


class LinearScalarisation(Weighting):
    """The unweighted mean of the losses: "LS" of the multi-task literature, such as Yu et al., ICML 2025, table 5."""

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the mean."""
        torch.stack(list(losses.values())).mean().backward()  # type: ignore[no-untyped-call]  # untyped in torch


class UncertaintyWeighting(Weighting):
    """Learns a log-variance ``s`` for every task: the loss is the sum of ``exp(-s) L / 2 + s / 2``.

    Source:
        "UW": Kendall, Gal and Cipolla, CVPR 2018, in the form with learned log-variances, which start at 0.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__(tasks, seed)
        from torchjd.scalarization import UW

        self.combine = UW(tasks)

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate into the network and into the log-variances."""
        values = torch.stack(list(losses.values()))
        absent = values.detach() == 0
        # Without its loss, the regularising term alone would go on raising the weight of an unlabelled task.
        unopposed = torch.where(absent, 0.5 * self.combine.log_var, 0.0).sum()
        torch.autograd.backward(self.combine(values) - unopposed)


class RandomLossWeighting(Weighting):
    """Fresh weights at every step: the softmax of normal draws.

    Source:
        "RLW": Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022, with normal draws. The weights of
        the labelled tasks are scaled to sum to 1.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__(tasks, seed)
        from torchjd.aggregation import RandomWeighting

        self._draw, self._stream = RandomWeighting(), RandomStream(seed)

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the weighted sum."""
        values = torch.stack(list(losses.values()))
        with self._stream.drawing():
            weights: Tensor = self._draw(torch.empty(len(values), 0))
        weights = weights.to(values.device) * (values.detach() != 0)
        weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        torch.autograd.backward((weights * values).sum())


class DynamicWeightAverage(Weighting):
    """Tasks whose loss fell least over the last two epochs weigh most; the first two epochs weigh all alike.

    Source:
        "DWA": Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7. Weights
        are divided by the number of tasks, so that even weights are linear scalarisation. A task that is not labelled
        in a batch counts in the epoch's mean with the loss it had last (1 before its first). The larger the
        ``temperature`` of the softmax over the rates of descent, the more even the weights.
    """

    def __init__(self, tasks: int, seed: int, temperature: float = 2.0) -> None:
        super().__init__(tasks, seed)
        from torchjd.scalarization import DWA

        self._combine = DWA(temperature)
        self.register_buffer("latest", torch.ones(tasks), persistent=False)
        self.latest: Tensor

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the weighted mean."""
        values = torch.stack(list(losses.values()))
        values = torch.where(values.detach() == 0, self.latest, values)
        self.latest = values.detach()
        torch.autograd.backward(self._combine(values) / self.tasks)

    def new_epoch(self) -> None:
        """Close the epoch that ended, if there was one."""
        self._combine.step()


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


INSTALL = "pip install 'mtlue[weightings]'"


@dataclass(frozen=True)
class WeightingSpec:
    """One weighting of the registry.

    Attributes:
        build: Makes it for a number of tasks and a seed.
        needs: Modules of the extra ``weightings`` that it cannot do without.
    """

    build: Callable[[int, int], Weighting]
    needs: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Those of its modules that are not installed here."""
        return tuple(module for module in self.needs if find_spec(module) is None)


WEIGHTINGS: Mapping[WeightingName, WeightingSpec] = {
    WeightingName.LS: WeightingSpec(LinearScalarisation),
    WeightingName.UW: WeightingSpec(UncertaintyWeighting),
    WeightingName.RLW: WeightingSpec(RandomLossWeighting),
    # All principal components of the gradients as large as the smallest, then the mean. Senushkin et al., "Independent
    # Component Alignment for Multi-Task Learning", CVPR 2023, algorithm 1.
    WeightingName.ALIGNED_MTL: WeightingSpec(torchjd("AlignedMTLWeighting", scale_mode="min")),
    # Weights w with G w = w ** (-1 / alpha) for the Gramian G: one alpha-fair share per task; 0 is linear
    # scalarisation, 1 proportional (as Nash-MTL), growing towards max-min. Ban and Ji, "Fair Resource Allocation in
    # Multi-Task Learning", ICML 2024, equation 4. The scaled Gramian changes all weights by one factor.
    WeightingName.FAIRGRAD: WeightingSpec(torchjd("FairGradWeighting", alpha=2.0), needs=("scipy",)),
    WeightingName.EXCESS_MTL: WeightingSpec(excess_mtl),
    WeightingName.DWA: WeightingSpec(DynamicWeightAverage),
    WeightingName.PCGRAD: WeightingSpec(pcgrad),
    # Of the updates within a share c of its length from the mean gradient, the one that serves the worst served task
    # best. Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, algorithm 1, with c
    # as there on NYUv2.
    WeightingName.CAGRAD: WeightingSpec(torchjd("CAGradWeighting", c=0.4), needs=("cvxpy", "clarabel")),
    # The shortest convex combination of the gradients, which are not normalised one by one. Désidéri, Comptes Rendus
    # Mathématique 350, 2012; Sener and Koltun, NeurIPS 2018, algorithm 2. The Frank-Wolfe search ends after max_iters
    # steps, or with a step of less than epsilon.
    WeightingName.MGDA: WeightingSpec(torchjd("MGDAWeighting", epsilon=1e-3, max_iters=100)),
    # The combination, of weights that sum to 1 and may be negative, that leans equally far towards every gradient's
    # direction. Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, the gradient balance (not the loss
    # balance), in TorchJD's form for dependent gradients.
    WeightingName.IMTL_G: WeightingSpec(torchjd("IMTLGWeighting")),
    WeightingName.NASH_MTL: WeightingSpec(nash_mtl, needs=("scipy",)),
    # Every gradient projected to where it conflicts with none, then the mean. Quinton and Rey, "Jacobian Descent for
    # Multi-Objective Optimization", arXiv 2406.16232.
    WeightingName.UPGRAD: WeightingSpec(torchjd("UPGradWeighting"), needs=("qpsolvers", "quadprog")),
}


def require_installed(name: WeightingName, spec: WeightingSpec) -> None:
    """Refuse a weighting whose modules are not all here.

    Raises:
        InputError: Names the modules and how to install them.
    """
    if missing := spec.missing():
        raise InputError(f"the weighting {name.value} needs {', '.join(missing)}, not installed here", hint=INSTALL)


def build_weighting(name: WeightingName, tasks: int, seed: int) -> Weighting:
    """A fresh weighting of ``tasks`` losses.

    Raises:
        InputError: It needs a module that is not installed.
    """
    require_installed(name, WEIGHTINGS[name])
    return WEIGHTINGS[name].build(tasks, seed)
