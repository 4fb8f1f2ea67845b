"""One figure measured with several seeds: its mean and how far that may be off."""

import math
from dataclasses import dataclass
from typing import Any

_T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""0.975 quantiles of Student's t for 1 to 30 degrees of freedom."""

_NORMAL_QUANTILE = 1.96


@dataclass(frozen=True)
class Repeated:
    """A figure and its repetitions.

    Attributes:
        values: One a seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(self.values) / len(self.values)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval of the mean, by Student's t; None for a single value."""
        count = len(self.values)
        if count < 2:
            return None
        variance = sum((value - self.mean) ** 2 for value in self.values) / (count - 1)
        quantile = _T_QUANTILES[count - 2] if count - 2 < len(_T_QUANTILES) else _NORMAL_QUANTILE
        return quantile * math.sqrt(variance / count)

    def to_json(self) -> dict[str, Any]:
        """Mean, interval (null for a single value) and values."""
        half = self.half_width
        return {
            "mean": self.mean,
            "low": None if half is None else self.mean - half,
            "high": None if half is None else self.mean + half,
            "values": list(self.values),
        }
