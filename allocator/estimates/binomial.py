"""The lower tail of the binomial distribution, and a test that uses it."""

import math

_NEGLIGIBLE = 1e-17


def binomial_tail(successes: int, trials: int, rate: float) -> float:
    """Return P(X ≤ successes) for binomial X, with 0 < rate < 1 and successes ≤ trials·rate. It is summed downwards."""
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(rate)
        + (trials - successes) * math.log1p(-rate)
    )
    tail = term
    for fewer in range(successes, 0, -1):
        term *= fewer * (1 - rate) / ((trials - fewer + 1) * rate)
        tail += term
        if term <= _NEGLIGIBLE * tail:
            break
    return min(tail, 1.0)


def under_half_p_value(trials: int, successes: int, all_trials: int, all_successes: int, segments: int) -> float:
    """Return the p-value of a segment's conversions if its rate is half of everyone's, corrected for all segments.

    If it is half, n users of N have a share n/(2N) of the conversions. Given the number of all conversions, those of
    the segment are binomial with that share if conversions are rare (Przyborowski and Wilenski, Homogeneity of results
    in testing samples from Poisson series, Biometrika 31, 1940). If they are not rare they vary less, so the test
    gives fewer alarms than it may. It accounts for the error of both rates. Bonferroni's correction is for the number
    of segments. A segment with the same rate as the others is far from half of it, so it does no harm to test every
    minute. The p-value is 1 if the rate is not under half.

    Args:
        trials, successes: of the segment, at least one trial.
        all_trials, all_successes: of the experiment.
        segments: how many segments are tested.
    """
    share = trials / (2 * all_trials)
    if successes >= share * all_successes:
        return 1.0
    return min(1.0, segments * binomial_tail(successes, all_successes, share))
