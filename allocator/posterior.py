"""From counts to the tables that a posterior version decides by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from allocator.checks import InvalidTableError, check_floor, check_shapes, check_tables
from allocator.kernels import beta_constants, probability_best_rows
from allocator.pooling import Array, pooled_tables

_PSEUDO_SUCCESSES = 10.0  # hold a day's rate near the mean until the day has seen about as many conversions
_MAX_FLOOR_PER_ARM = 0.01
_FLOOR = 0.05


@dataclass(frozen=True)
class Count:
    """Trials and successes of one cell on one day: what posteriors are made of."""

    segment: int
    variant: int
    day: date
    trials: int
    successes: int


@dataclass(frozen=True)
class PosteriorTables:
    """Beta tables of one posterior version. Row 0 serves everyone; `rows` leads from segment numbers to the others.

    alpha, beta, best: float64 (rows, arms); best is the probability of each arm to be the best of its row.
    variants: the variant number of each arm. trials: int64 (rows,). floor: the least probability of each arm.
    """

    version: int
    segmentation_version: int
    variants: tuple[int, ...]
    rows: Mapping[int, int]
    alpha: Array
    beta: Array
    best: Array
    trials: NDArray[np.int64]
    floor: float = field(init=False)
    arm_of: Mapping[int, int] = field(init=False)
    constants: Array = field(init=False)

    def __post_init__(self) -> None:
        """Index the arms by variant number, and prepare the draws. Raises InvalidTableError."""
        check_tables(self.alpha, self.beta, self.best, self.trials, len(self.variants))
        object.__setattr__(self, "floor", exploration_floor(len(self.variants)))
        check_floor(self.floor, len(self.variants))
        object.__setattr__(self, "constants", beta_constants(self.alpha, self.beta))
        object.__setattr__(self, "arm_of", {number: arm for arm, number in enumerate(self.variants)})


def exploration_floor(arms: int) -> float:
    """The least probability of each arm: arms·floor is 0.05, but a floor of at least 1 % up to ten arms."""
    return max(_FLOOR / arms, _MAX_FLOOR_PER_ARM) if arms <= 10 else _FLOOR / arms


def posterior_tables(
    version: int, segmentation_version: int, variants: Sequence[int], counts: Sequence[Count]
) -> PosteriorTables:
    """The tables that follow from all counts of one segmentation version.

    `variants` are the numbers of the variants that may be drawn, at least one; counts of others are left out. Raises
    InvalidTableError if there is none, or the counts are not counts.
    """
    if not variants:
        raise InvalidTableError("there must be at least one variant to draw")
    arm_of = {number: arm for arm, number in enumerate(variants)}
    live = [count for count in counts if count.variant in arm_of]
    segments = sorted({count.segment for count in live})
    row_of = {segment: row for row, segment in enumerate(segments)}
    shape = (max(len(segments), 1), len(variants))
    trials = np.zeros(shape)
    successes = np.zeros(shape)
    exposure = np.zeros(shape)
    relative = _relative_rates(live)
    for count in live:
        cell = row_of[count.segment], arm_of[count.variant]
        trials[cell] += count.trials
        successes[cell] += count.successes
        exposure[cell] += count.trials * relative[count.day]
    row_trials = trials.sum(1)
    total = row_trials.sum()
    shares = row_trials / total if total else np.full(shape[0], 1 / shape[0])
    alpha, beta = pooled_tables(successes, exposure, shares)
    check_shapes(alpha, beta)
    return PosteriorTables(
        version=version,
        segmentation_version=segmentation_version,
        variants=tuple(variants),
        rows={segment: row + 1 for segment, row in row_of.items()},
        alpha=alpha,
        beta=beta,
        best=probability_best_rows(alpha, beta),
        trials=np.concatenate([[total], row_trials]).astype(np.int64),
    )


def _relative_rates(counts: Sequence[Count]) -> dict[date, float]:
    """Each day's overall rate over the mean rate: exposure counts a trial of a good day for more."""
    trials: dict[date, int] = {}
    successes: dict[date, int] = {}
    for count in counts:
        trials[count.day] = trials.get(count.day, 0) + count.trials
        successes[count.day] = successes.get(count.day, 0) + count.successes
    total = sum(successes.values())
    if not total:
        return dict.fromkeys(trials, 1.0)
    mean = total / sum(trials.values())
    return {day: (successes[day] + _PSEUDO_SUCCESSES) / (trials[day] * mean + _PSEUDO_SUCCESSES) for day in trials}
