"""The probability of each arm to be the best, by quadrature, compiled.

P(k best) = ∫ f_k(x) Π_{j≠k} F_j(x) dx over x = logit θ, where Beta densities are smooth and log-concave. The axis is
cut into panels fine enough for every arm; each panel has Gauss-Legendre nodes, and the distribution functions at the
nodes come from integrating the interpolating polynomial (spectral integration).
"""

import math

import numpy as np
from numba import njit
from numpy.polynomial import legendre

NODES = 10
_STEPS = 14


def _integration_matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes and weights on [−1, 1], and M with (M·f)_i ≈ ∫_{−1}^{x_i} f."""
    nodes, weights = legendre.leggauss(NODES)
    vandermonde = legendre.legvander(nodes, NODES - 1)
    integrals = np.empty((NODES, NODES))
    for degree in range(NODES):
        antiderivative = legendre.legint(np.eye(NODES)[degree], lbnd=-1)
        integrals[:, degree] = legendre.legval(nodes, antiderivative)
    return nodes, weights, integrals @ np.linalg.inv(vandermonde)


_NODES, _WEIGHTS, _INTEGRALS = _integration_matrix()


@njit(cache=True)
def _log1p_exp(x):  # type: ignore[no-untyped-def]
    return x + math.log1p(math.exp(-x)) if x > 0.0 else math.log1p(math.exp(x))


@njit(cache=True)
def _panel_edges(alpha, beta):  # type: ignore[no-untyped-def]
    """Sorted panel edges: per arm, steps around its mode that widen once past its bulk, as far as its tails reach."""
    arms = alpha.size
    edges = np.empty(arms * (4 * _STEPS * 4 + 1))
    count = 0
    for arm in range(arms):
        a, b = alpha[arm], beta[arm]
        mode = math.log(a / b)
        scale = math.sqrt(1.0 / a + 1.0 / b)
        edges[count] = mode
        count += 1
        for side in range(2):
            reach = 40.0 / (a if side == 0 else b) + 10.0 * scale
            sign = -1.0 if side == 0 else 1.0
            offset = 0.0
            for step in range(8 * _STEPS):
                offset += 0.75 * scale if step < _STEPS else 0.25 * offset
                edges[count] = mode + sign * offset
                count += 1
                if offset > reach:
                    break
    return np.sort(edges[:count])


@njit(cache=True)
def probability_best(alpha, beta):  # type: ignore[no-untyped-def]
    """The chance of each arm to have the largest θ.

    Args:
        alpha, beta: float64 (arms,), all > 0.

    Returns:
        float64 (arms,), summing to 1.
    """
    arms = alpha.size
    edges = _panel_edges(alpha, beta)
    log_norm = np.empty(arms)
    for arm in range(arms):
        a, b = alpha[arm], beta[arm]
        log_norm[arm] = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    below = np.zeros(arms)
    result = np.zeros(arms)
    density = np.empty((arms, NODES))
    for panel in range(edges.size - 1):
        half = 0.5 * (edges[panel + 1] - edges[panel])
        if half <= 0.0:
            continue
        middle = 0.5 * (edges[panel + 1] + edges[panel])
        for node in range(NODES):
            x = middle + half * _NODES[node]
            softplus = _log1p_exp(x)
            for arm in range(arms):
                a, b = alpha[arm], beta[arm]
                density[arm, node] = math.exp(a * x - (a + b) * softplus + log_norm[arm])
        for node in range(NODES):
            for arm in range(arms):
                others = density[arm, node]
                for other in range(arms):
                    if others == 0.0:
                        break
                    if other != arm:
                        cumulative = below[other]
                        for inner in range(NODES):
                            cumulative += half * _INTEGRALS[node, inner] * density[other, inner]
                        others *= min(max(cumulative, 0.0), 1.0)
                result[arm] += half * _WEIGHTS[node] * others
        for arm in range(arms):
            for node in range(NODES):
                below[arm] += half * _WEIGHTS[node] * density[arm, node]
    return result / result.sum()


@njit(cache=True)
def probability_best_rows(alpha, beta):  # type: ignore[no-untyped-def]
    """`probability_best` of every row of float64 (rows, arms) tables."""
    result = np.empty_like(alpha)
    for row in range(alpha.shape[0]):
        result[row] = probability_best(alpha[row], beta[row])
    return result
