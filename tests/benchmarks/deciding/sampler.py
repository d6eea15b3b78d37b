"""The sampler against SciPy: variates, probabilities to be best, and choices against logged propensities."""

from collections.abc import Iterator

import numpy as np
from numba import njit
from scipy import stats

from allocator.hashing import user_words, version_word
from allocator.kernels import beta_constants, draw_best_arms, probability_best
from allocator.kernels.random import next_log_gamma
from allocator.posterior.tables import exploration_floor
from tests.benchmarks.row import Row
from tests.support import naive

Array = naive.Array

_SEED = 3
_ERROR_RATE = 0.01  # the probability that a correct sampler fails somewhere in a row
_DRAWS = 10_000
_SHAPES = np.logspace(-3, 8, 12)
_DECISIONS = 1_000_000
_SALT = b"figure"


def rows() -> list[Row]:
    """Measure distributions, integrals and choices."""
    return [_variates(), *_integrals(), *_choices()]


@njit
def _logits(constants, first, second, count):  # type: ignore[no-untyped-def]
    """Return `count` draws of logit θ = log X − log Y from one stream, as the kernels draw them."""
    drawn = np.empty(count)
    seed, gamma, counter = np.uint64(first), np.uint64(second) | np.uint64(1), np.uint64(1)
    for draw in range(count):
        x, counter = next_log_gamma(constants[0], seed, gamma, counter)
        y, counter = next_log_gamma(constants[1], seed, gamma, counter)
        drawn[draw] = x - y
    return drawn


def _variates() -> Row:
    """Test with Kolmogorov-Smirnov and Holm's correction, on the logit scale: it neither underflows nor rounds to 1."""
    generator = np.random.default_rng(_SEED)
    p_values = []
    for alpha in _SHAPES:
        for beta in _SHAPES:
            constants = beta_constants(np.array([[alpha]]), np.array([[beta]]))[0, 0]
            first, second = generator.integers(-(2**63), 2**63, 2)
            drawn = _logits(constants, first, second, _DRAWS)
            p_values.append(stats.ks_1samp(drawn, naive.beta_logit_cdf, args=(alpha, beta)).pvalue)
    ordered = np.sort(p_values)
    adjusted = ordered * np.arange(ordered.size, 0, -1)  # by Holm, nothing is rejected unless the smallest p is
    again = stats.kstest(p_values, "uniform").pvalue
    return Row(
        figure=f"Beta sampler, shapes 1e-3 to 1e8: KS of {_DRAWS:,} logits at each of {ordered.size} pairs",
        reference="SciPy's distribution function",
        ours=f"least p {ordered[0]:.2g}",
        ratio=float(adjusted[0] / _ERROR_RATE),
        spread=f"p-values against uniform: p = {again:.2f}",
        goal="Holm: none at 1 %",
        holds=bool(adjusted[0] > _ERROR_RATE),
    )


def _cases(arms: int) -> Iterator[tuple[Array, Array]]:
    """Return posteriors: with equal arms at each concentration, mixed concentrations, small shapes, any shapes."""
    generator = np.random.default_rng([_SEED, arms])
    rates = generator.uniform(0.02, 0.2, arms)
    for concentration in (1, 1e3, 1e8) if arms > 10 else (1, 30, 1e3, 1e5, 1e8):
        close = 0.1 + generator.normal(0, 1, arms) * np.sqrt(0.09 / (concentration + 100))
        for means in (rates, np.clip(close, 1e-3, 1 - 1e-3)):
            yield means * concentration, (1 - means) * concentration
    mixed = 10 ** generator.uniform(0, 8, arms)
    yield 0.1 * mixed, 0.9 * mixed
    yield 10 ** generator.uniform(-3, 0, arms), 10 ** generator.uniform(-3, 0, arms)
    yield 10 ** generator.uniform(-3, 0, arms), 10 ** generator.uniform(3, 8, arms)
    yield 10 ** generator.uniform(-3, 8, arms), 10 ** generator.uniform(-3, 8, arms)


def _integrals() -> list[Row]:
    result = []
    for arm_counts, goal in (((2, 3, 5, 10), 1e-6), ((100,), 1e-5)):
        worst = doubt = 0.0
        count = 0
        for alpha, beta in (case for arms in arm_counts for case in _cases(arms)):
            reference = naive.probability_best(alpha, beta, fineness=4 if alpha.size > 10 else 1)
            worst = max(worst, float(np.abs(probability_best(alpha, beta) - reference).max()))
            doubt = max(doubt, abs(float(reference.sum()) - 1))
            count += 1
        result.append(
            Row(
                figure=f"probability to be best, {' '.join(map(str, arm_counts))} arms: {count} cases, peaked to flat",
                reference="SciPy quadrature",
                ours=f"error {worst:.1e}",
                ratio=worst / goal,
                spread=f"reference sums to 1 within {doubt:.0e}",
                goal=f"error ≤ {goal:.0e}",
                holds=worst <= goal,
            )
        )
    return result


def _choices() -> list[Row]:
    generator = np.random.default_rng([_SEED, 1])
    concentration = 10 ** generator.uniform(1, 4, (1_000, 1))
    rates = generator.uniform(0.08, 0.12, (1_000, 5))
    ten = generator.uniform(0.09, 0.1, (1, 10)) * 3_000
    tables = {
        "1,000 segments × 5 arms": (rates * concentration, (1 - rates) * concentration),
        "10 arms": (ten, 3_000 - ten),
        "5 arms, concentrations 1 to 1e8": (0.1 * np.logspace(0, 8, 5)[None], 0.9 * np.logspace(0, 8, 5)[None]),
        "4 arms, shapes below 1": (np.array([[1e-3, 0.02, 0.3, 0.9]]), np.array([[2e-3, 0.1, 0.9, 5.0]])),
    }
    keys = [number.to_bytes(16, "little") for number in range(_DECISIONS)]
    result = []
    for version, (name, (alpha, beta)) in enumerate(tables.items()):
        arms = alpha.shape[1]
        floor = exploration_floor(arms)
        seeds = np.array([user_words(_SALT, key)[1:] for key in keys]) ^ [version_word(version), 0]
        users = np.arange(_DECISIONS) % len(alpha)
        drawn = draw_best_arms(beta_constants(alpha, beta), users, floor, seeds)
        logged = np.array(
            [floor + (1 - arms * floor) * probability_best(a, b) for a, b in zip(alpha, beta, strict=True)]
        )
        observed = np.bincount(users * arms + drawn, minlength=logged.size).reshape(logged.shape)
        expected = logged * np.bincount(users)[:, None]
        statistic = float(((observed - expected) ** 2 / expected).sum())
        freedom = len(alpha) * (arms - 1)
        p_value = float(stats.chi2.sf(statistic, freedom))
        level = _ERROR_RATE / len(tables)
        result.append(
            Row(
                figure=f"χ² of {_DECISIONS:,} choices against their propensities: {name}",
                reference=f"{freedom:,} degrees of freedom",
                ours=f"χ² {statistic:,.1f}",
                ratio=statistic / freedom,
                spread=f"p = {p_value:.3f}",
                goal=f"p > {level:g}",
                holds=p_value > level,
            )
        )
    return result
