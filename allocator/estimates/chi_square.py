"""The upper tail of the χ² distribution."""

import math


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return P(χ² > statistic), by Q(a + 1, x) = Q(a, x) + xᵃe⁻ˣ/Γ(a + 1) (Abramowitz and Stegun, 6.5.21)."""
    x = max(statistic, 0.0) / 2
    if x == 0.0:
        return 1.0
    a = 0.5 if degrees % 2 else 1.0
    tail = math.erfc(math.sqrt(x)) if degrees % 2 else math.exp(-x)
    while a < degrees / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(tail, 1.0)
