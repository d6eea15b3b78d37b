"""Numba kernels: the random generator, Thompson sampling, and the probability to be best.

Compiled on first use and cached on disk. No fastmath: the same inputs give the same bits.
"""

import numpy as np

from allocator.kernels.best import probability_best, probability_best_rows
from allocator.kernels.choose import draw_best_arm

__all__ = ["draw_best_arm", "probability_best", "probability_best_rows", "warm_up"]


def warm_up() -> None:
    """Compile every kernel for the types that the server calls it with (seconds at first, milliseconds from cache)."""
    table = np.ones((1, 2))
    draw_best_arm(table, table, 0, 0.01, np.uint64(1), np.uint64(2))
    probability_best_rows(table, table)
