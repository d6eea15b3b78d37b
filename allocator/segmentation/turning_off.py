"""Whether a segmentation still brings what was expected of it."""

import math
from collections.abc import Sequence

from allocator.estimates import Estimate
from allocator.segmentation.evidence import normal_mixture

DECISIVE = 500.0  # mean days to a false alarm, at least
HARMFUL = 20.0
_HARMS = (0.0025, 0.005, 0.01, 0.02)  # of conversion rate


def vanished_statistic(days: Sequence[Estimate], expected: float) -> float:
    """How strongly the days say that the lift has vanished, at whatever day it did: off from DECISIVE on.

    Shiryaev and Roberts' statistic, which grows by itself by 1 a day while nothing has changed, so that the mean time
    to a false alarm is at least its bound (Pollak, Optimal detection of a change in distribution, Annals of Statistics
    1985): M ← (M + 1)·exp((δ²/2 − δX)/s²), the likelihood ratio of a lift of 0 against one of δ, half of what was
    expected; X is a day's lift, s its standard error.

    Args:
        days: the lift of each day in order, of that day's users alone.
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
    """How many times likelier a lift is that is below 0 than one of 0; it may be looked at whenever one likes.

    The mean over τ of the likelihood ratio of N(0, τ²) against 0, for the lift of all users so far: a martingale from
    1 where the lift is 0, so that P(ever ≥ 20) ≤ 5 % (as in `allocator.adaptation.winner`). 1 where the lift is
    positive.
    """
    if lift.value >= 0 or lift.standard_error <= 0:
        return 1.0
    return normal_mixture(lift.value, 1 / lift.standard_error**2, _HARMS)
