"""How often a segmentation is recommended in simulated experiments where none would pay, and where one does."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from allocator.kernels import probability_best_rows
from allocator.posterior.tables import exploration_floor
from allocator.segmentation import DimensionCounts, check_eligibility
from allocator.segmentation.evidence import Array, Counts, day_sums, mixture_e_value, relative_effects, value_rates
from tests.benchmarks.row import Row

_SEED = 41
_RUNS = 1_000
_DAYS, _LOOKS_A_DAY = 30, 4
_LOOKED_AT = 8
_ARMS, _CONTROL = 2, 0
_RATE, _BETTER = 0.10, 1.2
_SWING = 0.5  # of base rates with opposite trends
_VALUES = (2, 2, 3, 3, 4, 5, 6, 8)  # of dimensions whose values have Zipf's shares
_MIN_SAMPLES = 100
_MOST_FALSE = 0.03
_POWER = {1_000: 0.65, 2_000: 0.90, 5_000: 0.99}
_NEVER = _DAYS + 1
_CRITICAL = stats.chi2.isf(0.05 / _LOOKED_AT, range(1, max(_VALUES)))  # χ² at 5 %, Bonferroni over dimensions


@dataclass(frozen=True)
class _World:
    """Dimensions that users' values are drawn from independently.

    shares: float64 (dimensions, values), each row summing to 1; 0 for values that a dimension does not have.
    rates: float64 (days, dimensions, values, arms), true rates, whose mean over values is the same in all dimensions.
    """

    shares: Array
    rates: Array
    visitors: int


@dataclass(frozen=True)
class _Found:
    """Of each run: the day of the recommendation, or _NEVER; whether the test rejects at any look, and at the end."""

    day: Counts
    e_value_alone: NDArray[np.bool_]
    test_at_every_look: NDArray[np.bool_]
    test_at_the_end: NDArray[np.bool_]


def rows() -> list[Row]:
    """Measure five kinds of experiments that no segmentation improves, and crossovers. Ratios are to χ² tests."""
    better = np.array([1.0, _BETTER])
    nulls: dict[str, Callable[[], Array]] = {
        "all arms equal": lambda: _flat() * np.ones(_ARMS),
        "one arm 1.2 times better everywhere, base rates differ": lambda: _scaled(0.5, 1.5) * better,
        "opposite trends over days, equal arms": lambda: _opposite() * np.ones(_ARMS),
        "opposite trends over days, one arm 1.2 times better": lambda: _opposite() * better,
        "one arm better everywhere, by 1.1 to 1.5 times": lambda: np.concatenate([_flat(), _scaled(1.1, 1.5)], 3),
    }
    result = []
    for number, (name, rates) in enumerate(nulls.items()):
        found = _simulate(_World(_shares(), _RATE * rates(), 1_000), np.random.default_rng([_SEED, number]))
        result.append(_null_row(name, found))
    crossover = np.broadcast_to(_RATE * np.array([[1.0, _BETTER], [_BETTER, 1.0]]), (_DAYS, 1, 2, 2))
    for number, (visitors, goal) in enumerate(_POWER.items()):
        world = _World(np.array([[0.5, 0.5]]), crossover, visitors)
        result.append(_power_row(visitors, goal, _simulate(world, np.random.default_rng([_SEED, 10 + number]))))
    return result


def _shares() -> Array:
    shares = np.zeros((len(_VALUES), max(_VALUES)))
    for row, values in zip(shares, _VALUES, strict=True):
        row[:values] = 1 / np.arange(1, values + 1)
    return np.asarray(shares / shares.sum(1, keepdims=True))


def _flat() -> Array:
    return np.ones((_DAYS, len(_VALUES), max(_VALUES), 1))


def _scaled(first: float, last: float) -> Array:
    """Return factors from the first to the last value of each dimension, over their mean and times the middle."""
    shares = _shares()
    factors = np.stack([np.interp(np.arange(max(_VALUES)), [0, values - 1], [first, last]) for values in _VALUES])
    factors *= (first + last) / 2 / (shares * factors).sum(1, keepdims=True)
    return _flat() * factors[:, :, None]


def _opposite() -> Array:
    """Return base rates: in every dimension half of the values rise over the days and half fall; the mean stays."""
    shares = _shares()
    direction = np.where(np.arange(max(_VALUES)) % 2, -1.0, 1.0) - (shares[:, ::2] - shares[:, 1::2]).sum(1)[:, None]
    direction = np.where(shares > 0, direction, 0.0)
    direction *= _SWING / np.abs(direction).max(1, keepdims=True)
    return _flat() + np.linspace(-1, 1, _DAYS)[:, None, None, None] * direction[:, :, None]


def _simulate(world: _World, rng: np.random.Generator) -> _Found:
    """Simulate all runs at once: Thompson sampling from Beta posteriors renewed at each look, floor 2.5 % an arm.

    Successes and failures of an arm are split over the values of each dimension apart. That is exact for each
    dimension; failures are then a little less dependent over dimensions than they would be.
    """
    dimensions, values = world.shares.shape
    history = np.zeros((2, _RUNS, dimensions, _DAYS, values, _ARMS), np.int64)  # trials and successes
    drawn, won = np.zeros((2, _RUNS, _ARMS))  # of all users
    past = np.zeros((2, _RUNS, dimensions, values))  # information and difference summed over the days before
    day_found = np.full(_RUNS, _NEVER)
    alone, tested = np.zeros((2, _RUNS), np.bool_)
    for day in range(_DAYS):
        of_day = history[:, :, :, day]
        for _ in range(_LOOKS_A_DAY):
            trials, successes = _quarter(world, day, drawn, won, rng)
            of_day[0] += trials
            of_day[1] += successes
            drawn += trials[:, 0].sum(1)
            won += successes[:, 0].sum(1)
            today = of_day.astype(np.float64)[:, :, :, None]
            sums = past + np.stack(day_sums(today[0], today[1], 1, _CONTROL))
            totals = history[:, :, :, : day + 1].sum((3, 5)).astype(np.float64)
            effects, precisions = relative_effects(sums[0], sums[1], value_rates(totals[0], totals[1]))
            large = (mixture_e_value(effects, precisions) >= _LOOKED_AT / 0.05).any(1)
            tested_now = np.asarray(_test(effects, precisions).any(1))
            tested |= tested_now
            alone |= large
        past = sums
        for run in np.flatnonzero(large & (day_found == _NEVER)):  # only full days count, so other looks change nothing
            if _recommended(history[:, run, :, : day + 1], world.visitors):
                day_found[run] = day + 1
    return _Found(day_found, alone, tested, tested_now)


def _quarter(world: _World, day: int, drawn: Array, won: Array, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Return trials and successes until the next look: int64 (runs, dimensions, values, arms) each."""
    floor = exploration_floor(_ARMS)
    best = probability_best_rows(1 + won, 1 + drawn - won)
    chance = floor + (1 - _ARMS * floor) * best[:, 1]
    users = world.visitors // _LOOKS_A_DAY
    second = rng.binomial(users, np.clip(chance, 0, 1))
    new = np.stack([users - second, second], 1)  # (runs, arms)
    joint = world.shares[:, None, :] * np.moveaxis(world.rates[day], 2, 1)  # (dimensions, arms, values)
    rates = joint[0].sum(1)
    converted = rng.binomial(new, rates)
    given_failure = (world.shares[:, None, :] - joint) / (1 - rates)[:, None]
    successes = rng.multinomial(converted[:, None, :], joint / rates[:, None])
    failures = rng.multinomial((new - converted)[:, None, :], given_failure)
    return np.moveaxis(successes + failures, 3, 2), np.moveaxis(successes, 3, 2)


def _recommended(counts: Counts, visitors: int) -> bool:
    """Return whether a run with enough evidence for _LOOKED_AT dimensions also fulfils every other condition.

    counts: trials and successes of a run, (2, dimensions, days, values, arms).
    """
    of_all = counts[:, 0].sum(2, keepdims=True)
    names = [str(value) for value in range(counts.shape[3])]
    known = [DimensionCounts("", ("",), of_all[0], of_all[1])]
    for number, (trials, successes) in enumerate(zip(counts[0], counts[1], strict=True)):
        has_users = trials.sum((0, 2)) > 0
        values = tuple(name for name, kept in zip(names, has_users, strict=True) if kept)
        known.append(DimensionCounts(f"d{number}", values, trials[:, has_users], successes[:, has_users]))
    return check_eligibility((), visitors, visitors, known, _MIN_SAMPLES).is_eligible


def _test(effects: Array, precisions: Array) -> NDArray[np.bool_]:
    """Test with Cochran's χ² that one effect holds for all values."""
    total = precisions.sum(-1, keepdims=True)
    mean = np.divide((precisions * effects).sum(-1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
    statistic = (precisions * (effects - mean) ** 2).sum(-1)
    degrees = (precisions > 0).sum(-1) - 1
    return np.asarray((degrees > 0) & (statistic >= _CRITICAL[np.maximum(degrees, 1) - 1]))


def _null_row(name: str, found: _Found) -> Row:
    share, tested = float((found.day < _NEVER).mean()), float(found.test_at_every_look.mean())
    return Row(
        figure=name,
        reference=f"χ² at 5 %/{_LOOKED_AT} at every look {tested:.1%}; E alone {found.e_value_alone.mean():.1%}",
        ours=f"{share:.1%} ever recommended",
        ratio=share / tested,
        spread=_spread(share),
        goal=f"≤ {_MOST_FALSE:.0%}",
        holds=share <= _MOST_FALSE,
    )


def _power_row(visitors: int, goal: float, found: _Found) -> Row:
    share, tested = float((found.day < _NEVER).mean()), float(found.test_at_the_end.mean())
    median = int(np.sort(found.day)[_RUNS // 2])
    return Row(
        figure=f"10/12 crossover over two equal values, {visitors:,} visitors a day",
        reference=f"χ² at 5 %/{_LOOKED_AT}, once, on day {_DAYS}: {tested:.1%}",
        ours=f"{share:.1%} recommended, " + (f"half of all by day {median}" if median < _NEVER else "fewer than half"),
        ratio=share / tested,
        spread=_spread(share),
        goal=f"≥ {goal:.0%}",
        holds=share >= goal,
    )


def _spread(share: float) -> str:
    error = np.sqrt(share * (1 - share) / _RUNS)
    return f"SE {error:.1%}, {_RUNS:,} runs, {_DAYS} days, {_LOOKS_A_DAY} looks a day"
