"""Rates with 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A rate and its interval, all 0 to 1."""

    rate: float
    low: float
    high: float


def wilson(successes: int, trials: int) -> Estimate:
    """The score interval of a proportion; `trials` must be at least 1.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).
    """
    rate = successes / trials
    shrink = 1 + _Z**2 / trials
    centre = (rate + _Z**2 / (2 * trials)) / shrink
    half = _Z / shrink * sqrt(rate * (1 - rate) / trials + _Z**2 / (4 * trials**2))
    return Estimate(rate, max(0.0, centre - half), min(1.0, centre + half))


def mean_of_arms(arms: Sequence[tuple[int, int]]) -> Estimate:
    """What uniform allocation earns: the mean of the arms' rates, with its normal interval.

    `arms` holds (successes, trials) of each, trials at least 1. The variance of the mean of k independent rates is
    Σ p(1 − p)/n / k².
    """
    rates = [successes / trials for successes, trials in arms]
    rate = sum(rates) / len(arms)
    variance = sum(p * (1 - p) / trials for p, (_, trials) in zip(rates, arms, strict=True)) / len(arms) ** 2
    half = _Z * sqrt(variance)
    return Estimate(rate, max(0.0, rate - half), min(1.0, rate + half))
