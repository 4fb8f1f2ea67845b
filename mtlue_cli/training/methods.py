"""Training methods: where a network starts from, and which of its parameters change."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mtlue_cli.choices import TrainingMethodName
from mtlue_cli.devices import seeded, training_processes
from mtlue_cli.errors import InputError
from mtlue_cli.networks.concept_bottleneck import ConceptBottleneck
from mtlue_cli.networks.multitask import SHARED_WIDTH, ImageLevelNetwork, MultiTaskNetwork
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.named_settings import Choice, NoSettings, choose
from mtlue_cli.training.pretrained import PretrainedStart

SettingsT = TypeVar("SettingsT")

_WEIGHT_OF: Mapping[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("weight", "bias"),
    nn.Conv2d: ("weight", "bias"),
    nn.MultiheadAttention: ("in_proj_weight", "in_proj_bias"),
}


class Neurons(NamedTuple):
    """Output units of linear layers, filters of convolutions, attention's projections: a row of ``weights`` each."""

    weights: tuple[nn.Parameter, ...]
    biases: tuple[nn.Parameter, ...]


def find_neurons(network: nn.Module) -> Neurons:
    """All neurons of ``network``; normalisation, class tokens and position embeddings have no incoming connections."""
    pairs = [
        (getattr(layer, weight), getattr(layer, bias))
        for layer in network.modules()
        for kind, (weight, bias) in _WEIGHT_OF.items()
        if isinstance(layer, kind)
    ]
    return Neurons(
        tuple(weight for weight, _ in pairs if weight is not None), tuple(bias for _, bias in pairs if bias is not None)
    )


def strongest(scores: Tensor, count: int) -> Tensor:
    """Where each neuron's ``count`` highest scores are, or all: bool, ``(outputs, ...)`` as ``scores``."""
    rows = scores.flatten(1)
    best = rows.topk(min(count, rows.shape[1]), dim=1).indices
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, best, value=True).view(scores.shape)


class TrainedConnections:
    """Lets an optimiser change chosen connections only; the others keep their values bit by bit.

    Masked gradients alone would not do: weight decay moves a weight without any gradient.

    Args:
        chosen: Parameter to bool of its shape: True where it is trained. Other parameters are left alone.
    """

    def __init__(self, chosen: Mapping[nn.Parameter, Tensor]) -> None:
        self._held = [
            (weight, ~mask, weight.detach().clone()) for weight, mask in chosen.items() if not bool(mask.all())
        ]

    def mask_gradients(self) -> None:
        """Between gradients and step: none where nothing is trained, so that the optimiser's state stays empty."""
        for weight, held, _ in self._held:
            if weight.grad is not None:
                weight.grad.masked_fill_(held, 0.0)

    @torch.no_grad()
    def restore(self) -> None:
        """After the step: restore the connections that are not trained."""
        for weight, held, value in self._held:
            weight.copy_(torch.where(held, value, weight))


class TrainingMethod:
    """Every parameter is trained, from a pretrained backbone or from scratch. One object, one training run.

    ``connections`` are those that are trained; methods that train fewer set them before the first step.
    """

    def __init__(self, settings: object = None, start: PretrainedStart | None = None) -> None:
        self.settings: Any = settings
        self.start = start
        self.connections = TrainedConnections({})

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:  # noqa: ARG002 - shared signature
        """Load the start; other methods freeze what is not trained (``requires_grad``) and choose what is.

        Args:
            network: Fresh, on its device.
            sample_losses: Mean task losses of the batches of one pass, in the network's graph: for choices by gradient.
        """
        if self.start is not None:
            self.start.load_into(network)

    def start_epoch(self, network: MultiTaskNetwork, done: float) -> None:  # noqa: ARG002 - shared signature
        """Set which modules are in training mode; ``done`` is the share of the epochs that are over, in [0, 1)."""
        network.train()


class HeadOnly(TrainingMethod):
    """The shared layer and the heads are trained; the pretrained backbone stays as it is.

    Source:
        "Linear probing" of the transfer literature, such as He et al., CVPR 2020, section 4.1. Deviation: one hidden
        layer, the network's shared one, lies between the frozen features and the linear heads.
    """

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Load the backbone and freeze it."""
        super().prepare(network, sample_losses)
        network.backbone.requires_grad_(False)

    def start_epoch(self, network: MultiTaskNetwork, done: float) -> None:
        """The backbone stays in evaluation mode: in training mode its batch statistics would change."""
        super().start_epoch(network, done)
        network.backbone.eval()


@dataclass(frozen=True)
class SparseSettings:
    """``share`` of the incoming weights of each neuron is trained, at least one; InputError unless it is in (0, 1]."""

    share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"the share of trained weights is {self.share:g}, expected more than 0 and at most 1")


class SparseTraining(TrainingMethod):
    """Every neuron's largest weights are trained; the others stay at their start.

    They are chosen once, by their magnitude before the first step. Tasks that share fewer trained weights conflict
    less often.

    Source:
        Zhang et al., "Proactive Gradient Conflict Mitigation in Multi-Task Learning: A Sparse Training Perspective",
        2024 (arXiv 2411.18615). Deviations: the default share is ours; so is what happens to what has no incoming
        connections (biases, normalisation, tokens): it is trained, as the heads are. The shared layer is masked like
        the backbone, for all tasks meet in it.
    """

    settings: SparseSettings

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Choose by magnitude; nothing is frozen as a whole."""
        super().prepare(network, sample_losses)
        weights = (*find_neurons(network.backbone).weights, *find_neurons(network.shared).weights)
        self.connections = TrainedConnections(
            {
                weight: strongest(weight.detach().abs(), max(1, round(self.settings.share * weight[0].numel())))
                for weight in weights
            }
        )


@dataclass(frozen=True)
class StagedSettings:
    """Shares of the epochs after which the backbone's first and last layer are frozen; InputError out of order."""

    first: float = 0.1
    last: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= 1:
            raise InputError(f"first is {self.first:g} and last {self.last:g}, expected 0 <= first < last <= 1")


class StagedTraining(TrainingMethod):
    """Everything is trained at first; then the backbone's layers are frozen one after the other, the shallowest first.

    A network learns the content of unlearnable images at first and is then trapped by the perturbation, which shallow
    layers pick up; so these stop learning first. A frozen layer keeps its batch statistics.

    Source:
        Dang et al., "Flew Over Learning Trap: Learn Unlearnable Samples by Progressive Staged Training", 2023 (arXiv
        2306.02064). Deviations: a fixed schedule in epochs, in place of one that watches how activations cluster and
        goes back to an earlier network; a layer is frozen at once, rather than slowed down.
    """

    settings: StagedSettings

    def start_epoch(self, network: MultiTaskNetwork, done: float) -> None:
        """Freeze as many layers as it is time for; layers are modules with parameters of their own, in order."""
        super().start_epoch(network, done)
        layers = [part for part in network.backbone.modules() if next(part.parameters(recurse=False), None) is not None]
        first, last = self.settings.first, self.settings.last
        passed = (done - first) / (last - first)
        frozen = 0 if passed < 0 else 1 + int(passed * (len(layers) - 1))
        for layer in layers[:frozen]:
            layer.training = False
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)
                parameter.grad = None


@dataclass(frozen=True)
class GradientSelectionSettings:
    """So many incoming connections of each neuron are tuned; InputError unless there is at least one."""

    connections: int = 1

    def __post_init__(self) -> None:
        if self.connections < 1:
            raise InputError(f"{self.connections} tuned connections per neuron, expected at least 1")


class GradientSelection(TrainingMethod):
    """Every neuron of a pretrained backbone is tuned in the connections whose gradient is largest.

    The gradient is summed over one pass of the training images, in evaluation mode, before the first step. Biases of
    the neurons are tuned too; normalisation, tokens and position embeddings are frozen; the shared layer and the heads,
    which are new, are trained whole.

    Source:
        Zhang et al., "Gradient-based Parameter Selection for Efficient Fine-Tuning", CVPR 2024. Deviations: the
        gradient is that of the mean task loss behind the new heads, not of a supervised contrastive loss, which is
        defined for a single task; running statistics of batch normalisation, which the paper's networks lack, follow
        the new images.
    """

    settings: GradientSelectionSettings

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Load the start, choose by gradient, freeze what is not tuned."""
        super().prepare(network, sample_losses)
        neurons = find_neurons(network.backbone)
        network.eval()
        totals = [torch.zeros_like(weight) for weight in neurons.weights]
        for loss in sample_losses():
            for total, gradient in zip(totals, torch.autograd.grad(loss, neurons.weights), strict=True):
                total += gradient
        training_processes().average(totals)  # so that all choose the same connections
        network.train()
        self.connections = TrainedConnections(
            {
                weight: strongest(total.abs(), self.settings.connections)
                for weight, total in zip(neurons.weights, totals, strict=True)
            }
        )
        network.backbone.requires_grad_(False)
        for parameter in (*neurons.weights, *neurons.biases):
            parameter.requires_grad_(True)


MOST_RESIDUALS = 256
"""Vectors that complete the concepts: more than features leave room for."""


@dataclass(frozen=True)
class ResCbmSettings:
    """Column that is predicted through the others, None: the last; number of vectors that complete these.

    InputError unless there are 1 to 256 vectors.
    """

    target: str | None = None
    residuals: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.residuals <= MOST_RESIDUALS:
            raise InputError(f"{self.residuals} residual vectors, expected 1 to {MOST_RESIDUALS}")

    def target_of(self, tasks: TaskSet) -> str:
        """The column among ``tasks``.

        Raises:
            InputError: It is none of them, none is left as a concept, or one labels every pixel.
        """
        if len(tasks.dense):
            raise InputError(
                f"res-cbm is for labels of whole images; these label every pixel: {', '.join(tasks.dense.names)}"
            )
        if len(tasks) < 2:
            raise InputError("res-cbm predicts one column through others, and a network has one column alone")
        if self.target is not None and self.target not in tasks:
            raise InputError(
                f"res-cbm: no measured column is called {self.target!r} (columns: {', '.join(tasks.names)})"
            )
        return self.target or tasks.names[-1]

    def described(self, tasks: TaskSet) -> str:
        """What is predicted through what; InputError as :meth:`target_of`."""
        target = self.target_of(tasks)
        others = [task for task in tasks if task.name != target]
        return (
            f"res-cbm predicts {target} through {', '.join(task.name for task in others)}: "
            f"{sum(task.num_classes for task in others)} concepts and {self.residuals} residual vectors"
        )


class ResidualConceptBottleneck(TrainingMethod):
    """One column is predicted through the others as concepts: :class:`ConceptBottleneck` in place of the heads.

    Its layers and vectors start from the same random numbers whatever the seed.
    """

    settings: ResCbmSettings

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Replace the heads.

        Raises:
            InputError: The tasks do not fit.
        """
        super().prepare(network, sample_losses)
        target = self.settings.target_of(network.tasks)
        assert isinstance(network, ImageLevelNetwork)
        device = next(network.heads.parameters()).device
        with seeded(0):
            heads = ConceptBottleneck(SHARED_WIDTH, network.tasks, target, self.settings.residuals)
        network.register_module("heads", heads.to(device))


@dataclass(frozen=True, kw_only=True)
class MethodChoice(Choice[SettingsT]):
    """One training method with its settings; ``make`` takes these and a start, if there is one.

    ``note`` says what a reader should know of it on given tasks, None: nothing, and refuses those that do not fit.
    """

    make: Callable[[SettingsT, PretrainedStart | None], TrainingMethod]
    needs_start: bool = False
    note: Callable[[SettingsT, TaskSet], str | None] = lambda *_: None

    def __reduce__(self) -> tuple[Any, ...]:
        return method_named, (self.name,)  # what makes it is a function of this module, which cannot be pickled

    def build(self, start: PretrainedStart | None = None) -> TrainingMethod:
        """A fresh one, for one run; training from scratch leaves a start unused.

        Raises:
            InputError: It needs a start, and there is none.
        """
        if self.needs_start and start is None:
            raise InputError(
                f"training method {self.family!r} starts from a pretrained backbone, and none is given",
                hint="give one with --start FILE|timm:NAME, or images to train one on first with "
                "--pretrain-images DIR --pretrain-labels FILE",
            )
        return self.make(self.settings, start)


_NONE = NoSettings()
METHODS: Mapping[str, MethodChoice[Any]] = {
    method.name: method
    for method in (
        MethodChoice(name=TrainingMethodName.SCRATCH, settings=_NONE, make=lambda *_: TrainingMethod()),
        MethodChoice(name=TrainingMethodName.SPARSE, settings=SparseSettings(), make=SparseTraining),
        MethodChoice(name=TrainingMethodName.STAGED, settings=StagedSettings(), make=StagedTraining),
        MethodChoice(
            name=TrainingMethodName.GPS, settings=GradientSelectionSettings(), make=GradientSelection, needs_start=True
        ),
        MethodChoice(name=TrainingMethodName.HEAD, settings=_NONE, make=HeadOnly, needs_start=True),
        MethodChoice(name=TrainingMethodName.FULL, settings=_NONE, make=TrainingMethod, needs_start=True),
        MethodChoice(
            name=TrainingMethodName.RES_CBM,
            settings=ResCbmSettings(),
            make=ResidualConceptBottleneck,
            note=ResCbmSettings.described,
        ),
    )
}


def method_named(name: str) -> MethodChoice[Any]:
    """The training method that ``--method NAME[:SETTING=VALUE,...]`` names.

    Raises:
        InputError: There is none, or its settings are at fault.
    """
    return choose("method", name, METHODS.values())
