from pathlib import Path

import numpy as np
from PIL import Image

from mtlue_cli.images.contact_sheet import GAP, draw_contact_sheet


def test_a_sheet_has_a_row_for_each_dense_task(tmp_path: Path) -> None:
    originals = np.full((2, 6, 5, 3), 100, dtype=np.uint8)
    maps = [np.full((2, 6, 5, 3), level, dtype=np.uint8) for level in (10, 20)]
    draw_contact_sheet(originals, originals + 2, tmp_path / "plain.png", scale=1)
    draw_contact_sheet(originals, originals + 2, tmp_path / "dense.png", scale=1, maps=maps)
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "dense.png") as dense:
        before, after = np.asarray(plain), np.asarray(dense)
    assert before.shape == (3 * (6 + GAP) + GAP, 2 * (5 + GAP) + GAP, 3)
    assert np.array_equal(after[: len(before)], before)
    below = after[len(before) :].reshape(-1, 3)
    assert len(after) == 5 * (6 + GAP) + GAP
    assert [(below == level).all(axis=1).sum() for level in (10, 20)] == [60, 60]
