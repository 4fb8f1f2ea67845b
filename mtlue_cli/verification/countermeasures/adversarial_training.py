"""Adversarial training: learn from images that are first changed to raise the network's own loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.training.intervention import Intervention, Mixture
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure, steady


@dataclass(frozen=True)
class AdversarialTraining(Countermeasure):
    """Trains on the worst images within a radius of the release's; the defaults are projected gradient descent.

    A perturbation no larger than the radius can be undone by it, so its shortcut is of no use any more. The price is a
    network that learns the content less well too, all the more in few epochs: compare with the same on clean images.

    Attributes:
        radius: Largest change of a colour value, in 255ths; None: the bound of the release.
        steps: Gradient steps, each a pass forward and backward; 0 leaves the random start alone.
        step_size: Of each, in 255ths; None: ``2.5 * radius / steps``.
        random_start: Whether it starts from uniform noise within the radius rather than from the image.

    Source:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018 (seven steps, random
        start, steps of ``2.5 * radius / steps``). As a countermeasure: Tao et al., "Better Safe Than Sorry: Preventing
        Delusive Adversaries with Adversarial Training", NeurIPS 2021, who show that a radius as large as the
        perturbation's suffices: hence the release's own bound by default. Also Huang et al., ICLR 2021, and, with radii
        up to 4, Fu et al., ICLR 2022. Deviations: the loss is the mean over the tasks, unlabelled cells masked; the
        attack runs with the batch's own statistics (:func:`~.base.steady`), not in evaluation mode, since running
        statistics lag behind in a training of few epochs.
    """

    title = "Adversarial training, PGD"
    source = "Madry et al., ICLR 2018; Tao et al., Better Safe Than Sorry, NeurIPS 2021"
    radius: Annotated[float, Meta(gt=0)] | None = None
    steps: Annotated[int, Meta(ge=0)] = 7
    step_size: Annotated[float, Meta(gt=0)] | None = None
    random_start: bool = True

    @property
    def cost(self) -> float:
        """Passes forward and backward in place of one."""
        return 1 + self.steps

    def lengths(self, epsilon: int) -> tuple[float, float]:
        """Radius and step size, in 255ths, against a release of bound ``epsilon``."""
        radius = float(epsilon) if self.radius is None else self.radius
        return radius, 2.5 * radius / max(self.steps, 1) if self.step_size is None else self.step_size

    def during_training(self, view: AttackerView) -> Intervention:
        """The attack on each batch: climb the loss by signed gradients, within the radius and in [0, 1]."""
        radius, stride = (length / 255.0 for length in self.lengths(view.epsilon))

        def attack(network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
            low, high = (images - radius).clamp_min(0.0), (images + radius).clamp_max(1.0)
            worst = images.detach().clone()
            if self.random_start:
                start = torch.rand(images.shape, generator=rng).to(images.device)
                worst = (worst + (2.0 * start - 1.0) * radius).clamp(low, high)
            with steady(network):
                for _ in range(self.steps):
                    worst.requires_grad_(True)
                    loss = mean_loss(task_losses(network(worst), labels, view.tasks))
                    (gradient,) = torch.autograd.grad(loss, [worst])
                    worst = (worst.detach() + stride * gradient.sign()).clamp(low, high)
            return Mixture(worst.detach(), labels)

        return attack


@dataclass(frozen=True)
class FgsmTraining(Countermeasure):
    """Adversarial training with one step of 1.25 times the radius from a random start.

    Attributes:
        radius: Largest change of a colour value, in 255ths; None: the bound of the release.
    """

    title = "Adversarial training, FGSM"
    source = "Wong et al., Fast is better than free, ICLR 2020"
    cost = 2.0
    radius: Annotated[float, Meta(gt=0)] | None = None

    def attack(self, epsilon: int) -> AdversarialTraining:
        """The general attack that it is against a release of bound ``epsilon``, in 255ths."""
        radius = float(epsilon) if self.radius is None else self.radius
        return AdversarialTraining(radius, steps=1, step_size=1.25 * radius)

    def during_training(self, view: AttackerView) -> Intervention:
        """The attack on each batch."""
        return self.attack(view.epsilon).during_training(view)
