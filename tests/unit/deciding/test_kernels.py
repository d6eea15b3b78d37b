"""The kernels against their slow, obvious twins, and against the distributions that they draw from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from allocator.kernels import (
    beta_constants,
    draw_best_arm,
    draw_best_arms,
    nearest_centroid,
    nearest_centroids,
    probability_best,
)
from allocator.kernels.random import gamma_constants, next_log_gamma, next_normal, next_uniform
from tests.support import naive

SHAPES = st.floats(0.01, 1e6)


@pytest.mark.parametrize("arms", [2, 3, 7])
@pytest.mark.parametrize("trials", [2.0, 50.0, 10_000.0])
def test_probability_best_is_the_integral(arms: int, trials: float) -> None:
    generator = np.random.default_rng(arms)
    rate = generator.uniform(0.05, 0.15, arms)
    concentration = generator.uniform(1, 3, arms) * trials
    alpha, beta = rate * concentration, (1 - rate) * concentration
    assert probability_best(alpha, beta) == pytest.approx(naive.probability_best(alpha, beta), abs=1e-7)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1e-3, 1e8), (1e-3, 2e8)],  # a cliff at the end of a long tail
        [(1e-3, 1e-3), (1e8, 1e8), (0.5, 3.0)],
        [(1e3, 1e-3), (1e8, 1e-2), (5.0, 0.1)],
        [(1.0, 9.0), (100.0, 900.0), (1e8, 9e8)],
    ],
)
def test_probability_best_of_unlike_shapes(shapes: list[tuple[float, float]]) -> None:
    alpha, beta = np.array(shapes).T.copy()
    assert probability_best(alpha, beta) == pytest.approx(naive.probability_best(alpha, beta), abs=1e-7)


def test_probability_best_of_a_hundred_arms() -> None:
    concentration = np.logspace(0, 8, 100)
    alpha, beta = 0.1 * concentration, 0.9 * concentration
    assert probability_best(alpha, beta) == pytest.approx(naive.probability_best(alpha, beta, fineness=4), abs=1e-7)


def test_probability_best_of_the_smallest_shapes() -> None:
    assert probability_best(np.array([1e-300, 1e9]), np.array([1e9, 1e-300])) == pytest.approx([0, 1], abs=1e-9)
    assert probability_best(np.array([1e-300, 1.0]), np.array([1.0, 1.0])) == pytest.approx([0, 1], abs=1e-9)


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


def test_the_stream_is_a_function_of_its_seeds() -> None:
    seed, gamma = 0x123456789ABCDEF0, 0x9E3779B97F4A7C15
    stream = naive.words(seed, gamma)
    counter = 1
    for _ in range(8):
        value, counter = next_uniform(np.uint64(seed), np.uint64(gamma), np.uint64(counter))
        assert value == naive.uniform(stream)
    assert counter == 9


def test_normals_as_the_twin_draws_them() -> None:
    """5,000 draws reach every layer, the wedges and the tail."""
    seed, gamma = 21, 0x9E3779B97F4A7C15
    stream = naive.words(seed, gamma)
    counter = 1
    for _ in range(5_000):
        value, counter = next_normal(np.uint64(seed), np.uint64(gamma), np.uint64(counter))
        assert value == pytest.approx(naive.normal(stream), rel=1e-12)


@pytest.mark.parametrize("shape", [1e-3, 0.5, 1.0, 1e8])
def test_gammas_as_the_twin_draws_them(shape: float) -> None:
    seed, gamma = 22, 0x9E3779B97F4A7C15
    stream = naive.words(seed, gamma)
    constants = gamma_constants(np.array([shape]))[0]
    counter = 1
    for _ in range(1_000):
        value, counter = next_log_gamma(constants, np.uint64(seed), np.uint64(gamma), np.uint64(counter))
        assert value == pytest.approx(naive.log_gamma(shape, stream), rel=1e-9, abs=1e-12)


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
    """Stored draws are drawn again, on this architecture and release."""
    constants = beta_constants(ALPHA, BETA)
    drawn = [draw_best_arm(constants, case % 2, 0.05, 1_000_003 * case, 7 - case) for case in range(40)]
    assert "".join(map(str, drawn)) == "1121101121111011112122202122120020222220"


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("floor", [0.0, 0.05, 1 / 3])
def test_draws_are_the_twins(row: int, floor: float) -> None:
    constants = beta_constants(ALPHA, BETA)
    for first, second in SEEDS[:1_000].tolist():
        expected = naive.draw_best_arm(ALPHA[row], BETA[row], floor, first, second)
        assert draw_best_arm(constants, row, floor, first, second) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_nearest_centroid_is_the_twins(data: st.DataObject) -> None:
    """There are few different coordinates, so ties are common."""
    dims = data.draw(st.integers(1, 4))
    vectors = st.lists(st.sampled_from([-1.0, 0.0, 0.1, 1.0, 1e6]), min_size=dims, max_size=dims)
    centroids = np.array(data.draw(st.lists(vectors, min_size=1, max_size=6)))
    users = np.array(data.draw(st.lists(vectors, min_size=1, max_size=4)))
    expected = [naive.nearest_centroid(centroids, user) for user in users]
    assert [nearest_centroid(centroids, user) for user in users] == expected
    assert list(nearest_centroids(centroids, users)) == expected


def test_the_lowest_of_equally_near_centroids() -> None:
    assert nearest_centroid(np.array([[3.0], [1.0], [-1.0], [1.0]]), np.array([0.0])) == 1
