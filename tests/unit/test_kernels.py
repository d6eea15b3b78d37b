"""The kernels against slow, obvious twins in SciPy and NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from allocator.kernels import draw_best_arm, probability_best
from allocator.kernels.random import next_beta_logit, next_uniform

SHAPES = st.floats(0.01, 1e6)


def naive_probability_best(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """By substitution x = F_k⁻¹(u): the mean over u of the other arms' distribution functions."""
    nodes, weights = np.polynomial.legendre.leggauss(1000)
    u = (nodes + 1) / 2
    result = []
    for k in range(alpha.size):
        x = stats.beta.ppf(u, alpha[k], beta[k])
        others = [stats.beta.cdf(x, alpha[j], beta[j]) for j in range(alpha.size) if j != k]
        result.append(float(np.sum(weights / 2 * np.prod(others, axis=0))))
    return np.array(result)


@pytest.mark.parametrize("arms", [2, 3, 7])
@pytest.mark.parametrize("trials", [2.0, 50.0, 10_000.0])
def test_probability_best_is_the_integral(arms: int, trials: float) -> None:
    generator = np.random.default_rng(arms)
    rate = generator.uniform(0.05, 0.15, arms)
    concentration = generator.uniform(1, 3, arms) * trials
    alpha, beta = rate * concentration, (1 - rate) * concentration
    assert probability_best(alpha, beta) == pytest.approx(naive_probability_best(alpha, beta), abs=2e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(SHAPES, SHAPES), min_size=2, max_size=8))
def test_probability_best_is_a_distribution(shapes: list[tuple[float, float]]) -> None:
    alpha, beta = np.array(shapes).T.copy()
    best = probability_best(alpha, beta)
    assert best.sum() == pytest.approx(1, abs=1e-9)
    assert (best >= 0).all()


def test_equal_arms_are_equally_good() -> None:
    assert probability_best(np.full(4, 3.0), np.full(4, 9.0)) == pytest.approx(np.full(4, 0.25), abs=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(0.02, 0.5), (0.5, 30.0), (3.0, 40.0), (2e4, 3e5)])
def test_betas_are_betas(alpha: float, beta: float) -> None:
    """Kolmogorov-Smirnov at level 1e-4 a shape, fixed seed."""
    logits = []
    counter = 1
    for _ in range(5_000):
        logit, counter = next_beta_logit(alpha, beta, np.uint64(11), np.uint64(0x9E3779B97F4A7C15), counter)
        logits.append(logit)
    values = 1 / (1 + np.exp(-np.array(logits)))
    values = values[values > 0]
    lost = 5_000 - values.size  # only shapes so small that most of their mass underflows lose any
    assert lost <= 5_000 * stats.beta.cdf(1e-300, alpha, beta) * 1.5 + 5
    if not lost:
        assert stats.kstest(values, stats.beta(alpha, beta).cdf).pvalue > 1e-4


def test_the_stream_is_a_function_of_its_seeds() -> None:
    """SplitMix64 as published: the first words of a stream, against a twin in plain integers."""
    mask = (1 << 64) - 1
    seed, gamma = 0x123456789ABCDEF0, 0x9E3779B97F4A7C15
    for counter in range(1, 6):
        z = (seed + counter * gamma) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        value, after = next_uniform(np.uint64(seed), np.uint64(gamma), counter)
        assert value == ((z >> 11) + 0.5) * 2.0**-53
        assert after == counter + 1


def test_draws_follow_the_mixture() -> None:
    """χ² of 40,000 draws against floor + (1 − K·floor)·P(best), level 1e-4, fixed seed."""
    alpha, beta, floor = np.array([[12.0, 18.0, 15.0]]), np.array([[100.0, 110.0, 90.0]]), 0.05
    seeds = np.random.default_rng(5).integers(0, 2**63, (40_000, 2), dtype=np.uint64)
    drawn = np.bincount([draw_best_arm(alpha, beta, 0, floor, a, b) for a, b in seeds], minlength=3)
    expected = (floor + (1 - 3 * floor) * probability_best(alpha[0], beta[0])) * len(seeds)
    assert stats.chisquare(drawn, expected).pvalue > 1e-4
