"""Label maps as they are kept, and as they are computed with."""

from torch import Tensor


def as_labels(stored: Tensor) -> Tensor:
    """Class indices as int64, numbers as float32, whatever narrower type they are kept in."""
    return stored.float() if stored.is_floating_point() else stored.long()
