"""Detectability: how well a linear model tells protected images from clean ones."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from mtlue_cli.choices import ProbeName
from mtlue_cli.verification.probes.base import ROWS, Probe, ProbeFigures, ProbeSample


@dataclass(frozen=True)
class Detectability(Probe):
    """Fits logistic regression on half of the images and scores the other half.

    In either half every image is seen once only, as the original or as protected: a detector meets no pairs. The figure
    ``auroc`` is the area under the receiver operating characteristic on the unseen half; 0.5 is chance, 1 certain.

    Attributes:
        pixels: Side of the averaged picture among the features.
        residual: Side of the grid of mean residual strengths among the features.
        penalty: Weight of the mean squared weight in the loss.
        iterations: Of L-BFGS, at most.

    Source:
        Logistic regression on an averaged picture and on statistics of high-pass residuals, the features of
        steganalysis (Fridrich and Kodovsky, "Rich Models for Steganalysis of Digital Images", IEEE TIFS 2012), here a
        few hundred in place of tens of thousands. Single linear or two-layer detectors of unlearnable examples: Zhu
        et al., "Detection and Defense of Unlearnable Examples", AAAI 2024. A deep detector may find more.
    """

    pixels: int = 8
    residual: int = 4
    penalty: float = 1.0
    iterations: int = 100
    title = "linear detector of protected images"

    def run(self, sample: ProbeSample, seed: int, device: torch.device) -> ProbeFigures:
        """The figure ``auroc``."""

        def seen(clean: Tensor, protected: Tensor) -> tuple[Tensor, Tensor]:
            """Features of originals and of protected images, and which of them are protected."""
            features = [
                self.features(images[part].to(device).float())
                for images, rows in ((sample.originals, clean), (sample.release, protected))
                for part in torch.split(rows, ROWS)
            ]
            return torch.cat(features), torch.arange(len(clean) + len(protected), device=device) >= len(clean)

        clean_fit, protected_fit, clean_test, protected_test = sample.divided(seed, 4)
        fit, fit_is_protected = seen(clean_fit, protected_fit)
        test, test_is_protected = seen(clean_test, protected_test)
        mean, spread = fit.mean(dim=0), fit.std(dim=0).clamp_min(1e-6)
        # Limited, since a feature of a far tail must not carry the verdict over an image alone.
        fit, test = ((part - mean).div(spread).clamp(-8.0, 8.0) for part in (fit, test))
        weights = self._fit_logistic(fit, fit_is_protected)
        auroc = float(binary_auroc(test @ weights, test_is_protected.long()))
        if auroc < 0.6:
            verdict = "hardly better than chance: such a simple filter does not find these images"
        elif auroc < 0.9:
            verdict = "in part: a filter would drop protected images together with many clean ones"
        else:
            verdict = "almost surely: a scraper can find protected images and leave them out or treat them"
        finding = f"A linear detector tells protected images from clean ones with an AUROC of {auroc:.3f}, {verdict}."
        return ProbeFigures(ProbeName.DETECTABILITY, self.title, {"auroc": auroc}, finding)

    def features(self, images: Tensor) -> Tensor:
        """What the detector sees of ``(B, 3, S, S)`` float images, 0 to 255: ``(B, F)`` float.

        The averaged picture; for each colour and for each of three high-pass filters the strength of the residual on a
        grid, its mean, and the share of each value from -4 to 4; the residuals' correlation between colours.
        """
        features = [nn.functional.adaptive_avg_pool2d(images, self.pixels).flatten(1)]
        residuals = (
            images[..., :, 1:] - images[..., :, :-1],
            images[..., 1:, :] - images[..., :-1, :],
            images[..., 1:-1, 1:-1]
            - (images[..., :-2, 1:-1] + images[..., 2:, 1:-1] + images[..., 1:-1, :-2] + images[..., 1:-1, 2:]) / 4.0,
        )
        for residual in residuals:
            features.append(nn.functional.adaptive_avg_pool2d(residual.abs(), self.residual).log1p().flatten(1))
            features.append(residual.mean((2, 3)))
            rounded = residual.round()
            features += [(rounded == value).float().mean((2, 3)) for value in range(-4, 5)]
            centred = (residual - residual.mean((2, 3), keepdim=True)).flatten(2)
            unit = nn.functional.normalize(centred, dim=2)
            features += [(unit[:, a] * unit[:, b]).sum(dim=1, keepdim=True) for a, b in ((0, 1), (0, 2), (1, 2))]
        return torch.cat(features, dim=1)

    def _fit_logistic(self, features: Tensor, positive: Tensor) -> Tensor:
        """Weights of the penalised logistic regression, without its intercept, which a ranking does not need."""
        weights = features.new_zeros(features.shape[1] + 1, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=self.iterations, line_search_fn="strong_wolfe")

        def closure() -> float:
            optimizer.zero_grad()
            scores = features @ weights[:-1] + weights[-1]
            loss = nn.functional.binary_cross_entropy_with_logits(scores, positive.float())
            loss = loss + self.penalty * weights[:-1].square().mean()
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            return float(loss.detach())

        optimizer.step(closure)  # type: ignore[no-untyped-call]  # untyped in torch
        return weights.detach()[:-1]
