"""Purification: a denoiser that an attacker trains on clean images of his own, run over the release."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.training.multitask_loop import to_float
from mtlue_cli.verification.countermeasures.base import CALL, AttackerView, Countermeasure, chunks, rounded_by_chance

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Weight decays that are tried, against the mean variance of a value that is seen."""

HELD_OUT = 5
"""One of so many of the attacker's images chooses the weight decay."""


@dataclass(frozen=True)
class Purification(Countermeasure):
    """Takes out of the release what clean images of the same kind do not show.

    The denoiser has seen clean images alone, which whoever wants to learn from a release may have: no original of it,
    no label, no generator. It learns to undo random patterns of the release's bound, from half of the image to single
    pixels, in colour and in grey; what the protection really adds it never sees. As it is linear, it finds colours and
    fine patterns, and takes coarse grey ones for shading.

    Attributes:
        examples: Perturbed copies of the attacker's images that it learns from.
        coarse: Side in pixels of the whole image, averaged down, that the first stage sees.
        patch: Side in pixels of the patches that the second stage sees.

    Source:
        Dolatabadi, Erfani and Leckie, "The Devil's Advocate: Shattering the Illusion of Unexploitable Data using
        Diffusion Models" (AVATAR), arXiv 2303.08500: purify a release with a denoiser that was trained on clean images.
        Deviation: in place of a diffusion model, whose training takes a GPU, linear denoising autoencoders in closed
        form (Chen et al., Marginalized Denoising Autoencoders for Domain Adaptation, ICML 2012), the whole image first,
        then patches; so nothing has to drown in noise first. The weight decay is the one that is best on images of
        the attacker's that are held out. No value moves by more than the bound. Images to be judged are not purified.
    """

    title = "Purification by own images"
    source = "Dolatabadi et al., AVATAR, 2023, arXiv 2303.08500, with the denoiser of Chen et al., ICML 2012"
    examples: Annotated[int, Meta(ge=1)] = 2000
    coarse: Annotated[int, Meta(ge=2, le=32)] = 16
    patch: Annotated[int, Meta(ge=2, le=16)] = 8
    needs_own_images = True
    cost = 1.1

    def before_training(self, images: Tensor, view: AttackerView) -> Tensor:
        """The release as the denoiser restores it, ``(N, 3, S, S)`` uint8.

        Raises:
            ValueError: The attacker has no images of his own.
        """
        stages, bound = self.train(view), view.epsilon / 255.0
        rng = torch.Generator().manual_seed(view.seed)
        cleaned = torch.empty_like(images)
        for rows in chunks(len(images), CALL):
            pixels = to_float(images[rows], view.device)
            restored = pixels - removed(pixels, stages).clamp(-bound, bound)
            cleaned[rows] = rounded_by_chance((restored * 255.0).cpu(), rng)
            view.report((1 + rows.stop / len(images)) / 2)
        return cleaned

    def train(self, view: AttackerView) -> "list[Stage]":
        """The stages, each fitted to what those before it leave of the perturbation of examples.

        Raises:
            ValueError: The attacker has no images of his own.
        """
        own = view.own_images
        if own is None or not len(own):
            raise ValueError("purification needs clean images of the attacker's own")
        fitted: list[Stage] = []
        for stage in (WholeImage(self.coarse), Patches(self.patch)):
            learned, held = Moments(), Moments()
            for rows, perturbed, clean in self._examples(own, view):
                perturbed -= removed(perturbed, fitted)
                seen, wanted = stage.seen(perturbed), stage.seen(perturbed - clean)
                is_held = (rows % HELD_OUT == 0).to(view.device)
                learned.add(seen[~is_held], wanted[~is_held])
                held.add(seen[is_held], wanted[is_held])
            stage.weights = best_weights(learned, held).float().to(view.device)
            fitted.append(stage)
            view.report(len(fitted) / 4)
        return fitted

    def _examples(self, own: Tensor, view: AttackerView) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows of the attacker's images, the images perturbed, and as they are; the same ones each time."""
        rng = torch.Generator().manual_seed(view.seed)
        for part in chunks(self.examples, CALL):
            rows = torch.randint(len(own), (part.stop - part.start,), generator=rng)
            clean = to_float(own[rows], view.device)
            added = random_patterns(len(rows), own.shape[-1], rng).to(view.device) * (view.epsilon / 255.0)
            yield rows, (clean + added).clamp(0, 1), clean


class Stage:
    """A linear map from what is seen of an image to the perturbation there."""

    weights: Tensor

    def seen(self, images: Tensor) -> Tensor:
        """What is seen of ``(B, 3, S, S)`` images: ``(B, L, D)``."""
        raise NotImplementedError

    def spread(self, found: Tensor, side: int) -> Tensor:
        """Back from ``(B, L, D)`` to images ``(B, 3, S, S)``."""
        raise NotImplementedError


class WholeImage(Stage):
    """The whole image, averaged down to ``side`` pixels."""

    def __init__(self, side: int) -> None:
        self.side = side

    def seen(self, images: Tensor) -> Tensor:
        """One row per image."""
        return nn.functional.adaptive_avg_pool2d(images, min(self.side, images.shape[-1])).flatten(1)[:, None]

    def spread(self, found: Tensor, side: int) -> Tensor:
        """Scaled up bilinearly."""
        coarse = found.view(len(found), 3, *2 * [min(self.side, side)])
        return nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)


class Patches(Stage):
    """Overlapping patches of ``side`` pixels, half a patch apart."""

    def __init__(self, side: int) -> None:
        self.side, self.stride = side, max(1, side // 2)

    def seen(self, images: Tensor) -> Tensor:
        """One row per patch; the image is continued by its last pixels until patches cover it."""
        beyond = self._padded(images.shape[-1]) - images.shape[-1]
        filled = nn.functional.pad(images, (0, beyond, 0, beyond), mode="replicate")
        return nn.functional.unfold(filled, self.side, stride=self.stride).transpose(1, 2)

    def spread(self, found: Tensor, side: int) -> Tensor:
        """The mean of the patches that cover a pixel."""
        size = 2 * (self._padded(side),)
        columns = found.transpose(1, 2)
        sums, counts = (
            nn.functional.fold(part, size, self.side, stride=self.stride)
            for part in (columns, torch.ones_like(columns))
        )
        return (sums / counts)[..., :side, :side]

    def _padded(self, side: int) -> int:
        return max(self.side, side + (self.side - side) % self.stride)


def removed(images: Tensor, stages: list[Stage]) -> Tensor:
    """What the stages, one after the other, take out of ``(B, 3, S, S)`` float images."""
    left = images
    for stage in stages:
        found = with_constant(stage.seen(left)) @ stage.weights
        left = left - stage.spread(found, images.shape[-1])
    return images - left


def with_constant(rows: Tensor) -> Tensor:
    """``rows`` with a one at the end of each."""
    return torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], dim=-1)


@dataclass
class Moments:
    """Sums of products of what is seen and what is wanted: all that linear regression takes.

    Attributes:
        seen, both: ``(D, D)`` and ``(D, W)`` float64 on the CPU; a single 0 before the first rows.
    """

    seen: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    both: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, seen: Tensor, wanted: Tensor) -> None:
        """Add rows ``(..., D - 1)`` and ``(..., W)``."""
        x, y = with_constant(seen).flatten(0, -2), wanted.flatten(0, -2)
        self.seen = self.seen + (x.T @ x).cpu().double()
        self.both = self.both + (x.T @ y).cpu().double()


def best_weights(learned: Moments, held: Moments) -> Tensor:
    """Ridge regression ``(D, W)`` of the decay that is best on held-out rows; nothing, if that is better still."""
    scales, basis = torch.linalg.eigh(learned.seen)  # once for every decay
    wanted, mixed = basis.T @ learned.both, basis.T @ held.seen @ basis
    best, least = torch.zeros_like(wanted), 0.0
    for ridge in RIDGES:
        weights = wanted / (scales.clamp_min(0.0) + ridge * scales.mean())[:, None]
        # The squared error on what is held out, less that of zero weights.
        error = float((weights * (mixed @ weights)).sum() - 2 * (weights * (basis.T @ held.both)).sum())
        if error < least:
            best, least = weights, error
    chosen: Tensor = basis @ best
    return chosen


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
    strength = 8 * torch.rand(count, 1, 1, 1, generator=rng)
    scaled = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return (scaled * strength).clamp(-1, 1)
