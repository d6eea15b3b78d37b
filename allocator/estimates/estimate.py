"""A value with its interval, and when there is too little to show one."""

from dataclasses import dataclass

from allocator.estimates.log import Array, WeightSums

_NORMAL_95 = 1.6448536269514722  # the quantile: 5 % on either side leave 90 %
_MIN_EFFECTIVE = 5.0


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its normal 90 % interval, all in conversion rate (0.01 is one point)."""

    value: float
    standard_error: float

    @property
    def lower(self) -> float:
        """Where the 90 % interval begins: below 0 where the normal approximation says so."""
        return self.value - _NORMAL_95 * self.standard_error

    @property
    def upper(self) -> float:
        """Where the 90 % interval ends."""
        return self.value + _NORMAL_95 * self.standard_error


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
