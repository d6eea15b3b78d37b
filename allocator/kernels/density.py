"""The density of a Beta variate on the logit scale, its slope and its curvature, compiled.

With x = logit θ and p = σ(x), log f(x) = α·log p + β·log(1 − p) − log B(α, β). It is concave, with slope α − (α + β)·p
and curvature −(α + β)·p·(1 − p). The functions are precise for shapes from 1e-300 to 1e9.
"""

import math

from numba import njit

_TAIL_MASS = math.log(1e-11)  # the mass beyond the upper end of an arm, which is neglected
_CLOSE = 4.0  # the bisection ends when the log density falls by less than this between its two points
_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


@njit(cache=True)
def _stirling_error(z):  # type: ignore[no-untyped-def]
    """Return log Γ(z) less Stirling's (z − ½)·log z − z + ½·log 2π (Abramowitz and Stegun, 6.1.40)."""
    if z < 16.0:
        return math.lgamma(z) - (z - 0.5) * math.log(z) + z - _HALF_LOG_TAU
    square = z * z
    return (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / z


@njit(cache=True, inline="always")
def _log_kernel(x, soft, a, b):  # type: ignore[no-untyped-def]
    return (a * x if x < 0.0 else -b * x) - (a + b) * soft


@njit(cache=True)
def log_density_constant(a, b):  # type: ignore[no-untyped-def]
    """Return −log B(a, b), which `log_density` needs. It is computed from the density at the mode."""
    mode = math.log(a) - math.log(b)
    peak = 0.5 * (math.log(a) + math.log(b) - math.log(a + b)) - _HALF_LOG_TAU
    peak += _stirling_error(a + b) - _stirling_error(a) - _stirling_error(b)
    return peak - _log_kernel(mode, math.log1p(math.exp(-abs(mode))), a, b)


@njit(cache=True, inline="always")
def log_density(x, soft, a, b, constant):  # type: ignore[no-untyped-def]
    """Return log f(x). `soft` is log(1 + exp(−|x|)), which is the same for all arms."""
    return _log_kernel(x, soft, a, b) + constant


@njit(cache=True)
def slope(x, a, b):  # type: ignore[no-untyped-def]
    """Return the derivative of log f at x."""
    small = math.exp(-abs(x))
    small /= 1.0 + small
    return a - (a + b) * small if x < 0.0 else (a + b) * small - b


@njit(cache=True)
def steepest_curvature(left, right, a, b):  # type: ignore[no-untyped-def]
    """Return the largest (a + b)·p·(1 − p) between two points, which is that of the point nearest to 0."""
    small = math.exp(-max(left, -right, 0.0))
    return (a + b) * small / ((1.0 + small) * (1.0 + small))


@njit(cache=True)
def upper_end(a, b, constant):  # type: ignore[no-untyped-def]
    """Return a point with a mass of at most 1e-11 above it, by bisection on f(x)/|slope|, which bounds that mass."""
    mode = math.log(a) - math.log(b)
    near, far = 0.0, math.sqrt(1.0 / a + 1.0 / b)
    while not _is_tail(mode + far, a, b, constant):
        near, far = far, 2.0 * far
    while (near - far) * slope(mode + far, a, b) > _CLOSE:
        middle = 0.5 * (near + far)
        if _is_tail(mode + middle, a, b, constant):
            far = middle
        else:
            near = middle
    return mode + far


@njit(cache=True)
def _is_tail(x, a, b, constant):  # type: ignore[no-untyped-def]
    falling = -slope(x, a, b)
    soft = math.log1p(math.exp(-abs(x)))
    return falling > 0.0 and log_density(x, soft, a, b, constant) - math.log(falling) < _TAIL_MASS
