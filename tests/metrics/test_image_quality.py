import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from mtlue_cli.metrics.image_quality import ssim
from mtlue_cli.perturbation.effect import measure_change

RNG = np.random.default_rng(5)
PHOTO = RNG.integers(20, 230, (24, 32, 3), dtype=np.uint8)
SAVED = PHOTO + RNG.integers(0, 9, PHOTO.shape, dtype=np.uint8)


def test_psnr_by_hand_and_as_torchmetrics_has_it() -> None:
    assert measure_change(PHOTO, PHOTO).psnr is None
    assert measure_change(PHOTO, PHOTO + np.uint8(8)).psnr == pytest.approx(20 * np.log10(255 / 8), abs=1e-3)
    expected = peak_signal_noise_ratio(torch.from_numpy(SAVED).float(), torch.from_numpy(PHOTO).float(), 255.0)
    assert measure_change(PHOTO, SAVED).psnr == pytest.approx(expected.item(), abs=1e-3)
    deep = PHOTO[..., 0].astype(np.uint16) * 257
    assert measure_change(deep, deep + np.uint16(8 * 257)).psnr == pytest.approx(20 * np.log10(255 / 8), abs=1e-3)


def test_ssim_falls_with_the_change() -> None:
    assert ssim(PHOTO, PHOTO) == pytest.approx(1.0)
    small, large = ssim(PHOTO, SAVED), ssim(PHOTO, 255 - PHOTO)
    assert small is not None
    assert large is not None
    assert 1 > small > 0.9 > large
    assert ssim(PHOTO[..., 0], PHOTO[..., 0]) == pytest.approx(1.0)
    assert ssim(PHOTO[:10], PHOTO[:10]) is None
