"""The number of clusters, which may be 1. It is chosen from the points alone, never from outcomes.

There are clusters if the points are closer to K centroids than they are after their blocks of dimensions were shuffled:
the gap statistic of Tibshirani, Walther and Hastie (2001), with permutations as the reference. K is chosen in two
steps. Clusters are candidates if the other half of the users has them too: prediction strength (Tibshirani and
Walther, 2005). Among the candidates the best separated clusters win (silhouette: Rousseeuw, 1987), or fewer clusters
if they are nearly as well separated. The bounds come from simulations: `make figure NAME=clusters-planted`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.encoder import Encoder
from allocator.clusters.training.centroids import fit_centroids, silhouettes
from allocator.clusters.training.permutation import find_blocks, shuffle_blocks
from allocator.kernels import nearest_centroids

Array = NDArray[np.float64]
_ROWS = 3_000  # for gap and silhouette; more take time and add no certainty
_HALVED_ROWS = 10_000  # for prediction strength, which is underestimated from few rows
MIN_GAP, MIN_GAP_ERRORS = 0.03, 3.0
MIN_STRENGTH = 0.8
_NEARLY = 0.95  # fewer clusters win if they have at least this part of the largest silhouette
_REFERENCES = 10
_SPLITS = 5
_REFERENCE_STARTS, _STARTS = 3, 10
_LEAST_SPREAD = 1e-3  # of the spread around one centroid, so that points which coincide do not make the gap infinite


@dataclass(frozen=True, slots=True)
class Quality:
    """How clear the clusters are.

    Attributes:
        gap: the largest gap over all K, in logarithms of the spread. gap_error: its standard error.
        silhouette: of the chosen K, -1 to 1; 0 for one cluster.
        strength: the prediction strength of the chosen K, 0 to 1; 1 for one cluster.
    """

    gap: float
    gap_error: float
    silhouette: float
    strength: float


def choose_cluster_count(
    encoder: Encoder,
    contexts: Sequence[Mapping[str, str]],
    points: Array,
    *,
    max_clusters: int,
    seed: int,
    progress: Callable[[float], None],
) -> tuple[int, Quality]:
    """Return K, from 1 to `max_clusters`, and how clear the clusters are.

    Args:
        encoder, contexts: from which the points were made.
        points: float64 (contexts, encoder.width). A sample of some thousands is used.
        max_clusters: at least 1.
        seed: of the sample, the permutations and the halves.
        progress: called with the share of the work that is done.
    """
    generator = np.random.default_rng(seed)
    rows = _drawn(len(points), _ROWS, generator)
    some, blocks = points[rows], find_blocks(encoder, [contexts[row] for row in rows])
    candidates = range(2, min(max_clusters, _different(some)) + 1)
    if len(blocks) < 2 or not candidates:
        return 1, Quality(0.0, 0.0, 0.0, 1.0)  # no two blocks that could depend on each other
    spreads = np.empty((_REFERENCES + 1, len(candidates)))
    for row in range(_REFERENCES + 1):
        spreads[row] = _log_spreads(shuffle_blocks(some, blocks, generator) if row else some, candidates, seed)
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
    """Return the smallest K whose clusters are strong enough and nearly the best separated, and its strength.

    K is 1 if no clusters are strong enough.
    """
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
    """Return the prediction strength of K clusters.

    Take the pairs of points that are in the same cluster of one half: the strength is the share of them that the
    centroids of the other half put into one cluster too, for the worst cluster. The result is the mean over five ways
    to halve the points, in which each half predicts the other.
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
