"""Training only some of every neuron's incoming connections, and leaving the others exactly as they were."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_WEIGHT_OF: Mapping[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("weight", "bias"),
    nn.Conv2d: ("weight", "bias"),
    nn.MultiheadAttention: ("in_proj_weight", "in_proj_bias"),
}


@dataclass(frozen=True)
class Neurons:
    """The neurons of a network: output units of linear layers, filters of convolutions, attention's projections.

    Attributes:
        weights: Incoming connections, ``(outputs, ...)`` each: a row is a neuron.
        biases: Their biases, ``(outputs,)`` each.
    """

    weights: tuple[nn.Parameter, ...]
    biases: tuple[nn.Parameter, ...]


def find_neurons(network: nn.Module) -> Neurons:
    """All neurons of ``network``.

    What has no incoming connections is not among them: normalisation, class tokens, position embeddings.
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for layer in network.modules():
        for kind, (weight, bias) in _WEIGHT_OF.items():
            if isinstance(layer, kind):
                weights += [value for value in (getattr(layer, weight),) if value is not None]
                biases += [value for value in (getattr(layer, bias),) if value is not None]
    return Neurons(tuple(weights), tuple(biases))


def strongest(scores: Tensor, count: int) -> Tensor:
    """Where each neuron's ``count`` highest scores are.

    Args:
        scores: ``(outputs, ...)``, one a connection.
        count: Connections per neuron; all of them if it has fewer.

    Returns:
        bool, of the shape of ``scores``.
    """
    rows = scores.flatten(1)
    best = rows.topk(min(count, rows.shape[1]), dim=1).indices
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, best, value=True).view(scores.shape)


class TrainedConnections:
    """Lets an optimiser change chosen connections only; the others keep their values bit by bit.

    Masked gradients alone would not do: weight decay moves a weight without any gradient.

    Args:
        chosen: Parameter to bool of its shape: True where it is trained. What is not in it is left alone.
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
        """After the step: put back what was changed all the same."""
        for weight, held, value in self._held:
            weight.copy_(torch.where(held, value, weight))
