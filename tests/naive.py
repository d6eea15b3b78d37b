"""Slow, obvious twins of the kernels, in plain Python and SciPy. They share no code with what they check."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special, stats

Array = NDArray[np.float64]

_MASK = (1 << 64) - 1
_LAYERS = 256
_TAIL_START = 3.6541528853610088


def words(seed: int, gamma: int) -> Iterator[int]:
    """SplitMix64 as published (Steele, Lea, Flood, OOPSLA 2014), in plain integers, from counter 1."""
    state = seed & _MASK
    while True:
        state = (state + gamma) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        yield z ^ (z >> 31)


def uniform(stream: Iterator[int]) -> float:
    """A float64 in (0, 1) from the 53 upper bits."""
    return ((next(stream) >> 11) + 0.5) * 2.0**-53


def layer_widths() -> list[float]:
    """The ziggurat's layers by root finding: strips of equal area, each found from the one below."""
    density = math.exp(-0.5 * _TAIL_START**2)
    area = _TAIL_START * density + float(stats.norm.sf(_TAIL_START)) * math.sqrt(2 * math.pi)
    widths = [area / density, _TAIL_START]
    for _ in range(_LAYERS - 2):
        height = math.exp(-0.5 * widths[-1] ** 2) + area / widths[-1]
        widths.append(math.sqrt(-2 * math.log(height)))
    return [*widths, 0.0]


_WIDTHS = layer_widths()


def normal(stream: Iterator[int]) -> float:
    """A standard normal by the ziggurat: layer from the low 8 bits, position from the upper 53."""
    while True:
        word = next(stream)
        layer = word % _LAYERS
        signed = word - (1 << 64) if word >> 63 else word
        u = ((signed >> 11) + 0.5) * 2.0**-52
        width, inner_width = _WIDTHS[layer], _WIDTHS[layer + 1]
        if abs(u) < inner_width / width:
            return u * width
        if layer == 0:
            return math.copysign(_tail(stream), u)
        x = u * width
        low, high = math.exp(-0.5 * width**2), math.exp(-0.5 * inner_width**2)
        if low + uniform(stream) * (high - low) < math.exp(-0.5 * x * x):
            return x


def _tail(stream: Iterator[int]) -> float:
    """A normal beyond the last layer (Marsaglia, 1964)."""
    while True:
        x = -math.log(uniform(stream)) / _TAIL_START
        if -2 * math.log(uniform(stream)) >= x * x:
            return x + _TAIL_START


def log_gamma(shape: float, stream: Iterator[int]) -> float:
    """The logarithm of a Gamma variate by Marsaglia and Tsang (2000), without a squeeze; boosted below 1."""
    d = (shape + 1 if shape < 1 else shape) - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = normal(stream)
        u = uniform(stream)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
            break
    value = math.log(d * v)
    return value + math.log(uniform(stream)) / shape if shape < 1 else value


def draw_best_arm(alpha: Array, beta: Array, floor: float, first: int, second: int) -> int:
    """One decision for float64 (arms,): an arm drawn uniformly with probability arms·floor, else the largest logit."""
    stream = words(first, second | 1)
    u = uniform(stream)
    if u < alpha.size * floor:
        return min(int(u / floor), alpha.size - 1)
    logits = []
    for a, b in zip(alpha, beta, strict=True):
        success = log_gamma(float(a), stream)
        logits.append(success - log_gamma(float(b), stream))
    return int(np.argmax(logits))


def nearest_centroid(centroids: Array, vector: Array) -> int:
    """The first of the centroids (clusters, dims) at the least Euclidean distance from vector (dims,)."""
    return int(np.argmin(((centroids - vector) ** 2).sum(1)))


def beta_logit_cdf(x: Array, alpha: float, beta: float) -> Array:
    """The chance that logit θ ≤ x, θ ~ Beta(alpha, beta); each tail in its own terms, as a power law beyond |x| = 600."""
    log_norm = special.betaln(alpha, beta)
    near = np.clip(x, -600, 600)
    left = special.betainc(alpha, beta, special.expit(near))
    right = special.betainc(beta, alpha, special.expit(-near))
    left = np.where(x < -600, np.exp(alpha * x - math.log(alpha) - log_norm), left)
    right = np.where(x > 600, np.exp(-beta * x - math.log(beta) - log_norm), right)
    return np.where(x < 0, left, 1 - right)


def probability_best(alpha: Array, beta: Array, tolerance: float = 1e-10) -> tuple[Array, float]:
    """The chance of each arm to be the best, and the error that SciPy's adaptive quadrature states for it.

    ∫ f_k Π_{j≠k} F_j over x = logit θ with F from the incomplete beta function; all arms at once.
    """
    modes = np.log(alpha / beta)
    scales = np.sqrt(1 / alpha + 1 / beta)
    peaks = np.array([_log_density_at_mode(a, b) for a, b in zip(alpha, beta, strict=True)])

    def integrand(x: float) -> Array:
        below = np.array([_cdf(x, a, b) for a, b in zip(alpha, beta, strict=True)])
        density = np.exp(_log_kernel(x, alpha, beta) - _log_kernel(modes, alpha, beta) + peaks)
        return np.array([density[k] * np.prod(np.delete(below, k)) for k in range(alpha.size)])

    low = float((modes - 40 / alpha - 12 * scales).max())
    high = float((modes + 40 / beta + 12 * scales).max())
    steps = np.array([-8, -4, -2, -1, 0, 1, 2, 4, 8])
    points = np.unique(np.concatenate([[0.0], (modes[:, None] + scales[:, None] * steps).ravel(), -np.log(beta), np.log(alpha)]))
    points = points[(points > low) & (points < high)]
    best, error = _integrate(integrand, low, high, points, tolerance)
    return best, error


def _integrate(
    integrand: Callable[[float], Array], low: float, high: float, points: Array, tolerance: float
) -> tuple[Array, float]:
    best, error = integrate.quad_vec(
        integrand, low, high, epsabs=tolerance, epsrel=0, norm="max", points=points, limit=100_000
    )
    return best, error


def _cdf(x: float, alpha: float, beta: float) -> float:
    return float(beta_logit_cdf(np.array(x), alpha, beta))


def _log_kernel(x: Array | float, alpha: Array, beta: Array) -> Array:
    """α·log p + β·log(1 − p) at p = σ(x)."""
    return alpha * special.log_expit(x) + beta * special.log_expit(-np.asarray(x))


def _log_density_at_mode(alpha: float, beta: float) -> float:
    """The log density of logit θ at p = α/(α + β), with the smaller of p and 1 − p in SciPy's hands."""
    low, high = min(alpha, beta), max(alpha, beta)
    p = low / (low + high)
    return float(stats.beta.logpdf(p, low, high)) + math.log(p) + math.log1p(-p)
