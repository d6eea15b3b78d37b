"""Whether a segmentation still brings what was expected of it."""

import math
from collections.abc import Sequence

from allocator.estimates import Estimate

DECISIVE = 500.0  # mean days to a false alarm, at least


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
