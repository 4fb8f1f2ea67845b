"""Looking at a network in training without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def steady(network: nn.Module) -> Iterator[None]:
    """Within, batch norm uses the batch's own statistics and records none, and dropout is off.

    So the network is the function that it is about to learn with, which its running statistics lag behind for much of
    a short training, but without chance. Gradients asked for by ``torch.autograd.grad`` leave the parameters' ``grad``
    alone; this leaves modes and running statistics.

    Args:
        network: In any mode, also mixed; every module gets its own mode back.
    """
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module, training in modes if isinstance(module, _BatchNorm) and training]
    tracked = [norm.track_running_stats for norm in norms]
    network.eval()
    try:
        for norm in norms:
            norm.train()
            norm.track_running_stats = False
        yield
    finally:
        for norm, tracks in zip(norms, tracked, strict=True):
            norm.track_running_stats = tracks
        for module, training in modes:
            module.training = training
