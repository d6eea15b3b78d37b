"""A counter-based random generator and the variates built on it, compiled.

The generator is SplittableRandom (Steele, Lea, Flood, OOPSLA 2014): the i-th word of a stream is mix64(seed + i·gamma),
so a stream depends only on its two seed words. Every function takes the counter and returns the next one. Seeds, gamma
(odd) and counters are uint64.
"""

import math

import numpy as np
from numba import int64, njit, uint64
from numpy.typing import NDArray

from allocator.kernels.ziggurat import LAYERS, RATIOS, TAIL_START, WIDTHS

_UNIT = 2.0**-53
_ONE = np.uint64(1)
_SQUEEZE = 1.28


def gamma_constants(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the constants that `next_gamma` needs of each shape: float64 (..., 4) from (...), all > 0.

    The method is that of Marsaglia and Tsang (ACM TOMS 2000) with d = a − 1/3 and c = 1/√(9d). A shape a below 1 is
    drawn as a + 1, and the result is multiplied by U^(1/a), the boost. The squeeze is our own: with t = c·x the
    acceptance probability is exp(−d·g(t)), and g(t) = (1 + t)³ − 1 − 3·ln(1 + t) − 4.5·t² ≤ 1.28·t⁴ for t ≥ −½. So
    u < 1 − 1.28·d·t⁴ accepts without a logarithm.
    """
    d = np.where(shapes < 1, shapes + 1, shapes) - 1 / 3
    boost = np.where(shapes < 1, 1 / shapes, 0.0)
    return np.stack([d, 1 / np.sqrt(9 * d), _SQUEEZE * d, boost], axis=-1)


@njit(cache=True, inline="always")
def next_word(seed, gamma, counter):  # type: ignore[no-untyped-def]
    """Return 64 random bits and the next counter."""
    z = seed + counter * gamma
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31)), counter + _ONE


@njit(cache=True, inline="always")
def next_uniform(seed, gamma, counter):  # type: ignore[no-untyped-def]
    """Return a uniform float64 in (0, 1) and the next counter."""
    word, counter = next_word(seed, gamma, counter)
    return (float(int64(word >> uint64(11))) + 0.5) * _UNIT, counter


@njit(cache=True, inline="always")
def next_normal(seed, gamma, counter):  # type: ignore[no-untyped-def]
    """Return a standard normal and the next counter.

    The method is the ziggurat (Marsaglia and Tsang, JSS 2000; Doornik's ZIGNOR, 2005).
    """
    while True:
        word, counter = next_word(seed, gamma, counter)
        layer = word & uint64(LAYERS - 1)  # the low bits, since the uniform in (−1, 1) uses the high ones
        u = (float(int64(word) >> int64(11)) + 0.5) * (2.0 * _UNIT)
        if abs(u) < RATIOS[layer]:
            return u * WIDTHS[layer], counter
        x, accepted, counter = _outside(layer, u, seed, gamma, counter)
        if accepted:
            return x, counter


@njit(cache=True)
def _outside(layer, u, seed, gamma, counter):  # type: ignore[no-untyped-def]
    """Draw from the part of a layer that is not a rectangle under the curve: about 1.5 % of the draws.

    Return the variate, whether it is accepted, and the next counter.
    """
    if layer == 0:
        while True:
            first, counter = next_uniform(seed, gamma, counter)
            second, counter = next_uniform(seed, gamma, counter)
            x = math.log(first) / TAIL_START
            if -2.0 * math.log(second) >= x * x:
                return (TAIL_START - x if u > 0.0 else x - TAIL_START), True, counter
    x = u * WIDTHS[layer]
    outer = math.exp(-0.5 * (WIDTHS[layer] * WIDTHS[layer] - x * x))
    inner = math.exp(-0.5 * (WIDTHS[layer + _ONE] * WIDTHS[layer + _ONE] - x * x))
    v, counter = next_uniform(seed, gamma, counter)
    return x, inner + v * (outer - inner) < 1.0, counter


@njit(cache=True, inline="always")
def next_gamma(d, c, squeeze, seed, gamma, counter):  # type: ignore[no-untyped-def]
    """Return a Gamma variate and the next counter, by its `gamma_constants` and without the boost."""
    while True:
        x, counter = next_normal(seed, gamma, counter)
        u, counter = next_uniform(seed, gamma, counter)
        t = c * x
        square = t * t
        v = 1.0 + t
        if t >= -0.5 and u < 1.0 - squeeze * square * square:
            return d * (v * v * v), counter
        if v > 0.0 and math.log(u) < 4.5 * d * square + d * (1.0 - v * v * v + 3.0 * math.log(v)):
            return d * (v * v * v), counter


@njit(cache=True)
def next_log_gamma(constants, seed, gamma, counter):  # type: ignore[no-untyped-def]
    """Return the logarithm of a Gamma variate of any shape > 0, by its `gamma_constants` (4,), and the next counter."""
    value, counter = next_gamma(constants[0], constants[1], constants[2], seed, gamma, counter)
    if constants[3] == 0.0:
        return math.log(value), counter
    u, counter = next_uniform(seed, gamma, counter)
    return math.log(value) + math.log(u) * constants[3], counter
