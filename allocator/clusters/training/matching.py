"""Which new cluster is which old one, so that numbers and names outlive a retraining."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.model import ClusterModel, distances
from allocator.kernels import nearest_centroids

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
MAX_APART = 0.5  # between a cluster then and now, in root mean squares of the users' distances from their mean


def match_clusters(
    contexts: Sequence[Mapping[str, str]], points: Array, centroids: Array, rows: Labels, previous: ClusterModel
) -> list[int | None]:
    """The old cluster (its place in `previous`) that each new one is, or None where it is a new one.

    A cluster is the same where it is near in the coordinates of both models: the mean of its present members, by the
    old model and within its radius, to the new centroid; and the mean of the new members to the old centroid. One alone
    would take a new audience, among whom the few who look like a vanished one are all that it has left, for that one.

    Args:
        points: float64 (contexts, width), in the new model's coordinates; rows: the new cluster of each.
        centroids: float64 (new clusters, width).
    """
    if len(centroids) == len(previous.numbers) == 1:
        return [0]  # everyone, whoever they are
    before = previous.encoder.matrix(contexts)
    rows_before = nearest_centroids(previous.centroids, before)
    known = distances(previous.centroids, before, rows_before) <= previous.radius
    old_now = _means(points[known], rows_before[known], len(previous.numbers))
    new_then = _means(before, rows, len(centroids))
    return assign(
        np.maximum(_apart(centroids, old_now, _spread(points)), _apart(new_then, previous.centroids, _spread(before)))
    )


def assign(apart: Array) -> list[int | None]:
    """The old cluster of each new one: pairs with the least sum of distances (the Hungarian method).

    No distance counts as more than MAX_APART, and pairs that far apart are none.

    Args:
        apart: float64 (new clusters, old clusters).
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped] # slow to import, and servers never match

    matched: list[int | None] = [None] * len(apart)
    for new, old in zip(*linear_sum_assignment(np.minimum(apart, MAX_APART)), strict=True):
        if apart[new, old] < MAX_APART:
            matched[new] = int(old)
    return matched


def _means(points: Array, rows: Labels, clusters: int) -> Array:
    """Of each cluster, float64 (clusters, width); infinitely far where nobody is left."""
    return np.array(
        [points[rows == row].mean(0) if (rows == row).any() else _nowhere(points) for row in range(clusters)]
    )


def _nowhere(points: Array) -> Array:
    return np.full(points.shape[1], np.inf)


def _apart(ours: Array, theirs: Array, spread: float) -> Array:
    squares: Array = ((ours[:, None] - theirs) ** 2).sum(2)
    return np.sqrt(squares) / spread


def _spread(points: Array) -> float:
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())) or 1.0
