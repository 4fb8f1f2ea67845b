"""TAP: targeted adversarial poisoning."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtlue_cli.objectives.base import Objective, freeze
from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.tasks.targets import shifted_labels


class TargetedAdversarial(Objective):
    """The loss of a clean-trained, frozen surrogate towards shifted labels.

    A victim that trains on such images learns the features of class ``y + C/2`` as class ``y`` and is misled on
    clean images.

    Source:
        Fowl et al., "Adversarial Examples Make Strong Poisons", NeurIPS 2021; multi-task form of Yu et al., ICML 2025.
        Deviation: a learned generator takes the place of projected gradient descent on each image.
    """

    follows = "follows shifted labels"

    def __init__(self, tasks: TaskSet, surrogate: nn.Module) -> None:
        super().__init__(tasks)
        self.surrogate = freeze(surrogate)

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shifted labels."""
        return shifted_labels(labels, self.tasks)

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean task loss towards :meth:`targets`."""
        logits = self.surrogate(protected)
        return mean_loss(task_losses(logits, self.targets(labels), self.tasks)), logits
