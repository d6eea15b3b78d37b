"""What estimates need to know of a log of assignments: sums per (period, segment, variant), whatever its length.

Every estimator here is a sum over users of w·(y − m), with a weight w made of the logged propensities and an outcome
model m that is constant in a cell; so Σw, Σwy, Σw² and Σw²y of each cell give exactly what going row by row would.
Grouping by posterior version is not needed: versions change every few seconds, sums do not grow with them.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from allocator.defects import InvalidLogError

Array = NDArray[np.float64]

_PRIOR_TRIALS = 20.0  # that the wider rate counts for in a narrower one


@dataclass(frozen=True)
class WeightSums:
    """Sums of a weight w over the users of each cell, all and successful ones: float64 (periods, segments, variants).

    total: Σ w; won: Σ w·y; squares: Σ w²; squares_won: Σ w²·y, where y is 1 for a success, else 0.
    """

    total: Array
    won: Array
    squares: Array
    squares_won: Array

    def residuals(self, model: Array) -> Array:
        """Σ w·(y − m) of each cell, for an outcome model that broadcasts to (periods, segments, variants)."""
        return self.won - model * self.total

    def squared_residuals(self, model: Array) -> Array:
        """Σ w²·(y − m)² of each cell: each success is 1 − m away from the model, each failure m."""
        return self.squares_won * (1 - model) ** 2 + (self.squares - self.squares_won) * model**2


@dataclass(frozen=True)
class LoggedAssignments:
    """A log of assignments, summed: A is the variant drawn, p̄ its marginal propensity, q_s and q_g as in Decision.

    Periods are in the order of time (days, say; the finer, the more the outcome model knows); segments are strata:
    a segment of another segmentation version is another one. Only trials that are `maturity` old belong here.

    trials, successes: float64 (periods, segments, variants).
    inverse: sums of w = 1/p̄(A).
    segmentation: sums of w = (q_s(A) − q_g(A))/p̄(A).
    adaptive: sums of w = (q_s(A) − 1{A is control})/p̄(A).
    lowest: float64 (variants,), the least of q_s(A) and q_g(A) in the log; 1 for a variant that was never drawn.
    drawable: bool (periods, variants): whether the variant could be drawn in the whole period. A variant that is
        added or retired begins a new period.
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
        """Users of each (period, segment): float64 (periods, segments)."""
        users: Array = self.trials.sum(2)
        return users

    @cached_property
    def base_model(self) -> Array:
        """m̂(x), the segment's rate in earlier periods, drawn to that of everyone: float64 (periods, segments, 1).

        0 in the first period. Any function of the past would do: a better one only narrows the intervals.
        """
        trials, successes = _earlier(self.trials).sum(2), _earlier(self.successes).sum(2)
        everyone = trials.sum(1, keepdims=True)
        rate = np.divide(successes.sum(1, keepdims=True), everyone, out=np.zeros_like(everyone), where=everyone > 0)
        model: Array = (successes + _PRIOR_TRIALS * rate) / (trials + _PRIOR_TRIALS)
        return model[:, :, None]

    @cached_property
    def model(self) -> Array:
        """m̂(x, a), the variant's rate in earlier periods, drawn to the segment's: (periods, segments, variants)."""
        trials, successes = _earlier(self.trials), _earlier(self.successes)
        return (successes + _PRIOR_TRIALS * self.base_model) / (trials + _PRIOR_TRIALS)


def _earlier(counts: Array) -> Array:
    """Sums over the periods before each."""
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
    """The log of users, or of groups of users with the same propensities: all arrays of one length.

    Args:
        period, segment, variant: indices from 0; every segment occurs, periods and variants are those of `drawable`.
        trials, successes: of the group; a single user has 1 trial.
        marginal, q_segment, q_global: the logged propensities of the variant drawn, of each user of the group.
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
