"""How visible a release is: mean FLIP over a sample of its files."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import Pixels, decode_image
from mtlue_cli.images.encode import comparable_pixels
from mtlue_cli.metrics.flip import MeanFlip, mean_flip, sampled
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.workflows.progress import Progress


def release_flip(originals: Path, release: Path, sources: Mapping[str, str], progress: Progress) -> MeanFlip | None:
    """Mean over a sample of the files of a release, both decoded upright; None if none could be compared.

    ``sources`` maps each released file to its original, both relative POSIX. A file that cannot be read, or does not
    have its original's size and depth, is left out of the mean.
    """
    sample = sampled(sources)

    def pairs() -> Iterator[tuple[Pixels, Pixels]]:
        for name in sample:
            if path_fault(name) is None and path_fault(sources[name]) is None:
                with contextlib.suppress(OSError, ImageError):
                    after = decode_image(release / name).pixels
                    before = comparable_pixels(decode_image(originals / sources[name]).pixels, after)
                    if before.shape == after.shape and before.dtype == after.dtype:
                        yield before, after
            progress.advance()

    progress.start("measuring FLIP", len(sample))
    try:
        return mean_flip(pairs())
    finally:
        progress.finish()
