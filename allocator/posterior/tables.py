"""Making the tables of a posterior version from counts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from allocator.defects import InvalidTableError
from allocator.hashing import version_word
from allocator.kernels import beta_constants, probability_best_rows
from allocator.posterior.checks import check_floor, check_shapes, check_tables
from allocator.posterior.effective_trials import (
    ALL_MATURE,
    Array,
    Count,
    EffectiveCounts,
    ImmatureUsers,
    effective_counts,
)
from allocator.posterior.pooling import pooled_tables

_LEAST_FLOOR_PER_ARM = 0.01  # up to ten arms
_FLOOR = 0.05  # of all arms together
_LEAST_TRIALS = 100  # from which a variant that was added later is drawn like the others


@dataclass(frozen=True)
class PosteriorTables:
    """The Beta tables of one posterior version. Row 0 is for everyone; the other rows are for one segment each.

    variants: the variant number of each arm. rows: the row of each segment that has one, by segment number.
    alpha, beta: float64 (rows, arms), the Beta shapes.
    best: float64 (rows, arms), the probability of each arm to be the best of its row.
    trials: int64 (rows,), the mature users of each row.
    held_back: the arms that get at most 1/K of the draws.
    redrawn: float64 (rows, arms), the probability of each arm to be the best of those that are not held back; it has
        no rows if no arm is held back.
    floor: the least probability of each arm. arm_of: the arm of each variant number.
    chance: float64 (rows, arms), the probability of each arm to be drawn.
    constants, established_constants: what the draws need of all arms, and of the `established` ones, which are not
        held back.
    row_trials, row_chances: `trials` and `chance` as lists, which a single decision reads faster.
    version_word: the seed word of the version.
    """

    version: int
    segmentation_version: int
    variants: tuple[int, ...]
    rows: Mapping[int, int]
    alpha: Array
    beta: Array
    best: Array
    trials: NDArray[np.int64]
    held_back: tuple[int, ...]
    redrawn: Array
    floor: float = field(init=False)
    arm_of: Mapping[int, int] = field(init=False)
    chance: Array = field(init=False)
    constants: Array = field(init=False)
    established: tuple[int, ...] = field(init=False)
    established_constants: Array = field(init=False)
    row_trials: Sequence[int] = field(init=False)
    row_chances: Sequence[Sequence[float]] = field(init=False)
    version_word: int = field(init=False)

    def __post_init__(self) -> None:
        """Check the tables and derive the fields that draws need. Raise InvalidTableError if they are malformed."""
        arms = len(self.variants)
        check_tables(self.alpha, self.beta, self.best, self.trials, arms)
        set_field = partial(object.__setattr__, self)
        set_field("floor", exploration_floor(arms))
        check_floor(self.floor, arms)
        set_field("arm_of", {number: arm for arm, number in enumerate(self.variants)})
        set_field("constants", beta_constants(self.alpha, self.beta))
        set_field("established", tuple(arm for arm in range(arms) if arm not in self.held_back))
        set_field("established_constants", np.ascontiguousarray(self.constants[:, self.established]))
        set_field("chance", self._chance())
        set_field("row_trials", self.trials.tolist())
        set_field("row_chances", self.chance.tolist())
        set_field("version_word", version_word(self.version))

    def _chance(self) -> Array:
        """Return the probability of each arm to be drawn, by Thompson sampling over a floor.

        What an arm that is held back has beyond 1/K goes to the others, by their probability to be the best of them.
        """
        arms = len(self.variants)
        chance = self.floor + (1 - arms * self.floor) * self.best
        if self.held_back:
            held = list(self.held_back)
            excess = np.maximum(chance[:, held] - 1 / arms, 0.0)
            chance[:, held] -= excess
            chance += excess.sum(1, keepdims=True) * self.redrawn
        return chance


def exploration_floor(arms: int) -> float:
    """Return the least probability of each arm: 0.05 shared by all arms, but at least 0.01 each up to ten arms."""
    return max(_FLOOR / arms, _LEAST_FLOOR_PER_ARM) if arms <= 10 else _FLOOR / arms


def posterior_tables(
    version: int,
    segmentation_version: int,
    variants: Sequence[int],
    counts: Sequence[Count],
    immature: ImmatureUsers = ALL_MATURE,
    added_later: Collection[int] = (),
) -> PosteriorTables:
    """Make the tables from all counts of one segmentation version.

    Args:
        version: of the posterior.
        segmentation_version: that the counts belong to.
        variants: the numbers of the variants that may be drawn, at least one. Counts of other variants are left out.
        counts: of mature and immature users.
        immature: the part of the counts that is younger than the maturity.
        added_later: the variants that were added to the running experiment. Each is held back until 100 of its users
            are mature.

    Raises:
        InvalidTableError: there is no variant, or the counts are not counts.
    """
    if not variants:
        raise InvalidTableError("there must be at least one variant to draw")
    effective = effective_counts(variants, counts, immature)
    trials = effective.trials.sum(1)
    alpha, beta = pooled_tables(effective.successes, effective.effective_trials, _traffic_shares(effective.users))
    check_shapes(alpha, beta)
    held_back = _held_back(variants, effective, added_later)
    return PosteriorTables(
        version=version,
        segmentation_version=segmentation_version,
        variants=tuple(variants),
        rows={segment: row + 1 for row, segment in enumerate(effective.segments)},
        alpha=alpha,
        beta=beta,
        best=probability_best_rows(alpha, beta),
        trials=np.concatenate([[trials.sum()], trials]).astype(np.int64),
        held_back=held_back,
        redrawn=_redrawn(alpha, beta, held_back),
    )


def _traffic_shares(users: Array) -> Array:
    """Return the share of the users that each segment has: float64 (segments,)."""
    return np.asarray(users / users.sum()) if users.any() else np.full(len(users), 1 / len(users))


def _held_back(variants: Sequence[int], effective: EffectiveCounts, added_later: Collection[int]) -> tuple[int, ...]:
    """Return the arms of variants that were added later and have too few trials; none if that is every arm."""
    trials = effective.trials.sum(0)
    young = [arm for arm, number in enumerate(variants) if number in added_later and trials[arm] < _LEAST_TRIALS]
    return tuple(young) if len(young) < len(variants) else ()


def _redrawn(alpha: Array, beta: Array, held_back: tuple[int, ...]) -> Array:
    redrawn = np.zeros((len(alpha) if held_back else 0, alpha.shape[1]))
    if held_back:
        others = [arm for arm in range(alpha.shape[1]) if arm not in held_back]
        redrawn[:, others] = probability_best_rows(
            np.ascontiguousarray(alpha[:, others]), np.ascontiguousarray(beta[:, others])
        )
    return redrawn
