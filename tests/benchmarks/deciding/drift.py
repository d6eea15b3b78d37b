"""The share of users who get the best arm while the base rate drifts, by how trials are counted."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from allocator.kernels import beta_constants, draw_best_arms, warm_up
from allocator.posterior.effective_trials import Array, day_factors
from allocator.posterior.pooling import pooled_tables
from allocator.posterior.tables import exploration_floor
from tests.benchmarks.row import Row

_SEED = 23
_REPETITIONS = 400
_DAYS, _USERS_A_DAY = 30, 700
_RATES = np.array([0.10, 0.10, 0.10, 0.12])
_LAST = 10  # days that are compared
_GOALS = {"raw counts": 0.97, "the day's rate": 1.0}  # least share of the best arm, over that of the other rule
_PRIOR = 10.0

_Rule = Callable[[Array, Array], Array]  # trials and successes, float64 (days, arms) → factors, float64 (days,)


def rows() -> list[Row]:
    """Compare without drift, and with a base rate that falls by 40 %. Ratios are ours over each other rule."""
    result = []
    for name, fall in (("no drift", 0.0), ("the base rate falls by 40 %", 0.4)):
        with ProcessPoolExecutor(initializer=warm_up) as pool:
            shares = np.array(list(pool.map(partial(_shares, fall), range(_REPETITIONS), chunksize=10)))
        for rule, goal in _GOALS.items():
            ours, other = shares[:, 0], shares[:, 1 + list(_GOALS).index(rule)]
            ratio = float(ours.mean() / other.mean())
            error = float((ours - ratio * other).std(ddof=1) / np.sqrt(_REPETITIONS) / other.mean())
            result.append(
                Row(
                    figure=f"{name}, against {rule}",
                    reference=f"{other.mean():.1%} of users get the best arm",
                    ours=f"{ours.mean():.1%}",
                    ratio=ratio,
                    spread=f"SE {error:.3f}, {_REPETITIONS} repetitions, the last {_LAST} of {_DAYS} days",
                    goal=f"≥ {goal} within 2 SE",
                    holds=ratio + 2 * error >= goal,
                )
            )
    return result


def _shares(fall: float, repetition: int) -> list[float]:
    rules: list[_Rule] = [day_factors, lambda trials, successes: np.ones(len(trials)), _relative_rate]
    return [_share(rule, fall, np.random.default_rng([_SEED, repetition])) for rule in rules]


def _relative_rate(trials: Array, successes: Array) -> Array:
    """Return each day's overall rate over the mean rate, whichever arms were played."""
    mean = (successes.sum() + 1) / (trials.sum() + 10)
    return (successes.sum(1) + _PRIOR) / (trials.sum(1) * mean + _PRIOR)


def _share(rule: _Rule, fall: float, rng: np.random.Generator) -> float:
    trials, successes = np.zeros((2, _DAYS, _RATES.size))
    for day in range(_DAYS):
        effective_trials = trials[:day] * rule(trials[:day], successes[:day])[:, None]
        alpha, beta = pooled_tables(successes.sum(0)[None], effective_trials.sum(0)[None], np.ones(1))
        seeds = rng.integers(2**63 - 1, size=(_USERS_A_DAY, 2))
        rows = np.zeros(_USERS_A_DAY, np.int64)
        arm = draw_best_arms(beta_constants(alpha, beta), rows, exploration_floor(_RATES.size), seeds)
        level = 1 - fall * day / (_DAYS - 1)
        converted = rng.random(_USERS_A_DAY) < level * _RATES[arm]
        trials[day] = np.bincount(arm, minlength=_RATES.size)
        successes[day] = np.bincount(arm[converted], minlength=_RATES.size)
    return float(trials[-_LAST:, _RATES.argmax()].sum() / trials[-_LAST:].sum())
