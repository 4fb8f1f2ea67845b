"""Training the head on a frozen backbone."""

from collections.abc import Callable, Iterator

from torch import Tensor

from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.pretrained import PretrainedStart


class HeadOnly(TrainingMethod):
    """The pretrained backbone stays as it is, statistics of batch normalisation included.

    What is trained is everything behind it: the shared layer and the heads.

    Source:
        "Linear probing" of the transfer literature, such as He et al., CVPR 2020, section 4.1. Deviation: one hidden
        layer, the network's shared one, lies between the frozen features and the linear heads.

    Args:
        start: What the backbone is.
    """

    def __init__(self, start: PretrainedStart) -> None:
        self.start = start

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:  # noqa: ARG002 - shared signature
        """Load the backbone and freeze it."""
        self.start.load_into(network)
        network.backbone.requires_grad_(False)

    def train_mode(self, network: MultiTaskNetwork) -> None:
        """The backbone stays in evaluation mode: in training mode its batch statistics would move."""
        network.train()
        network.backbone.eval()
