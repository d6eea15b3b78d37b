"""Slow, obvious twins of the kernels, in plain Python and SciPy. They share no code with what they check."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

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
        if high - uniform(stream) * (high - low) < math.exp(-0.5 * x * x):
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
    """The first of the centroids (clusters, dims) at the least squared distance from vector (dims,)."""

    def distance(cluster: int) -> float:
        return sum(
            (float(c) - float(v)) * (float(c) - float(v)) for c, v in zip(centroids[cluster], vector, strict=True)
        )

    return min(range(len(centroids)), key=distance)


def beta_logit_cdf(x: Array, alpha: float, beta: float) -> Array:
    """The chance that logit θ ≤ x, θ ~ Beta(alpha, beta); each tail in its own terms, a power law beyond 600."""
    return np.where(x < 0, _lower_tail(np.minimum(x, 0), alpha, beta), 1 - _lower_tail(np.minimum(-x, 0), beta, alpha))


def _lower_tail(x: Array, alpha: float, beta: float) -> Array:
    """F(x) for x ≤ 0, where σ(x) is precise; computed once for all the zeros, which are somebody else's tail."""
    result = np.full(x.shape, special.betainc(alpha, beta, 0.5))
    near, far = (x < 0) & (x >= -600), x < -600
    result[near] = special.betainc(alpha, beta, special.expit(x[near]))
    result[far] = np.exp(alpha * x[far] - math.log(alpha) - special.betaln(alpha, beta))
    return result


def probability_best(alpha: Array, beta: Array, fineness: float = 2.0) -> Array:
    """The chance of each arm to be the best: ∫ f_k Π_{j≠k} F_j over x = logit θ, F by SciPy's incomplete beta function.

    Gauss-Legendre of 20 nodes between all points where any arm changes character, `fineness` of its scale apart.
    """
    nodes, weights = np.polynomial.legendre.leggauss(20)
    by_arm = [_edges(a, b, fineness) for a, b in zip(alpha, beta, strict=True)]
    edges = np.unique(np.concatenate(by_arm))
    edges = edges[edges >= max(each.min() for each in by_arm)]  # below, some arm cannot be, and the others are not best
    half = np.diff(edges)[:, None] / 2
    x = ((edges[:-1, None] + half) + half * nodes).ravel()
    measure = (half * weights).ravel()
    below = np.stack([beta_logit_cdf(x, a, b) for a, b in zip(alpha, beta, strict=True)])
    best = []
    for arm in range(alpha.size):
        mass = measure * np.exp(_log_density(x, float(alpha[arm]), float(beta[arm])))
        mass *= (1 - beta_logit_cdf(edges[:1], float(alpha[arm]), float(beta[arm]))) / mass.sum()
        best.append(float((mass * np.prod(np.delete(below, arm, axis=0), axis=0)).sum()))
    return np.array(best)


def _edges(alpha: float, beta: float, fineness: float) -> Array:
    """Steps of the scale around the mode, unit steps around the corner of a small shape, and steps along the tails."""
    mode, scale = math.log(alpha / beta), math.sqrt(1 / alpha + 1 / beta)
    bulk = mode + np.arange(-12, 12 + fineness, fineness) * scale
    corners = [
        corner + np.arange(-25, 25 + fineness, fineness) * min(1.0, scale)
        for corner in (0.0, -math.log(beta), math.log(alpha))
        if min(alpha, beta) < 10
    ]
    tails = np.arange(0, 30 + fineness, fineness)
    return np.concatenate([bulk, *corners, mode - 12 * scale - tails / alpha, mode + 12 * scale + tails / beta])


def _log_density(x: Array, alpha: float, beta: float) -> Array:
    """α·log p + β·log(1 − p) at p = σ(x), less its maximum: the log density of logit θ but for a constant."""
    log_kernel = np.where(x < 0, alpha * x, -beta * x) - (alpha + beta) * np.log1p(np.exp(-np.abs(x)))
    return np.asarray(log_kernel - log_kernel.max())


def pooled_tables(
    successes: list[list[float]], trials: list[list[float]], shares: list[float]
) -> tuple[list[list[float]], list[list[float]]]:
    """The hierarchical model of allocator.posterior.pooling, one cell at a time: logit θ_sk = μ_s + a_k + δ_sk."""
    fits = [_fit(successes, trials, tau) for tau in (0.0, 0.25)]
    top = max(fit[0] for fit in fits)
    weights = [math.exp(fit[0] - top) for fit in fits]
    weights = [weight / sum(weights) for weight in weights]
    segments, arms = range(len(successes)), range(len(successes[0]))
    alpha, beta = [[], *([] for _ in segments)], [[], *([] for _ in segments)]
    for k in arms:
        rates, variances = [], []
        for _, eta, own, inherited, arm_variance in fits:
            p = [1 / (1 + math.exp(-eta[s][k])) for s in segments]
            slope = [shares[s] * p[s] * (1 - p[s]) for s in segments]
            rates.append(sum(shares[s] * p[s] for s in segments))
            variances.append(
                sum(slope[s] * inherited[s][k] for s in segments) ** 2 * arm_variance[k]
                + sum(slope[s] ** 2 * own[s][k] for s in segments)
            )
        rate, variance = _mixture(weights, rates, variances)
        _append(alpha[0], beta[0], rate, variance / (rate * (1 - rate)))
        for s in segments:
            means = [fit[1][s][k] for fit in fits]
            cell = [fit[2][s][k] + fit[3][s][k] ** 2 * fit[4][k] for fit in fits]
            mean, variance = _mixture(weights, means, cell)
            p_cell = 1 / (1 + math.exp(-mean))
            _append(alpha[s + 1], beta[s + 1], p_cell, variance * p_cell * (1 - p_cell))
    return alpha, beta


def _mixture(weights: list[float], means: list[float], variances: list[float]) -> tuple[float, float]:
    mean = sum(w * m for w, m in zip(weights, means, strict=True))
    return mean, sum(w * (v + (m - mean) ** 2) for w, m, v in zip(weights, means, variances, strict=True))


def _append(alpha: list[float], beta: list[float], p: float, scaled_variance: float) -> None:
    size = min(max(1 / (0.7 * scaled_variance) - 1, 2.0), 1e9)
    alpha.append(p * size)
    beta.append((1 - p) * size)


def _fit(y: list[list[float]], n: list[list[float]], tau: float) -> tuple[float, ...]:
    """Log weight of τ, and by cell: mean, own variance, share of the arm's error; and by arm: its variance."""
    segments, arms = range(len(y)), range(len(y[0]))
    base = (sum(map(sum, y)) + 1) / (sum(map(sum, n)) + 10)
    mu, a = [math.log(base / (1 - base)) for _ in segments], [0.0 for _ in arms]
    for sweep in range(40):
        z, w = [[0.0] * len(arms) for _ in segments], [[0.0] * len(arms) for _ in segments]
        for s in segments:
            for k in arms:
                e = 1 / (1 + math.exp(-mu[s] - a[k]))
                w[s][k] = n[s][k] * e * (1 - e)
                z[s][k] = mu[s] + a[k] + ((y[s][k] / n[s][k] - e) / (e * (1 - e)) if n[s][k] else 0.0)
        big = [[w[s][k] / (1 + w[s][k] * tau**2) for k in arms] for s in segments]
        center = sum(mu) / len(mu)
        old = mu, a
        for _ in range(3):
            mu = [
                (center / 0.25 + sum(big[s][k] * (z[s][k] - a[k]) for k in arms)) / (1 / 0.25 + sum(big[s]))
                for s in segments
            ]
            a = [
                sum(big[s][k] * (z[s][k] - mu[s]) for s in segments) / (1 / 0.09 + sum(big[s][k] for s in segments))
                for k in arms
            ]
            center = sum(mu) / len(mu)
        mu, mu_step = _step(old[0], mu)
        a, a_step = _step(old[1], a)
        center = sum(mu) / len(mu)
        if sweep >= 3 and max(mu_step, a_step) < 0.05:
            break
    deviations = _deviations(y, n, mu, a, tau)
    log_weight = 0.0
    eta, own, inherited = ([[0.0] * len(arms) for _ in segments] for _ in range(3))
    for s in segments:
        for k in arms:
            shrink = w[s][k] * tau**2 / (1 + w[s][k] * tau**2)
            residual = z[s][k] - mu[s] - a[k]
            eta[s][k], own[s][k], inherited[s][k] = mu[s] + a[k] + deviations[s][k], tau**2 * (1 - shrink), 1 - shrink
            log_weight += 0.5 * (math.log(1 - shrink) - big[s][k] * residual**2)
        log_weight -= 0.5 * (math.log(1 / 0.25 + sum(big[s])) + (mu[s] - center) ** 2 / 0.25)
    of_arm = [1 / 0.09 + sum(big[s][k] for s in segments) for k in arms]
    log_weight -= 0.5 * sum(math.log(of_arm[k]) + a[k] ** 2 / 0.09 for k in arms)
    return log_weight, eta, own, inherited, [1 / precision for precision in of_arm]


def _step(old: list[float], new: list[float]) -> tuple[list[float], float]:
    """At most 1 towards the new values, and the longest step."""
    steps = [max(min(after - before, 1.0), -1.0) for before, after in zip(old, new, strict=True)]
    return [before + step for before, step in zip(old, steps, strict=True)], max(map(abs, steps))


def _deviations(
    y: list[list[float]], n: list[list[float]], mu: list[float], a: list[float], tau: float
) -> list[list[float]]:
    """The mode of δ of each cell by Newton's method; all cells go on until the last has settled."""
    found = [[0.0] * len(a) for _ in mu]
    for _ in range(40 if tau else 0):
        longest = 0.0
        for s in range(len(mu)):
            for k in range(len(a)):
                e = 1 / (1 + math.exp(-mu[s] - a[k] - found[s][k]))
                gradient = y[s][k] - n[s][k] * e - found[s][k] / tau**2
                step = max(min(gradient / (n[s][k] * e * (1 - e) + 1 / tau**2), 1.0), -1.0)
                found[s][k] += step
                longest = max(longest, abs(step))
        if longest < 0.05:
            break
    return found
