"""A value with its interval, and when there is too little to show one."""

import math
from dataclasses import dataclass

from allocator.estimates.log import Array, WeightSums

_NORMAL_95 = 1.6448536269514722  # the quantile: 5 % on either side leave 90 %
_MIN_EFFECTIVE = 5.0


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its 90 % interval, all in conversion rate (0.01 is one point).

    degrees: of freedom of the interval, which is Student's; infinite where it is the normal one.
    """

    value: float
    standard_error: float
    degrees: float = math.inf

    @property
    def lower(self) -> float:
        """Where the 90 % interval begins: below 0 where the approximation says so."""
        return self.value - _student_95(self.degrees) * self.standard_error

    @property
    def upper(self) -> float:
        """Where the 90 % interval ends."""
        return self.value + _student_95(self.degrees) * self.standard_error


def _student_95(degrees: float) -> float:
    """The 95 % quantile of Student's t by Fisher's expansion (Abramowitz and Stegun, 26.7.5): 2e-3 from 4 degrees."""
    z = _NORMAL_95
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / degrees**power for power, term in enumerate(terms))


def enough(sums: WeightSums) -> bool:
    """Whether the weighted successes and the weighted failures each count for 5 users or more.

    The textbook rule for a normal interval of a share (n·p and n·(1 − p) at least 5), with Kish's effective size
    (Survey Sampling, 1965), (Σ|w|)²/Σw², for n: weights far apart count for fewer users than were seen. |w| is summed
    from cells, so weights of both signs in one cell make it smaller: never larger.
    """
    return (
        _effective(sums.won, sums.squares_won) >= _MIN_EFFECTIVE
        and _effective(sums.total - sums.won, sums.squares - sums.squares_won) >= _MIN_EFFECTIVE
    )


def _effective(total: Array, squares: Array) -> float:
    sum_of_squares = float(squares.sum())
    return float(abs(total).sum()) ** 2 / sum_of_squares if sum_of_squares > 0 else 0.0
