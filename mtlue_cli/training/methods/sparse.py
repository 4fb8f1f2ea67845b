"""Sparse training: the largest weights of every neuron."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from mtlue_cli.errors import InputError
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.methods.connections import TrainedConnections, find_neurons, strongest
from mtlue_cli.training.pretrained import PretrainedStart


@dataclass(frozen=True)
class SparseSettings:
    """How much is trained.

    Attributes:
        share: Share of the incoming weights of each neuron, in (0, 1]; at least one weight is trained.

    Raises:
        InputError: ``share`` lies outside (0, 1].
    """

    share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"the share of trained weights is {self.share:g}, expected more than 0 and at most 1")


class SparseTraining(TrainingMethod):
    """Every neuron's largest weights are trained; the others stay at their start.

    Which they are is decided once, by their magnitude before the first step. Tasks that pull at fewer common weights
    are in each other's way less often.

    Source:
        Zhang et al., "Proactive Gradient Conflict Mitigation in Multi-Task Learning: A Sparse Training Perspective",
        2024 (arXiv 2411.18615). Deviations: the default share is ours; so is what happens to what has no incoming
        connections (biases, normalisation, tokens): it is trained, as the heads are. The shared layer is masked like
        the backbone, for all tasks meet in it.

    Args:
        settings: How much.
        start: Where the backbone starts from; None: from scratch.
    """

    def __init__(self, settings: SparseSettings, start: PretrainedStart | None = None) -> None:
        self.settings = settings
        self.start = start
        self._connections = TrainedConnections({})

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:  # noqa: ARG002 - shared signature
        """Choose by magnitude; nothing is frozen as a whole."""
        if self.start is not None:
            self.start.load_into(network)
        weights = (*find_neurons(network.backbone).weights, *find_neurons(network.shared).weights)
        self._connections = TrainedConnections(
            {
                weight: strongest(weight.detach().abs(), max(1, round(self.settings.share * weight[0].numel())))
                for weight in weights
            }
        )

    def before_step(self, network: MultiTaskNetwork) -> None:  # noqa: ARG002 - shared signature
        """Mask the gradients."""
        self._connections.mask_gradients()

    def after_step(self, network: MultiTaskNetwork) -> None:  # noqa: ARG002 - shared signature
        """Put the untrained weights back."""
        self._connections.restore()
