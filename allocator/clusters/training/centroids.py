"""K-means and its silhouette. The same points give the same result.

Both run on one thread, because the rounding of sums depends on the number of threads. scikit-learn is imported inside
the functions, so that servers, which only look clusters up, start faster and need less memory.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST_IN_FULL = 50_000  # points; more than these are fitted in batches
_BATCH = 4_096


def fit_centroids(points: Array, clusters: int, seed: int, starts: int) -> tuple[Array, float]:
    """Return centroids, float64 (`clusters`, width), and the sum of the squared distances to them.

    Args:
        points: float64 (points, width), at least as many as clusters.
        clusters: how many. If fewer points are different, some centroids coincide.
        seed: of the starting points, which come from k-means++.
        starts: how many times to start; the best result counts.
    """
    if clusters == 1:
        mean = points.mean(0, keepdims=True)
        return mean, float(((points - mean) ** 2).sum())
    from sklearn.cluster import KMeans, MiniBatchKMeans  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]

    options = {"n_clusters": clusters, "n_init": starts, "random_state": seed}
    model = KMeans(**options) if len(points) <= MOST_IN_FULL else MiniBatchKMeans(**options, batch_size=_BATCH)
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    return np.ascontiguousarray(model.cluster_centers_, np.float64), float(model.inertia_)


def silhouettes(points: Array, labelings: Iterable[NDArray[np.int64]]) -> Iterator[float]:
    """Yield the mean silhouette of the points for each labelling of two or more labels (Rousseeuw, 1987)."""
    from sklearn.metrics import pairwise_distances, silhouette_score  # type: ignore[import-untyped]

    with _one_thread():
        distances = pairwise_distances(points)
        for labels in labelings:
            yield float(silhouette_score(distances, labels, metric="precomputed"))


def _one_thread() -> AbstractContextManager[object]:
    """Limit the libraries that are loaded by now to one thread."""
    limited: AbstractContextManager[object] = _threads().limit(limits=1)
    return limited


@cache
def _threads() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
