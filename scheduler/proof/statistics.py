"""Means and their 95 % intervals, for rows in which there is chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its two-sided 95 % interval, which is as wide as nothing known where there is one value only."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean(values: Sequence[float]) -> Mean:
    """The mean of independent values, with Student's interval. Raises ValueError where there is none."""
    if not values:
        raise ValueError("no values")
    middle = fmean(values)
    if len(values) == 1:
        return Mean(middle, float("-inf"), float("inf"), 1)
    half = student(len(values) - 1) * stdev(values) / sqrt(len(values))
    return Mean(middle, middle - half, middle + half, len(values))


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5; within 2 % from 3 degrees of freedom, exact for
    the two below that)."""
    if freedom < 3:
        return {1: 12.706, 2: 4.303}[freedom]
    z, v = _Z, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    """The mean of paired ratios. Two zeros are equal; something against a zero is infinitely more."""
    return mean([_ratio(a, b) for a, b in zip(ours, theirs, strict=True)])


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    """The ratio of two means of paired values, with the interval of the delta method: what a long run comes to, where
    single runs differ much. Raises ValueError where the second mean is 0."""
    middle, theirs_mean = fmean(ours), fmean(theirs)
    if not theirs_mean:
        raise ValueError("nothing to compare with")
    value = middle / theirs_mean
    spread = mean([(a - value * b) / theirs_mean for a, b in zip(ours, theirs, strict=True)])
    return Mean(value, value + spread.low, value + spread.high, spread.count)


def _ratio(a: float, b: float) -> float:
    if b:
        return a / b
    return 1.0 if not a else float("inf")
