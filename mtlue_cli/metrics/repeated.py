"""One figure measured with several seeds: its mean and how far that may be off."""

import math
from collections.abc import Iterable

from mtlue_cli.documents import Document

_T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""0.975 quantiles of Student's t for 1 to 30 degrees of freedom."""

_NORMAL_QUANTILE = 1.96


class Repeated(Document, frozen=True):
    """A figure that was measured once per seed.

    Attributes:
        mean: Mean over the seeds.
        low, high: Ends of the 95 % interval of the mean (Student's t); null with a single seed.
        values: One per seed, in the order of the condition's ``seeds``.
    """

    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, found: Iterable[float]) -> "Repeated":
        """Mean and interval of what was found."""
        values = tuple(found)
        count = len(values)
        mean = sum(values) / count
        if count < 2:
            return cls(mean, None, None, values)
        variance = sum((value - mean) ** 2 for value in values) / (count - 1)
        quantile = _T_QUANTILES[count - 2] if count - 2 < len(_T_QUANTILES) else _NORMAL_QUANTILE
        half = quantile * math.sqrt(variance / count)
        return cls(mean, mean - half, mean + half, values)

    @property
    def half_width(self) -> float | None:
        """Half of the interval; None for a single value."""
        return None if self.high is None else self.high - self.mean
