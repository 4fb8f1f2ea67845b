"""Countermeasures that change every image once, by a fixed rule: release and test images alike."""

from collections.abc import Callable

import torch
from torch import Tensor

from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure

CHUNK = 256
"""Images that are changed at a time, so that their float copies stay small whatever the size of the release."""


class Preprocessing(Countermeasure):
    """Runs one rule over the release before training, and over whatever is judged later.

    The network is trained and tested behind the same rule, as an attacker would deploy it. No image influences another
    and nothing is drawn, so the same image gives the same result wherever it stands.

    Args:
        rule: ``(B, 3, S, S)`` uint8 to the same shape and type, for any ``B >= 1``; leaves its argument as it is.
    """

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        self.rule = rule

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release under the rule, ``(N, 3, S, S)`` uint8."""
        return self._changed(images, view.on_progress)

    def at_inference(self, images: Tensor) -> Tensor:
        """The images under the rule, ``(M, 3, S, S)`` uint8."""
        return self._changed(images, None)

    def _changed(self, images: Tensor, on_progress: Callable[[float], None] | None) -> Tensor:
        changed = torch.empty_like(images)
        for start in range(0, len(images), CHUNK):
            rows = slice(start, min(start + CHUNK, len(images)))
            changed[rows] = self.rule(images[rows])
            if on_progress is not None:
                on_progress(rows.stop / len(images))
        return changed


def rounded(values: Tensor) -> Tensor:
    """Pixel values in 255ths, float, as uint8: rounded to the nearest and clipped to [0, 255]."""
    return values.round().clamp(0, 255).to(torch.uint8)
