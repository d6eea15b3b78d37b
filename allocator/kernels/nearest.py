"""The nearest centroid, compiled. Allocation and training both use it, so that they agree on clusters."""

import math

import numpy as np
from numba import njit


@njit(cache=True)
def nearest_centroid(centroids, vector):  # type: ignore[no-untyped-def]
    """Return the index of the nearest centroid by Euclidean distance; the lowest index if several are equally near.

    Args:
        centroids: float64 (clusters, dims), at least one.
        vector: float64 (dims,).
    """
    nearest = 0
    least = math.inf
    for cluster in range(centroids.shape[0]):
        distance = 0.0
        for dim in range(centroids.shape[1]):
            difference = centroids[cluster, dim] - vector[dim]
            distance += difference * difference
        if distance < least:
            nearest, least = cluster, distance
    return nearest


@njit(cache=True)
def nearest_centroids(centroids, vectors):  # type: ignore[no-untyped-def]
    """Return `nearest_centroid` of each vector: int64 (users,) from float64 (users, dims)."""
    nearest = np.empty(vectors.shape[0], np.int64)
    for user in range(vectors.shape[0]):
        nearest[user] = nearest_centroid(centroids, vectors[user])
    return nearest
