"""Gradient-based parameter selection: fine-tuning the few connections of every neuron that the loss asks for most."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.errors import InputError
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.methods.connections import TrainedConnections, find_neurons, strongest
from mtlue_cli.training.pretrained import PretrainedStart


@dataclass(frozen=True)
class GradientSelectionSettings:
    """How much is tuned.

    Attributes:
        connections: Tuned incoming connections of each neuron, at least 1.

    Raises:
        InputError: ``connections`` is less than 1.
    """

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

    Args:
        settings: How much.
        start: Where the backbone starts from.
    """

    def __init__(self, settings: GradientSelectionSettings, start: PretrainedStart) -> None:
        self.settings = settings
        self.start = start
        self._connections = TrainedConnections({})

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Load the start, choose by gradient, freeze what is not tuned."""
        self.start.load_into(network)
        neurons = find_neurons(network.backbone)
        network.eval()
        totals = [torch.zeros_like(weight) for weight in neurons.weights]
        for loss in sample_losses():
            for total, gradient in zip(totals, torch.autograd.grad(loss, neurons.weights), strict=True):
                total += gradient
        network.train()
        self._connections = TrainedConnections(
            {
                weight: strongest(total.abs(), self.settings.connections)
                for weight, total in zip(neurons.weights, totals, strict=True)
            }
        )
        network.backbone.requires_grad_(False)
        for parameter in (*neurons.weights, *neurons.biases):
            parameter.requires_grad_(True)

    def before_step(self, network: MultiTaskNetwork) -> None:  # noqa: ARG002 - shared signature
        """Mask the gradients."""
        self._connections.mask_gradients()

    def after_step(self, network: MultiTaskNetwork) -> None:  # noqa: ARG002 - shared signature
        """Put the frozen connections back."""
        self._connections.restore()
