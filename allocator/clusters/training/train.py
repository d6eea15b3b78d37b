"""Training: contexts become clusters with numbers and names. It must not know of outcomes or variants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.encoder import fit_encoder
from allocator.clusters.model import ClusterModel, centroid_distances
from allocator.clusters.names import name_clusters
from allocator.clusters.training.centroids import fit_centroids
from allocator.clusters.training.cluster_count import Quality, choose_cluster_count
from allocator.clusters.training.matching import match_clusters
from allocator.kernels import nearest_centroids
from allocator.limits import DEFAULT_MAX_CLUSTERS, MIN_ASSIGNMENTS

Array = NDArray[np.float64]
Contexts = Sequence[Mapping[str, str]]
_STARTS = 10
_RADIUS = 0.99  # quantile of the distances to the centroids


class NothingToLearnError(ValueError):
    """There are too few contexts to train with."""


@dataclass(frozen=True, slots=True)
class Training:
    """The result of a training.

    Attributes:
        model: the clusters. quality: how clear they are.
        sizes: the users of each cluster, in the order of the model: the largest first.
        names: for people, by cluster number. They come from this training alone; a matched cluster may keep its old
        name. matched: by cluster number, whether the previous model had the cluster.
    """

    model: ClusterModel
    quality: Quality
    sizes: tuple[int, ...]
    names: Mapping[int, str]
    matched: Mapping[int, bool]


def _silent(stage: str, done: float) -> None:
    pass


def train(
    contexts: Contexts,
    *,
    max_clusters: int = DEFAULT_MAX_CLUSTERS,
    seed: int = 0,
    previous: ClusterModel | None = None,
    next_number: int = 1,
    progress: Callable[[str, float], None] = _silent,
) -> Training:
    """Train clusters. The same contexts in the same order give the same clusters.

    Args:
        contexts: the dimensions of each user.
        max_clusters: at least 1.
        seed: of samples and of the starting points of k-means.
        previous: the model in use. Clusters that it has keep their numbers.
        next_number: the number of the first new cluster, above all numbers that were ever given.
        progress: called with a stage, and the share of the training that is done.

    Raises:
        NothingToLearnError: there are fewer contexts than MIN_ASSIGNMENTS.
    """
    if len(contexts) < MIN_ASSIGNMENTS:
        raise NothingToLearnError(
            f"clusters need at least {MIN_ASSIGNMENTS:,} assignments; there are {len(contexts):,}"
        )
    progress("encoding", 0.0)
    encoder = fit_encoder(contexts)
    points = encoder.matrix(contexts)
    clusters, quality = choose_cluster_count(
        encoder,
        contexts,
        points,
        max_clusters=max_clusters,
        seed=seed,
        progress=lambda done: progress("choosing", 0.1 + 0.6 * done),
    )
    progress("clustering", 0.7)
    centroids = _by_size(points, fit_centroids(points, clusters, seed, _STARTS)[0])
    rows = nearest_centroids(centroids, points)
    sizes = np.bincount(rows, minlength=len(centroids))
    progress("naming", 0.9)
    matches: list[int | None] = [None] * len(centroids)
    if previous is not None:
        matches = match_clusters(contexts, points, centroids, rows, previous)
    numbers = _numbers(matches, previous, next_number)
    model = ClusterModel(
        encoder,
        centroids,
        numbers,
        shares=tuple((sizes / len(points)).tolist()),
        radius=float(np.quantile(centroid_distances(centroids, points, rows), _RADIUS)),
    )
    names = dict(zip(numbers, name_clusters(encoder, contexts, rows, len(numbers)), strict=True))
    progress("done", 1.0)
    matched = {number: old is not None for number, old in zip(numbers, matches, strict=True)}
    return Training(model, quality, tuple(sizes.tolist()), names, matched)


def _by_size(points: Array, centroids: Array) -> Array:
    """Return the centroids of clusters that have users, those with the most users first."""
    sizes = np.bincount(nearest_centroids(centroids, points), minlength=len(centroids))
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    return np.ascontiguousarray(centroids[order])


def _numbers(matches: Sequence[int | None], previous: ClusterModel | None, next_number: int) -> tuple[int, ...]:
    """Return the numbers of the clusters: a matched cluster keeps its number, and a new one gets a new number."""
    given = previous.numbers if previous else ()
    fresh = count(max(next_number, *(number + 1 for number in given), 1))
    return tuple(next(fresh) if old is None else given[old] for old in matches)
