"""Two statistics that say when to turn a segmentation off: its lift has vanished, or it does harm."""

import math
from collections.abc import Sequence

from allocator.estimates import Estimate
from allocator.segmentation.evidence import normal_mixture

VANISHED_BOUND = 500.0  # of `vanished_statistic`: the mean time to a false alarm is at least so many days
HARM_BOUND = 20.0  # of `harm_e_value`: a false alarm has a probability of at most 5 %, over all time
_HARMS = (0.0025, 0.005, 0.01, 0.02)  # τ, in conversion rate


def vanished_statistic(days: Sequence[Estimate], expected: float) -> float:
    """Return how strongly the days say that the lift has vanished, on whatever day. Turn off from VANISHED_BOUND on.

    This is the statistic of Shiryaev and Roberts: M ← (M + 1)·exp((δ²/2 − δX)/s²). X is the lift of a day, s is its
    standard error, and δ is half of the expected lift; the factor is the likelihood ratio of a lift of 0 against one
    of δ. While nothing has changed, the expectation of M grows by 1 a day. The mean time to a false alarm is therefore
    at least the bound (Pollak, Optimal detection of a change in distribution, Annals of Statistics 1985).

    Args:
        days: the lift of each day, in order, from the users of that day alone.
        expected: the lift that was expected, above 0.
    """
    delta = expected / 2
    statistic = 0.0
    for day in days:
        if day.standard_error > 0:
            log_ratio = (delta**2 / 2 - delta * day.value) / day.standard_error**2
            statistic = min((statistic + 1) * math.exp(min(log_ratio, 50.0)), 1e12)
    return statistic


def harm_e_value(lift: Estimate) -> float:
    """Return how much likelier the lift of all users so far is if the true lift is not 0. Turn off from HARM_BOUND on.

    It may be computed at any time, and as often as one likes. It is the mean over τ of the likelihood ratio of
    N(0, τ²) against 0 (see `normal_mixture`). If the true lift is 0, that is a martingale from 1, and therefore
    P(ever ≥ 20) ≤ 5 %. The value is 1 if the lift is not below 0, since only harm counts.
    """
    if lift.value >= 0 or lift.standard_error <= 0:
        return 1.0
    return normal_mixture(lift.value, 1 / lift.standard_error**2, _HARMS)
