"""Full fine-tuning."""

from collections.abc import Callable, Iterator

from torch import Tensor

from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.pretrained import PretrainedStart


class FullFineTuning(TrainingMethod):
    """Every parameter, from a pretrained backbone; the shared layer and the heads are new.

    Args:
        start: Where the backbone starts from.
    """

    def __init__(self, start: PretrainedStart) -> None:
        self.start = start

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:  # noqa: ARG002 - shared signature
        """Load the backbone."""
        self.start.load_into(network)
