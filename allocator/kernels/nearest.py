"""The nearest centroid, compiled: what cluster a context belongs to, when allocating and when training labels."""

import math

import numpy as np
from numba import njit


@njit(cache=True)
def nearest_centroid(centroids, vector):  # type: ignore[no-untyped-def]
    """The index of the nearest centroid by Euclidean distance; of equally near ones, the lowest.

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
    """`nearest_centroid` of each of float64 (users, dims): the same clusters as one by one, int64 (users,)."""
    nearest = np.empty(vectors.shape[0], np.int64)
    for user in range(vectors.shape[0]):
        nearest[user] = nearest_centroid(centroids, vectors[user])
    return nearest
