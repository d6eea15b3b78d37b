"""Matching of new clusters with old ones, so that their numbers and names outlive a retraining."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.model import ClusterModel, centroid_distances
from allocator.kernels import nearest_centroids

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
MAX_DISTANCE = 0.5  # between a cluster then and now, divided by the root mean square distance of users from their mean


def match_clusters(
    contexts: Sequence[Mapping[str, str]], points: Array, centroids: Array, rows: Labels, previous: ClusterModel
) -> list[int | None]:
    """Return the index of the old cluster, in `previous`, that each new cluster is; None if it is a new one.

    A new and an old cluster are the same if they are near in the coordinates of both models. In the new coordinates,
    the mean of the users whom the old model puts into the old cluster, within its radius, must be near the new
    centroid. In the old coordinates, the mean of the users of the new cluster must be near the old centroid. The first
    condition alone is not enough: if an audience has vanished, the few users who still look like it may all belong to a
    new audience.

    Args:
        contexts: of the users.
        points: float64 (contexts, width), in the coordinates of the new model.
        centroids: float64 (new clusters, width), of the new model.
        rows: int64 (contexts,), the new cluster of each user.
    """
    if len(centroids) == len(previous.numbers) == 1:
        return [0]  # both are everyone
    before = previous.encoder.matrix(contexts)
    rows_before = nearest_centroids(previous.centroids, before)
    known = centroid_distances(previous.centroids, before, rows_before) <= previous.radius
    old_now = _means(points[known], rows_before[known], len(previous.numbers))
    new_then = _means(before, rows, len(centroids))
    return pair_clusters(
        np.maximum(
            _distances(centroids, old_now, _root_mean_square(points)),
            _distances(new_then, previous.centroids, _root_mean_square(before)),
        )
    )


def pair_clusters(distances: Array) -> list[int | None]:
    """Return the old cluster of each new one: the pairs with the least sum of distances (the Hungarian method).

    A distance above MAX_DISTANCE counts as MAX_DISTANCE, and makes no pair.

    Args:
        distances: float64 (new clusters, old clusters).
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped] # slow to import, and not needed by servers

    matched: list[int | None] = [None] * len(distances)
    for new, old in zip(*linear_sum_assignment(np.minimum(distances, MAX_DISTANCE)), strict=True):
        if distances[new, old] < MAX_DISTANCE:
            matched[new] = int(old)
    return matched


def _means(points: Array, rows: Labels, clusters: int) -> Array:
    """Return the mean of each cluster: float64 (clusters, width). A cluster without users is infinitely far away."""
    return np.array(
        [points[rows == row].mean(0) if (rows == row).any() else _nowhere(points) for row in range(clusters)]
    )


def _nowhere(points: Array) -> Array:
    return np.full(points.shape[1], np.inf)


def _distances(ours: Array, theirs: Array, scale: float) -> Array:
    squares: Array = ((ours[:, None] - theirs) ** 2).sum(2)
    return np.sqrt(squares) / scale


def _root_mean_square(points: Array) -> float:
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())) or 1.0
