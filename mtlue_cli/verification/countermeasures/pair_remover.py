"""Pair-trained remover: learn from clean and protected pairs to undo the perturbation, then undo it everywhere."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from mtlue_cli.devices import on_device, seeded
from mtlue_cli.training.multitask_loop import to_float
from mtlue_cli.verification.countermeasures.base import CALL, AttackerView, Countermeasure, chunks, rounded_by_chance
from mtlue_cli.verification.countermeasures.restoration import RemoverNetwork, fit_remover


@dataclass(frozen=True)
class PairRemover(Countermeasure):
    """Trains a small U-Net on pairs made with a published generator and cleans the whole release with it.

    It measures what publishing a checkpoint costs. It sees the published labels by default, the stronger attack: the
    perturbation depends on them, they are published with the images, and whoever makes the pairs knows theirs. With
    200 pairs made by the shipped weights, the root mean square distance of faces to their originals fell from 7.7 to
    4.7 levels after 150 steps with labels (3.5 after 600), to 5.7 without.

    Attributes:
        steps: Steps of training.
        batch_size: Crops per step.
        learning_rate: Of Adam at its highest; it rises over the first twentieth of the steps and falls to zero.
        width: Channels of the network's first stage, a multiple of 8.
        crop_share: Side of the random crops against the image's.
        use_labels: Whether the network sees the published labels of whole images; label maps it never sees.

    Source:
        Residual learning of a restoration network, as Zhang et al., "Beyond a Gaussian Denoiser", IEEE TIP 2017, on
        the architecture of Ronneberger et al., MICCAI 2015. As an attack on unlearnable examples: purification
        learned from leaked pairs, by a small network rather than a diffusion model. Choices: the mean squared error,
        whose residual has mean zero given image and labels, so that no fixed pattern of a class remains; the prediction
        is bounded by the largest change in the pairs; crops and flips move pixels, label maps and target alike. The
        result is rounded to 8 bits by chance.
    """

    title = "Pair-trained remover"
    source = "U-Net (Ronneberger et al., MICCAI 2015) with residual learning (Zhang et al., IEEE TIP 2017)"
    steps: Annotated[int, Meta(ge=1)] = 600
    batch_size: Annotated[int, Meta(ge=1)] = 16
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-3
    width: Annotated[int, Meta(ge=8, multiple_of=8)] = 32
    crop_share: Annotated[float, Meta(gt=0, le=1)] = 0.75
    use_labels: bool = True
    needs_pairs = True

    @property
    def cost(self) -> float:
        """Against plain training."""
        return 1 + self.steps / 1200

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release as the remover restores it, ``(N, 3, S, S)`` uint8; no value moves by more than in the pairs.

        Raises:
            ValueError: There are no pairs, or no labels of theirs although the network is to see them.
        """
        network = self.train(view)
        names = network.tasks.names if network.tasks is not None else ()
        rng = torch.Generator().manual_seed(view.seed)
        cleaned = torch.empty_like(images)
        with torch.inference_mode():
            for rows in chunks(len(images), CALL):
                pixels = to_float(images[rows], view.device)
                known = {name: view.labels[name][rows].to(view.device) for name in names}
                restored = pixels - network(network.inputs(pixels, known))
                cleaned[rows] = rounded_by_chance((restored * 255.0).cpu(), rng)
        return cleaned

    def train(self, view: AttackerView) -> RemoverNetwork:
        """Fit a network to what protection adds to the pairs, left in evaluation mode; deterministic on a CPU."""
        if view.pairs is None or not len(view.pairs[0]):
            raise ValueError("a pair-trained remover needs pairs of clean and protected images")
        if self.use_labels and view.pair_labels is None:
            raise ValueError("a remover that sees labels needs the labels of its pairs")
        originals, protected = view.pairs
        tasks = view.tasks.image_level
        sees_labels = self.use_labels and len(tasks) > 0
        labels = view.pair_labels if sees_labels and view.pair_labels is not None else {}
        bound = max(1, int((protected.short() - originals.short()).abs().max())) / 255.0
        with seeded(view.seed):
            network = RemoverNetwork(tasks if sees_labels else None, bound, self.width)
        network = on_device(network, view.device)

        def examples(rng: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
            rows = torch.randint(len(originals), (min(self.batch_size, len(originals)),), generator=rng)
            known = {name: column[rows].to(view.device) for name, column in labels.items()}
            return to_float(protected[rows], view.device), to_float(originals[rows], view.device), known

        return fit_remover(
            network,
            examples,
            view,
            steps=self.steps,
            learning_rate=self.learning_rate,
            crop_share=self.crop_share,
        )
