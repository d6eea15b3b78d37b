"""The tail against SciPy, and the test of segments on simulated ones."""

import numpy as np
import pytest
from scipy import stats

from allocator.estimates.binomial import binomial_tail, under_half_p_value


@pytest.mark.parametrize("trials", [1, 20, 3_000, 2_000_000])
@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.3, 0.999])
def test_the_tail_is_that_of_scipy(trials: int, rate: float) -> None:
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        successes = int(share * trials * rate)
        expected = stats.binom.cdf(successes, trials, rate)
        assert binomial_tail(successes, trials, rate) == pytest.approx(expected, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("rate", [0.02, 0.4])
def test_a_rate_at_the_border_is_called_as_rarely_as_promised(rate: float) -> None:
    """A tenth of the users converts at half of the overall rate: p is below 5 % in at most 5 % of experiments."""
    rng = np.random.default_rng(7)
    trials, others = 2_000, 18_000
    called = 0
    for _ in range(2_000):
        of_others = rate * (trials + others - trials / 2) / others
        successes = int(rng.binomial(trials, rate / 2))
        everyone = successes + int(rng.binomial(others, of_others))
        called += under_half_p_value(trials, successes, trials + others, everyone, 1) < 0.05
    assert called / 2_000 <= 0.065


def test_what_it_takes() -> None:
    """Of 20 segments of 1,000 users at 5 %, one with 0 or 5 conversions is reported, and one with 15 is not."""
    p_values = [under_half_p_value(1_000, wins, 20_000, 950 + wins, 20) for wins in (0, 5, 15, 25)]
    assert p_values[0] < p_values[1] < 0.001 < p_values[2]
    assert p_values[3] == 1.0
    assert under_half_p_value(10, 0, 10, 0, 1) == 1.0
