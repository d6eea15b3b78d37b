"""What pooling costs and saves: conversions lost by four policies, over a thousand simulations of each experiment."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from allocator.kernels import beta_constants, draw_best_arms, warm_up
from allocator.posterior.pooling import Array, pooled_tables
from tests.benchmarks.row import Row

_SEED = 11
_REPETITIONS = 1_000
_USERS = 20_000
_BATCH = 200
_MIN_SAMPLES = 100
_DESIGN_GOAL, _BEYOND_GOAL = 1.25, 1.35
_MAX_ERROR = 0.03

_ONE_BEST = np.array([0.10, 0.10, 0.10, 0.12])


@dataclass(frozen=True)
class _Scenario:
    """rates: float64 (segments, arms). shares: float64 (segments,), of users, summing to 1."""

    name: str
    rates: Array
    shares: Array
    goal: float


# (successes, trials), float64 (segments, arms) each → Beta tables, float64 (segments, arms)
_Policy = Callable[[Array, Array], tuple[Array, Array]]


def rows() -> list[Row]:
    """Measure eight scenarios and four extreme ones. The ratio is to the better of pooled and separate posteriors."""
    with ProcessPoolExecutor(initializer=warm_up) as pool:
        return [_row(scenario, pool) for scenario in _scenarios()]


def _scenarios() -> Iterable[_Scenario]:
    for segments in (8, 24):
        same = np.tile(_ONE_BEST, (segments, 1))
        odd = np.arange(segments) % 2 == 1
        strong = np.where(np.arange(segments)[:, None] % 4 == np.arange(4), 0.14, 0.10)
        yield _even(f"{segments} segments, one arm best everywhere", same, _DESIGN_GOAL)
        scales = np.linspace(0.5, 1.6, segments)[:, None]
        yield _even(f"{segments} segments, the same with different base rates", scales * same, _DESIGN_GOAL)
        rolled = np.where(odd[:, None], np.roll(same, 1, axis=1), same)
        yield _even(f"{segments} segments, mild crossover", rolled, _DESIGN_GOAL)
        yield _even(f"{segments} segments, strong crossover", strong, _DESIGN_GOAL)
    yield _even("2 segments at a 2 % rate", np.tile(_ONE_BEST / 5, (2, 1)), _BEYOND_GOAL)
    zipf = 1 / np.arange(1, 31)
    yield _Scenario("Zipf shares of 30 segments", np.tile(_ONE_BEST, (30, 1)), zipf / zipf.sum(), _BEYOND_GOAL)
    yield _even("100 segments", np.tile(_ONE_BEST, (100, 1)), _BEYOND_GOAL)
    one_odd = np.tile(_ONE_BEST, (8, 1))
    one_odd[7] = [0.14, 0.10, 0.10, 0.10]
    yield _even("one odd segment among 8", one_odd, _BEYOND_GOAL)


def _even(name: str, rates: Array, goal: float) -> _Scenario:
    return _Scenario(name, rates, np.full(len(rates), 1 / len(rates)), goal)


def _pooled(successes: Array, trials: Array) -> tuple[Array, Array]:
    total, tried = successes.sum(0), trials.sum(0)
    return _separate(np.broadcast_to(total, successes.shape), np.broadcast_to(tried, trials.shape))


def _separate(successes: Array, trials: Array) -> tuple[Array, Array]:
    return 1 + successes, 1 + trials - successes


def _min_samples(successes: Array, trials: Array) -> tuple[Array, Array]:
    """Return separate posteriors; segments below the minimum get the pooled one."""
    return _below_minimum(trials, _pooled(successes, trials), _separate(successes, trials))


def _ours(successes: Array, trials: Array) -> tuple[Array, Array]:
    of_segment = trials.sum(1)
    total = of_segment.sum()
    shares = of_segment / total if total else np.full(len(trials), 1 / len(trials))
    alpha, beta = pooled_tables(successes, trials, shares)
    return _below_minimum(trials, (alpha[:1], beta[:1]), (alpha[1:], beta[1:]))


def _below_minimum(trials: Array, fallback: tuple[Array, Array], own: tuple[Array, Array]) -> tuple[Array, Array]:
    below = trials.sum(1, keepdims=True) < _MIN_SAMPLES
    return np.where(below, fallback[0], own[0]), np.where(below, fallback[1], own[1])


_POLICIES: dict[str, _Policy] = {
    "pooled": _pooled,
    "per segment": _separate,
    "minimum samples": _min_samples,
    "ours": _ours,
}


def _lost(scenario: _Scenario, repetition: int) -> list[float]:
    """Return by policy the expected conversions lost against each segment's best arm. All meet the same users."""
    return [_lost_by(policy, scenario, np.random.default_rng([_SEED, repetition])) for policy in _POLICIES.values()]


def _lost_by(policy: _Policy, scenario: _Scenario, rng: np.random.Generator) -> float:
    successes, trials = np.zeros((2, *scenario.rates.shape))
    for _ in range(_USERS // _BATCH):
        alpha, beta = policy(successes, trials)
        segment = rng.choice(len(scenario.shares), size=_BATCH, p=scenario.shares)
        seeds = rng.integers(2**63 - 1, size=(_BATCH, 2))
        arm = draw_best_arms(beta_constants(alpha, beta), segment, 0.0, seeds)
        converted = rng.random(_BATCH) < scenario.rates[segment, arm]
        np.add.at(trials, (segment, arm), 1)
        np.add.at(successes, (segment, arm), converted)
    return float((trials * (scenario.rates.max(1, keepdims=True) - scenario.rates)).sum())


def _row(scenario: _Scenario, pool: ProcessPoolExecutor) -> Row:
    lost = np.array(list(pool.map(partial(_lost, scenario), range(_REPETITIONS), chunksize=10)))
    means = dict(zip(_POLICIES, lost.mean(0), strict=True))
    better = min("pooled", "per segment", key=means.__getitem__)
    ratios = {name: mean / means[better] for name, mean in means.items()}
    ours, reference = lost[:, list(_POLICIES).index("ours")], lost[:, list(_POLICIES).index(better)]
    residual = ours - ratios["ours"] * reference  # the delta method for a ratio of means
    error = float(residual.std(ddof=1) / np.sqrt(len(lost)) / reference.mean())
    return Row(
        figure=scenario.name,
        reference=", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items() if name != "ours"),
        ours=f"{ratios['ours']:.2f} ({means['ours']:.0f} of {_USERS:,} users lost)",
        ratio=ratios["ours"],
        spread=f"SE {error:.3f}, {_REPETITIONS:,} repetitions",
        goal=f"≤ {scenario.goal}, SE ≤ {_MAX_ERROR}",
        holds=ratios["ours"] <= scenario.goal and error <= _MAX_ERROR,
    )
