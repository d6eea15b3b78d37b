"""How many clusters there are, which may be one: asked of the points alone, never of outcomes.

Clusters exist where the points are tighter around K centroids than they are with their blocks of dimensions shuffled
(the gap statistic of Tibshirani, Walther and Hastie, 2001, with permutations for the reference). K is that of the best
separated clusters (silhouette: Rousseeuw, 1987) among those that another half of the users finds again (prediction
strength: Tibshirani and Walther, 2005), or fewer where that is as good. The bounds are those of simulations: the figure
clusters-planted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.encoder import Encoder
from allocator.clusters.training.centroids import fit_centroids, silhouettes
from allocator.clusters.training.permutation import blocks, shuffled
from allocator.kernels import nearest_centroids

Array = NDArray[np.float64]
_ROWS = 3_000  # for gap and silhouette: more add time, not certainty
_HALVED_ROWS = 10_000  # for prediction strength, which few rows make look smaller than it is
MIN_GAP, MIN_GAP_ERRORS = 0.03, 3.0
MIN_STRENGTH = 0.8
_NEARLY = 0.95  # of the largest silhouette: as good as it, for fewer clusters
_REFERENCES = 10
_SPLITS = 5
_REFERENCE_STARTS, _STARTS = 3, 10
_LEAST_SPREAD = 1e-3  # of the spread around one centroid: points that coincide are no infinite gap


@dataclass(frozen=True, slots=True)
class Quality:
    """How clear the clusters are.

    Attributes:
        gap: the largest over K, in logarithms of the spread; `gap_error` is its standard error.
        silhouette: of the K chosen, -1 to 1; 0 for one cluster.
        strength: prediction strength of the K chosen, 0 to 1; 1 for one cluster.
    """

    gap: float
    gap_error: float
    silhouette: float
    strength: float


def choose_clusters(
    encoder: Encoder,
    contexts: Sequence[Mapping[str, str]],
    points: Array,
    *,
    max_clusters: int,
    seed: int,
    progress: Callable[[float], None],
) -> tuple[int, Quality]:
    """K, from 1 to `max_clusters`, and why.

    Args:
        points: float64 (contexts, encoder.width). Some thousands of them, drawn with the seed, are looked at.
        progress: told what share is done.
    """
    generator = np.random.default_rng(seed)
    rows = _drawn(len(points), _ROWS, generator)
    some, parts = points[rows], blocks(encoder, [contexts[row] for row in rows])
    candidates = range(2, min(max_clusters, _different(some)) + 1)
    if len(parts) < 2 or not candidates:
        return 1, Quality(0.0, 0.0, 0.0, 1.0)  # nothing that could go together
    spreads = np.empty((_REFERENCES + 1, len(candidates)))
    for row in range(_REFERENCES + 1):
        spreads[row] = _log_spreads(shuffled(some, parts, generator) if row else some, candidates, seed)
        progress((row + 1) / (_REFERENCES + 1) / 2)
    gaps = spreads[1:].mean(0) - spreads[0]
    errors = spreads[1:].std(0, ddof=1) * np.sqrt(1 + 1 / _REFERENCES)
    gap, error = float(gaps.max()), float(errors[gaps.argmax()])
    if gap < MIN_GAP or gap <= MIN_GAP_ERRORS * error:
        return 1, Quality(gap, error, 0.0, 1.0)
    labelings = [nearest_centroids(fit_centroids(some, k, seed, _STARTS)[0], some) for k in candidates]
    separated = dict(zip(candidates, silhouettes(some, labelings), strict=True))
    halved = points[_drawn(len(points), _HALVED_ROWS, generator)]
    clusters, strength = _clearest(separated, lambda k: prediction_strength(halved, k, seed), progress)
    return clusters, Quality(gap, error, separated.get(clusters, 0.0), strength)


def _clearest(
    separated: Mapping[int, float], strength_of: Callable[[int], float], progress: Callable[[float], None]
) -> tuple[int, float]:
    """The fewest clusters that are found again and nearly the best separated of those, and their strength; or 1."""
    found: dict[int, float] = {}
    for tried, clusters in enumerate(sorted(separated, key=separated.__getitem__, reverse=True)):
        progress(0.5 + tried / len(separated) / 2)
        if found and separated[clusters] < _NEARLY * max(separated[k] for k in found):
            break
        if not found or clusters < min(found):
            strength = strength_of(clusters)
            if strength >= MIN_STRENGTH:
                found[clusters] = strength
    return min(found.items(), default=(1, 1.0))


def prediction_strength(points: Array, clusters: int, seed: int) -> float:
    """The share of pairs in a cluster of one half that centroids of the other half keep together: of the worst cluster.

    The mean of five ways to halve the points, in which each half predicts the other.
    """
    generator = np.random.default_rng(seed)
    strengths = []
    for _ in range(_SPLITS):
        halves = np.array_split(points[generator.permutation(len(points))], 2)
        fitted = [fit_centroids(half, clusters, seed, _STARTS)[0] for half in halves]
        for half, own, other in zip(halves, fitted, fitted[::-1], strict=True):
            strengths.append(_least_kept(nearest_centroids(own, half), nearest_centroids(other, half), clusters))
    return float(np.mean(strengths))


def _least_kept(own: NDArray[np.int64], predicted: NDArray[np.int64], clusters: int) -> float:
    both = np.zeros((clusters, clusters))
    np.add.at(both, (own, predicted), 1)
    sizes = both.sum(1)
    kept = (both * (both - 1)).sum(1) / np.maximum(sizes * (sizes - 1), 1)
    return float(kept.min())


def _log_spreads(points: Array, candidates: range, seed: int) -> list[float]:
    least = _LEAST_SPREAD * fit_centroids(points, 1, seed, 1)[1]
    return [float(np.log(max(fit_centroids(points, k, seed, _REFERENCE_STARTS)[1], least))) for k in candidates]


def _drawn(rows: int, most: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(generator.choice(rows, min(rows, most), replace=False))


def _different(points: Array) -> int:
    return len({point.tobytes() for point in points})
