import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.metrics.flip import SAMPLE, flip
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.flip import release_flip

RNG = np.random.default_rng(3)
PHOTO = RNG.integers(20, 230, (20, 30, 3), dtype=np.uint8)
SAVED = PHOTO + RNG.integers(0, 9, PHOTO.shape, dtype=np.uint8)
ORIGINALS, RELEASE = "originals", "release"


class Counted(SilentProgress):
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.ended = False

    def start(self, _: str, total: int | None) -> None:
        self.total = total

    def advance(self, *_: object, **__: object) -> None:
        self.done += 1

    def finish(self) -> None:
        self.ended = True


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    for folder, pixels in ((ORIGINALS, PHOTO), (RELEASE, SAVED)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return {f"{number}.png": f"{number}.png" for number in range(3)}


def test_a_file_that_cannot_be_compared_is_left_out(tmp_path: Path, sources: dict[str, str]) -> None:
    Image.fromarray(PHOTO[1:]).save(tmp_path / RELEASE / "0.png")
    (tmp_path / RELEASE / "1.png").write_bytes(b"no image")
    os.mkfifo(tmp_path / ORIGINALS / "fifo.png")
    Image.fromarray(PHOTO).save(tmp_path / "outside.png")
    more = {"absent.png": "absent.png", "fifo.png": "fifo.png", "../outside.png": "../outside.png"}
    progress = Counted()
    found = release_flip(tmp_path / ORIGINALS, tmp_path / RELEASE, {**sources, **more}, progress)
    assert found is not None
    assert (found.mean, found.files) == (flip(PHOTO, SAVED), 1)
    assert (progress.total, progress.done, progress.ended) == (6, 6, True)
    assert release_flip(tmp_path / ORIGINALS, tmp_path / RELEASE, more, progress) is None


def test_grey_is_compared_with_a_format_without_grey(tmp_path: Path, sources: dict[str, str]) -> None:
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / ORIGINALS / "0.png")
    Image.fromarray(SAVED[..., 0]).convert("RGB").save(tmp_path / RELEASE / "0.webp", lossless=True)
    found = release_flip(tmp_path / ORIGINALS, tmp_path / RELEASE, {"0.webp": "0.png"}, SilentProgress())
    assert found is not None
    assert found.mean == pytest.approx(flip(PHOTO[..., 0], SAVED[..., 0]))
    assert sources["0.png"] == "0.png"


def test_no_more_than_a_sample_is_read(tmp_path: Path) -> None:
    progress = Counted()
    assert release_flip(tmp_path, tmp_path, {f"{number}.png": "none.png" for number in range(100)}, progress) is None
    assert progress.total == progress.done == SAMPLE
