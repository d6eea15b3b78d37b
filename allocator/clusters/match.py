"""Which new cluster is which old one, so that numbers and names outlive a retraining."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
MAX_DISTANCE = 0.5  # between a cluster then and now, in root mean squares of the users' distances from their mean


def match_clusters(points: Array, centroids: Array, before: Sequence[Labels]) -> list[int | None]:
    """The old cluster that each new one is, or None where it is a new one; an old one is one new one at most.

    Where an old cluster is now is the mean of the present users who belong to it. Pairs are chosen so that distances,
    of which none counts as more than MAX_DISTANCE, have the least sum (the Hungarian method); a pair that far apart is
    none.

    Args:
        points: float64 (users, width), in the new encoder's coordinates.
        centroids: float64 (new clusters, width).
        before: for each old cluster, the rows of `points` that belong to it; there may be none.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped] # servers do without SciPy

    most = MAX_DISTANCE * float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))
    distances = np.full((len(centroids), len(before)), np.inf)
    for old, rows in enumerate(before):
        if len(rows):
            distances[:, old] = np.sqrt(((centroids - points[rows].mean(0)) ** 2).sum(1))
    matched: list[int | None] = [None] * len(centroids)
    for new, old in zip(*linear_sum_assignment(np.minimum(distances, most)), strict=True):
        if distances[new, old] <= most:
            matched[new] = int(old)
    return matched
