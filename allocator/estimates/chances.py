"""The probability of each variant to be the best, and the loss if it is chosen, from one row of posterior tables."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from allocator.defects import InvalidTableError
from allocator.estimates.log import Array
from allocator.kernels import probability_best

_NODES = 10
_FAR = 36.0  # logits; rates beyond are within 1e-15 of 0 or 1
# Edges of panels on either side of a mode, in standard deviations: ¾ apart up to 10.5, then each 1.25 times farther.
_OFFSETS = np.concatenate([0.75 * np.arange(15), 10.5 * 1.25 ** np.arange(1, 9)])


@dataclass(frozen=True)
class Chances:
    """The probability of each variant to be the best, and its expected loss E[max_j θ_j − θ_k]: float64 (variants,)."""

    best: Array
    loss: Array


def chances(alpha: Array, beta: Array) -> Chances:
    """Return the chances that follow from independent Beta posteriors.

    Args:
        alpha, beta: float64 (variants,), above 0 and finite.

    Raises:
        InvalidTableError: there is no variant, or a shape is 0, negative or not finite.
    """
    shapes = np.stack([alpha, beta])
    if not alpha.size or not (np.isfinite(shapes) & (shapes > 0)).all():
        raise InvalidTableError("alpha and beta must be above 0 and finite, for at least one variant")
    return Chances(best=probability_best(alpha, beta), loss=expected_loss(alpha, beta))


def expected_loss(alpha: Array, beta: Array) -> Array:
    """Return E[max_j θ_j − θ_k] = ∫ F_k(t)·(1 − Π_{j≠k} F_j(t)) dt of each k: float64 (variants,).

    The formula follows from E[max] = ∫ 1 − Π_j F_j and E[θ_k] = ∫ 1 − F_k, and no digits cancel in it. It is integrated
    over x = logit t as in `allocator.kernels.best`: with Gauss-Legendre nodes on panels that are fine enough for every
    variant, where F is the integral of the interpolating polynomial.

    Args:
        alpha, beta: float64 (variants,), above 0 and finite.
    """
    scale = np.sqrt(1 / alpha + 1 / beta)[:, None] * np.concatenate([-_OFFSETS, _OFFSETS])
    edges = np.unique(np.clip(np.log(alpha / beta)[:, None] + scale, -_FAR, _FAR))
    edges = np.unique(np.concatenate([[-_FAR], edges, [_FAR]]))
    half = np.diff(edges) / 2
    x = (edges[:-1] + half)[:, None] + half[:, None] * _POINTS  # (panels, nodes)
    softplus = np.logaddexp(0.0, x)
    norm = np.array([math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) for a, b in zip(alpha, beta, strict=True)])
    density = np.exp(alpha[:, None, None] * x - (alpha + beta)[:, None, None] * softplus + norm[:, None, None])
    before = np.exp(norm - alpha * _FAR) / alpha  # F(t) → tᵅ/(α·B(α, β)) as t → 0, and 1 − F likewise at the other end
    after = np.exp(norm - beta * _FAR) / beta
    density *= half[:, None]
    total = before + (density @ _WEIGHTS).sum(1) + after  # 1, except for the rounding of `norm` if shapes are large
    density /= total[:, None, None]
    before /= total
    mass = density @ _WEIGHTS  # (variants, panels)
    below = before[:, None] + mass.cumsum(1) - mass
    cumulative = np.clip(below[:, :, None] + density @ _INTEGRALS.T, 0.0, 1.0)
    step = half[:, None] * _WEIGHTS * np.exp(x - 2 * softplus)  # dt
    losses = [(cumulative[k] * (1 - np.delete(cumulative, k, 0).prod(0)) * step).sum() for k in range(alpha.size)]
    return np.array(losses)


def _integration_matrix() -> tuple[Array, Array, Array]:
    """Return nodes and weights on [−1, 1], and the matrix M with (M·f)_i ≈ ∫_{−1}^{x_i} f.

    It follows from ∫P_d = (P_{d+1} − P_{d−1})/(2d + 1) for Legendre polynomials P_d.
    """
    points, weights = legendre.leggauss(_NODES)
    values = legendre.legvander(points, _NODES)
    integrals = np.empty((_NODES, _NODES))
    integrals[:, 0] = points + 1
    for degree in range(1, _NODES):
        integrals[:, degree] = (values[:, degree + 1] - values[:, degree - 1]) / (2 * degree + 1)
    return points, weights, integrals @ np.linalg.inv(values[:, :_NODES])


_POINTS, _WEIGHTS, _INTEGRALS = _integration_matrix()
