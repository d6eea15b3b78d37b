"""The kernels against slow, obvious twins in SciPy and NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from allocator.kernels import beta_constants, draw_best_arm, draw_best_arms, probability_best
from allocator.kernels.random import gamma_constants, next_log_gamma, next_uniform

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


@pytest.mark.parametrize("shape", [1e-3, 0.02, 0.5, 1.0, 3.0, 400.0, 1e8])
def test_gammas_are_gammas(shape: float) -> None:
    """Kolmogorov-Smirnov of 5,000 logarithms at level 1e-4 a shape, fixed seed."""
    constants = gamma_constants(np.array([shape]))[0]
    values = []
    counter = 1
    for _ in range(5_000):
        value, counter = next_log_gamma(constants, np.uint64(11), np.uint64(0x9E3779B97F4A7C15), np.uint64(counter))
        values.append(value)
    assert stats.kstest(values, stats.loggamma(shape).cdf).pvalue > 1e-4


def naive_words(seed: int, gamma: int, count: int) -> list[int]:
    """SplitMix64 as published, in plain integers."""
    mask = (1 << 64) - 1
    words = []
    for counter in range(1, count + 1):
        z = (seed + counter * gamma) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return words


def test_the_stream_is_a_function_of_its_seeds() -> None:
    seed, gamma = 0x123456789ABCDEF0, 0x9E3779B97F4A7C15
    counter = 1
    for word in naive_words(seed, gamma, 8):
        value, counter = next_uniform(np.uint64(seed), np.uint64(gamma), np.uint64(counter))
        assert value == ((word >> 11) + 0.5) * 2.0**-53
    assert counter == 9


ALPHA, BETA = np.array([[12.0, 18.0, 15.0], [0.3, 2.0, 0.1]]), np.array([[100.0, 110.0, 90.0], [1.0, 9.0, 0.4]])
SEEDS = np.random.default_rng(5).integers(-(2**63), 2**63, (40_000, 2))


@pytest.mark.parametrize("row", [0, 1])
def test_draws_follow_the_mixture(row: int) -> None:
    """χ² of 40,000 draws against floor + (1 − K·floor)·P(best), level 1e-4, fixed seed; large and small shapes."""
    floor = 0.05
    drawn = draw_best_arms(beta_constants(ALPHA, BETA), np.full(len(SEEDS), row), floor, SEEDS)
    expected = (floor + (1 - 3 * floor) * probability_best(ALPHA[row], BETA[row])) * len(SEEDS)
    assert stats.chisquare(np.bincount(drawn, minlength=3), expected).pvalue > 1e-4


def test_a_batch_draws_as_one_by_one() -> None:
    constants = beta_constants(ALPHA, BETA)
    rows = np.arange(1_000) % 2
    batch = draw_best_arms(constants, rows, 0.01, SEEDS[:1_000])
    alone = [draw_best_arm(constants, int(r), 0.01, int(a), int(b)) for r, (a, b) in zip(rows, SEEDS, strict=False)]
    assert list(batch) == alone


def test_stored_cases() -> None:
    """What was drawn once is drawn again, on this architecture and release."""
    constants = beta_constants(ALPHA, BETA)
    drawn = [draw_best_arm(constants, case % 2, 0.05, 1_000_003 * case, 7 - case) for case in range(40)]
    assert "".join(map(str, drawn)) == "1121101121111011112122202122120020222220"
