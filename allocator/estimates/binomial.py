"""The lower tail of the binomial distribution, below its mean, and a test by it."""

import math

_NEGLIGIBLE = 1e-17


def binomial_tail(successes: int, trials: int, rate: float) -> float:
    """P(X ≤ successes) of so many trials, where 0 < rate < 1 and successes ≤ trials·rate: summed downwards."""
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
    """How likely a segment would convert so badly if its rate were half of everyone's, corrected for all segments.

    Were it half, n users of N would have a share n/(2N) of the conversions. Given how many conversions there are in
    all, those of the segment are binomial with that share if conversions are rare (Przyborowski and Wilenski,
    Homogeneity of results in testing samples from Poisson series, Biometrika 31, 1940), and vary less if they are not:
    the test errs on the side of silence. It accounts for the error of both rates. Bonferroni's correction is for the
    number of segments. A segment that is as good as the rest is far from the border, so looking every minute does no
    harm. Where the rate is not under half, 1.

    Args:
        trials, successes: of the segment, at least one trial. all_trials, all_successes: of the experiment.
        segments: how many are looked at.
    """
    share = trials / (2 * all_trials)
    if successes >= share * all_successes:
        return 1.0
    return min(1.0, segments * binomial_tail(successes, all_successes, share))
