"""Purification by own pairs: a network learns from images that the owner protected for the attacker, as a service."""

from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta

from mtlue_cli.verification.countermeasures.base import AttackerView, Pairs
from mtlue_cli.verification.countermeasures.pair_remover import PairRemover, RemoverNetwork


@dataclass(frozen=True)
class PairPurification(PairRemover):
    """Restores the release with a network that learned from the attacker's own images and their protected versions.

    He has no weights, no key and no original of the release. He has clean images of the same kind, and gives them to
    whoever protects images with these weights, as a service, under labels of his choice: those of released images,
    drawn at random. What comes back are his pairs.

    Attributes:
        pairs: Most images that he has protected; fewer if he has fewer.
        steps, batch_size, learning_rate, width, crop_share, use_labels: As those of the remover.

    Source:
        Wang et al., "BridgePure: Limited Protection Leakage Can Break Black-Box Data Protection", NeurIPS 2025,
        arXiv 2412.20897: the attacker's access, and the 500 pairs. Deviation: a residual U-Net that restores an image
        in one pass, in place of a diffusion bridge, whose training takes a GPU. It returns the mean of the originals
        that are possible, and no draw from them.
    """

    title = "Purification by own pairs"
    source = "Wang et al., BridgePure, NeurIPS 2025, arXiv 2412.20897, with a U-Net in place of a diffusion bridge"
    pairs: Annotated[int, Meta(ge=8)] = 500
    needs_pairs = False
    needs_own_images = True
    image_level_only = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "needs_own_pairs", self.pairs)

    def train(self, view: AttackerView) -> RemoverNetwork:
        """As the remover does, on the first :attr:`pairs` pairs."""
        if view.pairs is not None:
            originals, protected, labels = view.pairs
            labels = {name: column[: self.pairs] for name, column in labels.items()}
            view = replace(view, pairs=Pairs(originals[: self.pairs], protected[: self.pairs], labels))
        return super().train(view)
