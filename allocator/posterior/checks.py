"""Checks of the numbers of a posterior version, before anything is built on them.

Each check raises InvalidTableError and changes nothing. The checks compare whole arrays, so they cost microseconds for
a version. They must not know where the numbers come from.
"""

import math

import numpy as np
from numpy.typing import NDArray

from allocator.defects import InvalidTableError

Array = NDArray[np.float64]

MIN_SHAPE = 1e-300  # below it, reciprocals and logarithms overflow
MAX_SHAPE = 1e9  # the kernels are verified up to here
_ROUNDING = 1e-9  # by which a sum of probabilities may differ from 1


def check_shapes(alpha: Array, beta: Array) -> None:
    """Check Beta shapes, float64 (rows, arms): both of the same size, not empty, each from 1e-300 to 1e9.

    Raises:
        InvalidTableError: they are not; NaN, infinite, zero and negative shapes are refused.
    """
    _check_table("alpha", alpha)
    _check_same_size("beta", beta.shape, "alpha", alpha.shape)
    for name, table in (("alpha", alpha), ("beta", beta)):
        _check_each(name, table, (table >= MIN_SHAPE) & (table <= MAX_SHAPE), f"from {MIN_SHAPE:g} to {MAX_SHAPE:g}")


def check_probabilities(best: Array) -> None:
    """Check probabilities to be best, float64 (rows, arms): each from 0 to 1, with the sum 1 in every row.

    Raises:
        InvalidTableError: they are not.
    """
    _check_table("best", best)
    _check_each("best", best, (best >= 0) & (best <= 1), "from 0 to 1")
    totals = best.sum(1)
    _check_each("sum of best", totals, np.abs(totals - 1) <= _ROUNDING, "1")


def check_tables(alpha: Array, beta: Array, best: Array, trials: NDArray[np.int64], arms: int) -> None:
    """Check all tables of a version by `check_shapes` and `check_probabilities`, and that their sizes fit.

    Args:
        alpha, beta, best: float64 (rows, arms).
        trials: int64 (rows,), ≥ 0.
        arms: how many variants may be drawn.

    Raises:
        InvalidTableError: a table is malformed.
    """
    check_shapes(alpha, beta)
    _check_same_size("best", best.shape, "alpha", alpha.shape)
    check_probabilities(best)
    _check_same_size("trials", trials.shape, "rows of alpha", alpha.shape[:1])
    _check_each("trials", trials, trials >= 0, "at least 0")
    _check_same_size("variants", (arms,), "arms of alpha", alpha.shape[1:])


def check_counts(successes: Array, trials: Array) -> None:
    """Check the counts that tables are fitted to, float64 (segments, arms).

    Both must have the same size and not be empty, and every number must be finite and at least 0.

    Raises:
        InvalidTableError: they are not.
    """
    _check_table("successes", successes)
    _check_same_size("trials", trials.shape, "successes", successes.shape)
    for name, table in (("successes", successes), ("trials", trials)):
        _check_each(name, table, np.isfinite(table) & (table >= 0), "finite and at least 0")


def check_traffic(shares: Array, segments: int) -> None:
    """Check the share of the traffic that each segment has, float64 (segments,): at least 0, with the sum 1.

    Raises:
        InvalidTableError: they are not.
    """
    _check_same_size("shares", shares.shape, "segments", (segments,))
    _check_each("shares", shares, (shares >= 0) & (shares <= 1), "from 0 to 1")
    total = float(shares.sum())
    if not abs(total - 1) <= _ROUNDING:
        raise InvalidTableError(f"shares must sum to 1; they sum to {total!r}")


def check_groups(holdout_share: float, baseline_share: float) -> None:
    """Check the shares of users that are not in the adaptive group: each from 0 to 1, with a sum of at most 1.

    Raises:
        InvalidTableError: they are not.
    """
    for name, share in (("holdout_share", holdout_share), ("baseline_share", baseline_share)):
        if not 0 <= share <= 1:
            raise InvalidTableError(f"{name} must be from 0 to 1; is {share!r}")
    if not holdout_share + baseline_share <= 1:
        raise InvalidTableError(
            f"holdout_share + baseline_share must fit into 1; they are {holdout_share!r} and {baseline_share!r}"
        )


def check_floor(floor: float, arms: int) -> None:
    """Check the least probability of each arm: finite, at least 0, with arms·floor at most 1, for at least one arm.

    Raises:
        InvalidTableError: it is not.
    """
    if arms < 1:
        raise InvalidTableError("there must be at least one arm")
    if not (math.isfinite(floor) and floor >= 0 and arms * floor <= 1):
        raise InvalidTableError(f"the floor of {arms} arms must be from 0 to 1/{arms}; is {floor!r}")


def _check_table(name: str, table: Array) -> None:
    if table.ndim != 2 or not table.size:
        raise InvalidTableError(
            f"{name} must have two dimensions and at least one row and one arm; its shape is {table.shape}"
        )


def _check_same_size(name: str, size: tuple[int, ...], other: str, expected: tuple[int, ...]) -> None:
    if size != expected:
        raise InvalidTableError(f"{name} must be as large as {other}: the size must be {expected}, and is {size}")


def _check_each(name: str, values: NDArray[np.generic], good: NDArray[np.bool_], accepted: str) -> None:
    if not good.all():
        index = np.unravel_index(int(np.argmin(good)), good.shape)
        position = ", ".join(str(int(i)) for i in index)
        raise InvalidTableError(f"{name}[{position}] must be {accepted}; is {values[index]}")
