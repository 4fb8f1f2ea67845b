"""How visible a release is: mean FLIP over a sample of its files."""

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
            pair = _pair(originals, sources[name], release, name)
            if pair is not None:
                yield pair
            progress.advance()

    progress.start("measuring FLIP", len(sample))
    try:
        return mean_flip(pairs())
    finally:
        progress.finish()


def _pair(originals: Path, source: str, release: Path, name: str) -> tuple[Pixels, Pixels] | None:
    if path_fault(source) is not None or path_fault(name) is not None:
        return None
    try:
        before, after = decode_image(originals / source).pixels, decode_image(release / name).pixels
    except (OSError, ImageError):
        return None
    before = comparable_pixels(before, after)
    return (before, after) if before.shape == after.shape and before.dtype == after.dtype else None
