"""The probability of each arm to be the best, by quadrature, compiled.

P(k best) = ∫ f_k(x) Π_{j≠k} F_j(x) dx over x = logit θ, where Beta densities f are smooth and log-concave. The
integration starts at the right end, where every distribution function F is 1, and goes left in panels as wide as the
sharpest arm allows. It ends where Π F is negligible: the error is at most the Π F that is left there. Each panel has
Gauss-Legendre nodes. F at the nodes is the integral of the interpolating polynomial of f (spectral integration), so the
cost is linear in the number of arms.
"""

import math

import numpy as np
from numba import njit
from numpy.polynomial import legendre

from allocator.kernels.density import log_density, log_density_constant, slope, steepest_curvature, upper_end

NODES = 12
_LEFT_OUT = 1e-11  # Π F at which the integration ends
_MAX_CURVATURE = 4.0  # curvature of the log density, times the width squared
_MAX_SLOPE = 8.0  # slope of the log density, times the width


def _integration_matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes and weights on [−1, 1], and the matrix M with (f·M)_i ≈ ∫_{x_i}^{1} f."""
    nodes, weights = legendre.leggauss(NODES)
    vandermonde = legendre.legvander(nodes, NODES - 1)
    integrals = np.empty((NODES, NODES))
    for degree in range(NODES):
        antiderivative = legendre.legint(np.eye(NODES)[degree], lbnd=1)
        integrals[:, degree] = -legendre.legval(nodes, antiderivative)
    return nodes, weights, np.ascontiguousarray((integrals @ np.linalg.inv(vandermonde)).T)


_NODES, _WEIGHTS, _INTEGRALS = _integration_matrix()


@njit(cache=True)
def _panel_width(right, longest, alpha, beta, upper):  # type: ignore[no-untyped-def]
    """Return the width of the next panel: the widest, up to `longest`, that resolves every arm which has begun.

    The panel ends where the next arm begins, if it would be wider.
    """
    width = longest
    for arm in range(alpha.size):
        if upper[arm] < right:
            width = min(width, right - upper[arm])
    for arm in range(alpha.size):
        if upper[arm] >= right:
            a, b = alpha[arm], beta[arm]
            here = abs(slope(right, a, b))
            while (
                max(here, abs(slope(right - width, a, b))) * width > _MAX_SLOPE
                or steepest_curvature(right - width, right, a, b) * width * width > _MAX_CURVATURE
            ):
                width *= 0.8
    return width


@njit(cache=True)
def probability_best(alpha, beta):  # type: ignore[no-untyped-def]
    """Return the probability of each arm to have the largest θ.

    Args:
        alpha, beta: float64 (arms,), all > 0.

    Returns:
        float64 (arms,), summing to 1. The absolute error is below 1e-6.
    """
    arms = alpha.size
    constants = np.empty(arms)
    upper = np.empty(arms)
    for arm in range(arms):
        constants[arm] = log_density_constant(alpha[arm], beta[arm])
        upper[arm] = upper_end(alpha[arm], beta[arm], constants[arm])
    lower = -math.inf
    for arm in range(arms):  # −logit θ has the same density with the shapes swapped
        lower = max(lower, -upper_end(beta[arm], alpha[arm], constants[arm]))
    result = np.zeros(arms)
    above = np.zeros(arms)  # 1 − F at the right edge of the panel
    density = np.zeros((arms, NODES))
    below = np.ones((arms, NODES))
    others = np.ones((arms, NODES))
    product = np.empty(NODES)
    right = upper.max()
    width = right - lower
    remaining = 1.0
    while right > lower and remaining > _LEFT_OUT:
        width = _panel_width(right, min(2.0 * width, right - lower), alpha, beta, upper)
        half = 0.5 * width
        log_half = math.log(half)
        for node in range(NODES):
            x = right - half + half * _NODES[node]
            soft = math.log1p(math.exp(-abs(x)))
            for arm in range(arms):
                if upper[arm] >= right:
                    log_f = log_density(x, soft, alpha[arm], beta[arm], constants[arm])
                    density[arm, node] = math.exp(log_f + log_half)
        for arm in range(arms):
            if upper[arm] >= right:
                _distribution(above[arm], density[arm], below[arm])
        product[:] = 1.0
        for arm in range(arms):
            for node in range(NODES):
                others[arm, node] = product[node]
                product[node] *= below[arm, node]
        product[:] = 1.0
        remaining = 1.0
        for arm in range(arms - 1, -1, -1):
            if upper[arm] >= right:
                for node in range(NODES):
                    weighted = _WEIGHTS[node] * density[arm, node]
                    above[arm] += weighted
                    result[arm] += weighted * others[arm, node] * product[node]
                for node in range(NODES):
                    product[node] *= below[arm, node]
                remaining *= min(max(1.0 - above[arm], 0.0), 1.0)
        right -= width
    return result / result.sum()


@njit(cache=True)
def _distribution(above, density, below):  # type: ignore[no-untyped-def]
    """Write F at the nodes into `below`.

    above: 1 − F at the right edge of the panel. density: at the nodes, times half the width of the panel.
    """
    for node in range(NODES):
        below[node] = 1.0 - above
    for inner in range(NODES):
        for node in range(NODES):
            below[node] -= _INTEGRALS[inner, node] * density[inner]
    for node in range(NODES):
        below[node] = min(max(below[node], 0.0), 1.0)


@njit(cache=True)
def probability_best_rows(alpha, beta):  # type: ignore[no-untyped-def]
    """Return `probability_best` of every row of tables: float64 (rows, arms) from float64 (rows, arms) each."""
    result = np.empty_like(alpha)
    for row in range(alpha.shape[0]):
        result[row] = probability_best(alpha[row], beta[row])
    return result
