"""The interval of a plain proportion, without regard to how the users were chosen."""

from math import sqrt
from statistics import NormalDist


def wilson(successes: int, trials: int, level: float) -> tuple[float, float]:
    """Return the score interval of a proportion. `trials` must be at least 1; `level` is for instance 0.9.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / trials
    shrink = 1 + z**2 / trials
    centre = rate + z**2 / (2 * trials)
    half = z * sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, (centre - half) / shrink), min(1.0, (centre + half) / shrink)
