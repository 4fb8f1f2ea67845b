"""Stopping early, where validation images that are clean in part say that it is best."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mtlue_cli.verification.countermeasures.base import Countermeasure, Validation


@dataclass(frozen=True)
class EarlyStop(Countermeasure):
    """Holds a share of the images out of training, has a part of them as clean originals, and picks the epoch by all.

    A network learns what images show before it has found the perturbation. Whoever validates on the release alone never
    sees it: the perturbation helps there too. The more of the validation images are clean, the better he can stop.

    Attributes:
        share: Of the training images, which validate and are not trained on.
        clean: Share of these that are clean originals; the others are as released. The attacker does not tell them
            apart.

    Source:
        Prechelt, "Early Stopping, But When?", 1998, against what Dang et al., "Unlearnable Examples Give a False Sense
        of Data Privacy", arXiv 2306.02064, observe: content is learned at an early stage. Deviation: training goes on
        to the last epoch, and the one of the highest mean accuracy over the judged tasks counts.
    """

    title = "Early stop by {share} of the images, {clean} of them clean"
    source = "Prechelt, Early Stopping, But When?, 1998; Dang et al., 2023, arXiv 2306.02064, on early epochs"
    share: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    clean: Annotated[float, Meta(ge=0, le=1)] = 0.5
    image_level_only = True

    @property
    def validation(self) -> Validation:
        """What validates."""
        return Validation(self.share, self.clean)
