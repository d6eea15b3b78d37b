"""A log of assignments, summed per (period, segment, variant): all that estimates need, however long the log is.

Every estimator here is a sum over users of w·(y − m). The weight w is computed from the logged propensities, and the
outcome model m is constant in a cell. So Σw, Σwy, Σw² and Σw²y of each cell give exactly the same result as the rows
of the log. The sums need no grouping by posterior version, so they do not grow with the versions, which change every
few seconds.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from allocator.defects import InvalidLogError

Array = NDArray[np.float64]

_PRIOR_TRIALS = 20.0  # the rate of everyone counts like so many trials in a segment, and that of a segment in a variant


@dataclass(frozen=True)
class WeightSums:
    """Sums of a weight w over the users of each cell: float64 (periods, segments, variants).

    total: Σ w. won: Σ w·y. squares: Σ w². squares_won: Σ w²·y. y is 1 for a success, else 0.
    """

    total: Array
    won: Array
    squares: Array
    squares_won: Array

    def residuals(self, model: Array) -> Array:
        """Return Σ w·(y − m) of each cell, for an outcome model m that broadcasts to (periods, segments, variants)."""
        return self.won - model * self.total

    def squared_residuals(self, model: Array) -> Array:
        """Return Σ w²·(y − m)² of each cell: y − m is 1 − m for each success, and −m for each failure."""
        return self.squares_won * (1 - model) ** 2 + (self.squares - self.squares_won) * model**2


@dataclass(frozen=True)
class LoggedAssignments:
    """The sums over a log of assignments.

    A is the variant drawn, p̄ is its marginal propensity, and q_s and q_g are q_segment and q_global of a Decision.
    Periods are in the order of time, for instance days; the shorter they are, the more the outcome model knows. A
    segment of another segmentation version is another segment. Only mature trials belong here.

    trials, successes: float64 (periods, segments, variants).
    inverse: sums of w = 1/p̄(A).
    segmentation: sums of w = (q_s(A) − q_g(A))/p̄(A).
    adaptive: sums of w = (q_s(A) − 1{A is control})/p̄(A).
    lowest: float64 (variants,), the least q_s(A) or q_g(A) in the log; 1 for a variant that was never drawn.
    drawable: bool (periods, variants), whether the variant could be drawn during the whole period.
    """

    trials: Array
    successes: Array
    inverse: WeightSums
    segmentation: WeightSums
    adaptive: WeightSums
    lowest: Array
    drawable: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Raise InvalidLogError if a shape differs, a sum is not finite, or successes exceed trials."""
        shape = self.trials.shape
        sums = (self.inverse, self.segmentation, self.adaptive)
        named = [("trials", self.trials), ("successes", self.successes)]
        named += [(field.name, getattr(each, field.name)) for each in sums for field in fields(each)]
        for name, array in named:
            if len(shape) != 3 or array.shape != shape or not np.isfinite(array).all():
                raise InvalidLogError(
                    f"{name} must be finite and have the shape (periods, segments, variants), as trials have; "
                    f"its shape is {array.shape}"
                )
        if (self.successes < 0).any() or (self.successes > self.trials).any():
            raise InvalidLogError("successes must be from 0 to trials in every cell")
        if self.lowest.shape != shape[2:] or self.drawable.shape != (shape[0], shape[2]):
            raise InvalidLogError(
                "lowest and drawable must have the shapes (variants,) and (periods, variants); "
                f"the shapes are {self.lowest.shape} and {self.drawable.shape}"
            )

    @cached_property
    def users(self) -> Array:
        """Return the users of each period and segment: float64 (periods, segments)."""
        users: Array = self.trials.sum(2)
        return users

    @cached_property
    def base_model(self) -> Array:
        """Return m̂(x), the rate of a segment in earlier periods, shrunk to that of everyone: (periods, segments, 1).

        It is 0 in the first period. Estimates are valid with any function of the past; a better one only makes the
        intervals narrower.
        """
        trials, successes = _earlier(self.trials).sum(2), _earlier(self.successes).sum(2)
        everyone = trials.sum(1, keepdims=True)
        rate = np.divide(successes.sum(1, keepdims=True), everyone, out=np.zeros_like(everyone), where=everyone > 0)
        model: Array = (successes + _PRIOR_TRIALS * rate) / (trials + _PRIOR_TRIALS)
        return model[:, :, None]

    @cached_property
    def model(self) -> Array:
        """Return m̂(x, a), the rate of a variant in earlier periods, shrunk to that of the segment.

        float64 (periods, segments, variants).
        """
        trials, successes = _earlier(self.trials), _earlier(self.successes)
        return (successes + _PRIOR_TRIALS * self.base_model) / (trials + _PRIOR_TRIALS)


def _earlier(counts: Array) -> Array:
    """Return the sums over the periods before each period."""
    return counts.cumsum(0) - counts


def sum_assignments(
    period: NDArray[np.int64],
    segment: NDArray[np.int64],
    variant: NDArray[np.int64],
    trials: Array,
    successes: Array,
    marginal: Array,
    q_segment: Array,
    q_global: Array,
    *,
    control: int,
    drawable: NDArray[np.bool_],
) -> LoggedAssignments:
    """Sum a log whose rows are users, or groups of users with the same propensities.

    Args:
        period, segment, variant: indices from 0, one for each row. Every segment occurs; periods and variants are those
            of `drawable`.
        trials, successes: of each row; a single user has 1 trial.
        marginal, q_segment, q_global: the logged propensities of the variant drawn, for each user of the row.
        control: index of the control variant.
        drawable: bool (periods, variants), as in LoggedAssignments.

    Raises:
        InvalidLogError: a marginal propensity is outside (0, 1], another one outside [0, 1], or LoggedAssignments
            refuses the sums.
    """
    if not ((marginal > 0) & (marginal <= 1)).all():
        raise InvalidLogError("marginal propensities must be above 0 and at most 1")
    for name, q in (("q_segment", q_segment), ("q_global", q_global)):
        if not ((q >= 0) & (q <= 1)).all():
            raise InvalidLogError(f"{name} must be from 0 to 1 for every user")
    periods, variants = drawable.shape
    segments = int(segment.max(initial=0)) + 1
    cell = (period * segments + segment) * variants + variant

    def summed(values: Array) -> Array:
        sums = np.bincount(cell, values, periods * segments * variants).astype(np.float64)
        return sums.reshape(periods, segments, variants)

    def weighted(weight: Array) -> WeightSums:
        return WeightSums(
            total=summed(trials * weight),
            won=summed(successes * weight),
            squares=summed(trials * weight**2),
            squares_won=summed(successes * weight**2),
        )

    lowest = np.ones(variants)
    np.minimum.at(lowest, variant, np.minimum(q_segment, q_global))
    return LoggedAssignments(
        trials=summed(trials),
        successes=summed(successes),
        inverse=weighted(1 / marginal),
        segmentation=weighted((q_segment - q_global) / marginal),
        adaptive=weighted((q_segment - (variant == control)) / marginal),
        lowest=lowest,
        drawable=drawable,
    )
