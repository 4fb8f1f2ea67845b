"""Purification: a denoiser that an attacker trains on clean images of his own, run over the release."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.devices import on_device, seeded
from mtlue_cli.training.multitask_loop import to_float
from mtlue_cli.verification.countermeasures.base import CALL, AttackerView, Countermeasure, chunks, rounded_by_chance
from mtlue_cli.verification.countermeasures.restoration import RemoverNetwork, fit_remover


@dataclass(frozen=True)
class Purification(Countermeasure):
    """Adds Gaussian noise to the release and takes it out again together with the perturbation.

    The denoiser has seen clean images of the same kind alone, which whoever wants to learn from a release may have: no
    original of it, no label, no generator. It learns to undo the noise and random patterns of the release's bound, from
    single pixels to the whole image, in colour and in grey; what the protection really adds it never sees.

    Attributes:
        noise: Standard deviation of the added noise against the bound of the release.
        steps: Steps of training.
        batch_size: Crops per step.
        learning_rate: Of Adam at its highest; it rises over the first twentieth of the steps and falls to zero.
        width: Channels of the network's first stage, a multiple of 8.
        crop_share: Side of the random crops against the image's.

    Source:
        Dolatabadi, Erfani and Leckie, "The Devil's Advocate: Shattering the Illusion of Unexploitable Data using
        Diffusion Models" (AVATAR), arXiv 2303.08500: noise drowns the perturbation, a denoiser of clean images takes
        both out, and the larger the perturbation the more noise it takes. Deviations: in place of a diffusion model,
        whose training takes a GPU, a U-Net that denoises in one step, trained on the attacker's own images; it is
        also trained to take out random patterns, for denoising alone leaves what is smooth. Images to be judged are
        not purified.
    """

    title = "Purification (denoiser of own images)"
    source = "Dolatabadi et al., The Devil's Advocate (AVATAR), 2023, arXiv 2303.08500, with a small denoiser"
    noise: Annotated[float, Meta(ge=0)] = 1.0
    steps: Annotated[int, Meta(ge=1)] = 600
    batch_size: Annotated[int, Meta(ge=1)] = 16
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-3
    width: Annotated[int, Meta(ge=8, multiple_of=8)] = 32
    crop_share: Annotated[float, Meta(gt=0, le=1)] = 0.75
    needs_own_images = True

    @property
    def cost(self) -> float:
        """Against plain training."""
        return 1 + self.steps / 1200

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release as the denoiser restores it, ``(N, 3, S, S)`` uint8.

        Raises:
            ValueError: The attacker has no images of his own.
        """
        network = self.train(view)
        rng = torch.Generator().manual_seed(view.seed)
        cleaned = torch.empty_like(images)
        with torch.inference_mode():
            for rows in chunks(len(images), CALL):
                noise = torch.randn(images[rows].shape, generator=rng) * self._deviation(view)
                noisy = to_float(images[rows], view.device) + noise.to(view.device)
                cleaned[rows] = rounded_by_chance(((noisy - network(noisy)) * 255.0).cpu(), rng)
        return cleaned

    def train(self, view: AttackerView) -> RemoverNetwork:
        """Fit a network to noise and random patterns on the attacker's own images; deterministic on a CPU.

        Raises:
            ValueError: He has none.
        """
        own = view.own_images
        if own is None or not len(own):
            raise ValueError("purification needs clean images of the attacker's own")
        bound, deviation = view.epsilon / 255.0, self._deviation(view)
        with seeded(view.seed):
            network = RemoverNetwork(None, bound + 3 * deviation, self.width)
        network = on_device(network, view.device)

        def examples(rng: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
            rows = torch.randint(len(own), (self.batch_size,), generator=rng)
            clean = to_float(own[rows], view.device)
            added = bound * random_patterns(len(rows), own.shape[-1], rng)
            perturbed = (clean + added.to(view.device)).clamp(0, 1)  # as a release is clipped
            noise = deviation * torch.randn(clean.shape, generator=rng)
            return perturbed + noise.to(view.device), clean, {}

        return fit_remover(
            network,
            examples,
            view,
            steps=self.steps,
            learning_rate=self.learning_rate,
            crop_share=self.crop_share,
        )

    def _deviation(self, view: AttackerView) -> float:
        """Of the noise, as a share of the whole scale."""
        return self.noise * view.epsilon / 255.0


def random_patterns(count: int, side: int, rng: torch.Generator) -> Tensor:
    """Draw patterns in [-1, 1], ``(count, 3, side, side)`` float32.

    All have one fineness, from 2 cells across to single pixels. Half of them are grey, and each has a strength of its
    own, from none to saturated.
    """
    finest = max(1, side.bit_length() - 1)
    cells = min(side, 2 ** int(torch.randint(1, finest + 1, (), generator=rng)))
    coarse = torch.rand(count, 3, cells, cells, generator=rng) * 2 - 1
    grey = (torch.rand(count, generator=rng) < 0.5).view(-1, 1, 1, 1)
    coarse = torch.where(grey, coarse[:, :1], coarse)
    strength = 4 * torch.rand(count, 1, 1, 1, generator=rng)
    scaled = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return (scaled * strength).clamp(-1, 1)
