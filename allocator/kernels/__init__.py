"""Numba kernels: the random generator, Thompson sampling, the probability to be best, and the nearest centroid.

They are compiled on first use and cached on disk. They do not use fastmath, so the same inputs give the same bits.
"""

import numpy as np

from allocator.kernels.best import probability_best, probability_best_rows
from allocator.kernels.choose import beta_constants, draw_best_arm, draw_best_arms
from allocator.kernels.nearest import nearest_centroid, nearest_centroids

__all__ = [
    "beta_constants",
    "draw_best_arm",
    "draw_best_arms",
    "nearest_centroid",
    "nearest_centroids",
    "probability_best",
    "probability_best_rows",
    "warm_up",
]


def warm_up() -> None:
    """Compile every kernel for the types that the server calls it with.

    This takes seconds at first, and milliseconds once the results are cached.
    """
    table = np.ones((1, 2))
    constants = beta_constants(table, table)
    draw_best_arm(constants, 0, 0.01, 1, 2)
    draw_best_arms(constants, np.zeros(1, np.int64), 0.01, np.ones((1, 2), np.int64))
    probability_best_rows(table, table)
    nearest_centroid(table, table[0])
    nearest_centroids(table, table)
