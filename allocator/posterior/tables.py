"""From counts to the tables that a posterior version decides by."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from allocator.defects import InvalidTableError
from allocator.hashing import version_word
from allocator.kernels import beta_constants, probability_best_rows
from allocator.posterior.checks import check_floor, check_shapes, check_tables
from allocator.posterior.effective_trials import NOTHING_PENDING, Array, Count, Evidence, Pending, gather
from allocator.posterior.pooling import pooled_tables

_MAX_FLOOR_PER_ARM = 0.01
_FLOOR = 0.05
_LEAST_TRIALS = 100  # that a variant which was added later needs, to be drawn like the others


@dataclass(frozen=True)
class PosteriorTables:
    """Beta tables of one posterior version. Row 0 serves everyone; `rows` leads from segment numbers to the others.

    alpha, beta, best: float64 (rows, arms); best is the probability of each arm to be the best of its row.
    variants: the variant number of each arm. trials: int64 (rows,), of mature users.
    held_back: arms that get at most 1/K of the draws. redrawn: float64 (rows, arms), the probability of each arm to be
        the best of those not held back; no rows where none is.
    floor: the least probability of each arm. chance: float64 (rows, arms), the probability of each to be drawn.
    row_trials, row_chances: trials and chance as lists, which a single decision reads faster.
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
        """Index the arms by variant number, and prepare the draws. Raises InvalidTableError."""
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
        """The floor and Thompson sampling; what is beyond 1/K of a held back arm is drawn among the others."""
        arms = len(self.variants)
        chance = self.floor + (1 - arms * self.floor) * self.best
        if self.held_back:
            held = list(self.held_back)
            excess = np.maximum(chance[:, held] - 1 / arms, 0.0)
            chance[:, held] -= excess
            chance += excess.sum(1, keepdims=True) * self.redrawn
        return chance


def exploration_floor(arms: int) -> float:
    """The least probability of each arm: arms·floor is 0.05, but a floor of at least 1 % up to ten arms."""
    return max(_FLOOR / arms, _MAX_FLOOR_PER_ARM) if arms <= 10 else _FLOOR / arms


def posterior_tables(
    version: int,
    segmentation_version: int,
    variants: Sequence[int],
    counts: Sequence[Count],
    pending: Pending = NOTHING_PENDING,
    added_later: Collection[int] = (),
) -> PosteriorTables:
    """The tables that follow from all counts of one segmentation version.

    `variants` are the numbers of the variants that may be drawn, at least one; counts of others are left out.
    `added_later` are those that came to a running experiment: they are held back until 100 of their users are mature.
    Raises InvalidTableError if there is no variant, or the counts are not counts.
    """
    if not variants:
        raise InvalidTableError("there must be at least one variant to draw")
    evidence = gather(variants, counts, pending)
    trials = evidence.trials.sum(1)
    alpha, beta = pooled_tables(evidence.successes, evidence.exposure, _shares(evidence))
    check_shapes(alpha, beta)
    held_back = _held_back(variants, evidence, added_later)
    return PosteriorTables(
        version=version,
        segmentation_version=segmentation_version,
        variants=tuple(variants),
        rows={segment: row + 1 for row, segment in enumerate(evidence.segments)},
        alpha=alpha,
        beta=beta,
        best=probability_best_rows(alpha, beta),
        trials=np.concatenate([[trials.sum()], trials]).astype(np.int64),
        held_back=held_back,
        redrawn=_redrawn(alpha, beta, held_back),
    )


def _shares(evidence: Evidence) -> Array:
    """Each segment's share of traffic."""
    users = evidence.users
    return np.asarray(users / users.sum()) if users.any() else np.full(len(users), 1 / len(users))


def _held_back(variants: Sequence[int], evidence: Evidence, added_later: Collection[int]) -> tuple[int, ...]:
    """The arms of variants that are too young to be judged, unless all are."""
    trials = evidence.trials.sum(0)
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
