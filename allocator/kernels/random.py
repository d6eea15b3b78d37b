"""A counter-based random generator and the variates built on it, compiled.

SplittableRandom (Steele, Lea, Flood, OOPSLA 2014): the i-th word of a stream is mix64(seed + i·gamma), so a stream
is a function of its two seed words alone. Every function takes the counter and returns the next one.
"""

import math

from numba import njit, uint64

_WORD = 2.0**-53


@njit(cache=True)
def next_uniform(seed, gamma, counter):  # type: ignore[no-untyped-def]
    """A float64 in (0, 1) and the next counter. `gamma` must be odd."""
    z = uint64(seed) + uint64(counter) * uint64(gamma)
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    z = z ^ (z >> uint64(31))
    return (float(z >> uint64(11)) + 0.5) * _WORD, counter + 1


@njit(cache=True)
def next_normal(seed, gamma, counter):  # type: ignore[no-untyped-def]
    """A standard normal by Marsaglia's polar method (SIAM Review 1964), and the next counter."""
    while True:
        u, counter = next_uniform(seed, gamma, counter)
        v, counter = next_uniform(seed, gamma, counter)
        u = 2.0 * u - 1.0
        v = 2.0 * v - 1.0
        square = u * u + v * v
        if 0.0 < square < 1.0:
            return u * math.sqrt(-2.0 * math.log(square) / square), counter


@njit(cache=True)
def next_log_gamma(shape, seed, gamma, counter):  # type: ignore[no-untyped-def]
    """The logarithm of a Gamma(shape, 1) variate, shape > 0, and the next counter.

    Marsaglia and Tsang (ACM TOMS 2000); shapes below 1 by their boost G(a) = G(a+1)·U^(1/a), in logs, so that it
    cannot underflow.
    """
    boost = 0.0
    if shape < 1.0:
        u, counter = next_uniform(seed, gamma, counter)
        boost = math.log(u) / shape
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x, counter = next_normal(seed, gamma, counter)
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        u, counter = next_uniform(seed, gamma, counter)
        if math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
            return math.log(d) + math.log(v) + boost, counter


@njit(cache=True)
def next_beta_logit(alpha, beta, seed, gamma, counter):  # type: ignore[no-untyped-def]
    """The logit of a Beta(alpha, beta) variate, alpha and beta > 0, and the next counter.

    θ = X/(X+Y) with Gamma variates X and Y, so logit θ = log X − log Y: ordered as θ is, without its rounding at 0
    and 1.
    """
    x, counter = next_log_gamma(alpha, seed, gamma, counter)
    y, counter = next_log_gamma(beta, seed, gamma, counter)
    return x - y, counter
