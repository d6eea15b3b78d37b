"""An estimate with its interval, and the rule that says whether there are enough data for one."""

import math
from dataclasses import dataclass

from allocator.estimates.log import Array, WeightSums

_NORMAL_95 = 1.6448536269514722  # the 95 % quantile, for an interval of 90 %
_MIN_EFFECTIVE = 5.0


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its 90 % interval, all in conversion rate (0.01 is one point).

    degrees: the degrees of freedom of the interval, which is Student's; infinite if it is the normal interval.
    """

    value: float
    standard_error: float
    degrees: float = math.inf

    @property
    def lower(self) -> float:
        """Return the lower end of the 90 % interval. It may be below 0, even if the value is a rate."""
        return self.value - _student_95(self.degrees) * self.standard_error

    @property
    def upper(self) -> float:
        """Return the upper end of the 90 % interval."""
        return self.value + _student_95(self.degrees) * self.standard_error


def _student_95(degrees: float) -> float:
    """Return the 95 % quantile of Student's t by Fisher's expansion (Abramowitz and Stegun, 26.7.5).

    From 4 degrees on the error is below 2e-3.
    """
    z = _NORMAL_95
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / degrees**power for power, term in enumerate(terms))


def enough(sums: WeightSums) -> bool:
    """Return whether the weighted successes, and the weighted failures, count for 5 users or more each.

    This is the textbook rule for a normal interval of a share (n·p and n·(1 − p) at least 5), with Kish's effective
    size (Survey Sampling, 1965), (Σ|w|)²/Σw², for n. If weights differ much, the effective size is smaller than the
    number of users. Σ|w| is computed from the sums of cells, so weights of both signs in one cell make it smaller, and
    never larger.
    """
    return (
        _effective(sums.won, sums.squares_won) >= _MIN_EFFECTIVE
        and _effective(sums.total - sums.won, sums.squares - sums.squares_won) >= _MIN_EFFECTIVE
    )


def _effective(total: Array, squares: Array) -> float:
    sum_of_squares = float(squares.sum())
    return float(abs(total).sum()) ** 2 / sum_of_squares if sum_of_squares > 0 else 0.0
