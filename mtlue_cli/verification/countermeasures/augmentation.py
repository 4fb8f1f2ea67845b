"""Countermeasures that change every training batch at random and leave release and test images as they are."""

from mtlue_cli.training.intervention import Intervention
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure


class Augmentation(Countermeasure):
    """Hands one intervention to the training loop.

    The network is judged on images that were not augmented, as usual.

    Args:
        intervention: Without state between batches; draws from the generator that it is given, and nowhere else.
    """

    def __init__(self, intervention: Intervention) -> None:
        self.intervention = intervention

    def during_training(self, view: AttackerView) -> Intervention:
        """The intervention."""
        del view
        return self.intervention
