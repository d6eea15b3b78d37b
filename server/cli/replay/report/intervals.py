"""Rates with 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from allocator.estimates import proportion

_LEVEL = 0.95
_Z = NormalDist().inv_cdf((1 + _LEVEL) / 2)


@dataclass(frozen=True)
class Estimate:
    """A rate and its interval, all 0 to 1."""

    rate: float
    low: float
    high: float


def wilson(successes: int, trials: int) -> Estimate:
    """Return a proportion with Wilson's interval; `trials` must be at least 1."""
    return Estimate(successes / trials, *proportion.wilson(successes, trials, _LEVEL))


def mean_of_arms(arms: Sequence[tuple[int, int]]) -> Estimate:
    """Return what uniform allocation earns: the mean of the variants' rates, with its normal interval.

    `arms` holds (successes, trials) of each variant, trials at least 1. The variance of the mean of k independent
    rates is Σ p(1 − p)/n / k².
    """
    rates = [successes / trials for successes, trials in arms]
    rate = sum(rates) / len(arms)
    variance = sum(p * (1 - p) / trials for p, (_, trials) in zip(rates, arms, strict=True)) / len(arms) ** 2
    half = _Z * sqrt(variance)
    return Estimate(rate, max(0.0, rate - half), min(1.0, rate + half))
