"""What every countermeasure offers to the experiment."""

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.intervention import Intervention


@dataclass(frozen=True)
class AttackerView:
    """What an attacker has at hand.

    Attributes:
        labels: The published labels: task name to ``(N,)`` int64, negative where unlabelled, or to label maps.
        tasks: Their tasks.
        pairs: A few originals and their protected versions, ``(M, 3, S, S)`` uint8 each, which whoever has the
            generator can make from any images; None where no generator is public.
        crop_size: Side in pixels of what his network will see.
        seed: Of whatever he draws.
        device: Where he computes.
        on_progress: Called now and then with the share that is done, in [0, 1]; None: nobody listens.
        pair_labels: Labels of the pairs, as ``labels``, ``(M,)``: whoever makes pairs chose them. None without pairs.
        epsilon: Bound of the release in 255ths, which anyone can read off it.
        weights: The generator's checkpoint, where he has it; never the key.
    """

    labels: Mapping[str, Tensor]
    tasks: TaskSet
    pairs: tuple[Tensor, Tensor] | None
    crop_size: int
    seed: int
    device: torch.device
    on_progress: Callable[[float], None] | None = None
    pair_labels: Mapping[str, Tensor] | None = None
    epsilon: int = 8
    weights: Path | None = None


class Countermeasure(ABC):  # noqa: B024 - each hook has a neutral default; a countermeasure overrides what it needs
    """Something an attacker does so that his network learns from a protected release all the same.

    Attributes:
        needs_pairs: Whether it cannot run without :attr:`AttackerView.pairs`.
        needs_weights: Whether it cannot run without :attr:`AttackerView.weights`.
    """

    needs_pairs: bool = False
    needs_weights: bool = False

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release as he trains on it.

        Args:
            images: ``(N, 3, S, S)`` uint8.
            view: What he has.

        Returns:
            A new tensor of the same shape and type (or ``images`` itself, unchanged).
        """
        del view
        return images

    def at_inference(self, images: Tensor) -> Tensor:
        """Images to be judged, ``(M, 3, S, S)`` uint8, preprocessed as he would before his network sees them."""
        return images

    def during_training(self, view: AttackerView) -> Intervention | None:
        """What he does to each batch; None: nothing."""
        del view
        return None
