"""A trained set of clusters: to which one a context belongs, and how much traffic has changed since the training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.encoder import Encoder
from allocator.clusters.plain_data import feature_from_plain, feature_to_plain, finite, items, mapping, whole
from allocator.kernels import nearest_centroid, nearest_centroids

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
_FORMAT = 1
_STORED = np.dtype("<f8")
_ROUNDING = 1e-6  # by which the sum of the shares may differ from 1


@dataclass(frozen=True, slots=True)
class Drift:
    """How much the present users differ from those of the training.

    Attributes:
        far_share: the share of users who are farther from their centroid than 99 % were in training. It is about 0.01
            if nothing has changed.
        share_shift: the total variation between the shares of the clusters now and in training, 0 to 1.
    """

    far_share: float
    share_shift: float


@dataclass(frozen=True, slots=True, eq=False)
class ClusterModel:
    """The centroids of clusters, with their numbers.

    Attributes:
        encoder: turns contexts into points.
        centroids: float64 (clusters, encoder.width), contiguous, in the coordinates of the encoder.
        numbers: the number of each cluster, at least 1. A cluster keeps its number when the model is trained again.
        shares: the share of the training users in each cluster; they sum to 1.
        radius: the 99th percentile of the distances of the training users to their own centroid.
    """

    encoder: Encoder
    centroids: Array
    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    radius: float

    def number(self, dimensions: Mapping[str, str]) -> int:
        """Return the number of the cluster that a context belongs to."""
        row: int = nearest_centroid(self.centroids, self.encoder.vector(dimensions))
        return self.numbers[row]

    def label(self, contexts: Sequence[Mapping[str, str]]) -> Labels:
        """Return the number of the cluster of each context: int64 (contexts,)."""
        rows: Labels = nearest_centroids(self.centroids, self.encoder.matrix(contexts))
        return np.array(self.numbers)[rows]

    def drift(self, contexts: Sequence[Mapping[str, str]]) -> Drift:
        """Compare these contexts, at least one, with those of the training."""
        points = self.encoder.matrix(contexts)
        rows = nearest_centroids(self.centroids, points)
        shares = np.bincount(rows, minlength=len(self.numbers)) / len(points)
        return Drift(
            float((centroid_distances(self.centroids, points, rows) > self.radius).mean()),
            float(np.abs(shares - self.shares).sum() / 2),
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the model as texts, numbers, bytes, lists and dicts."""
        return {
            "format": _FORMAT,
            "features": [feature_to_plain(feature) for feature in self.encoder.features],
            "centroids": self.centroids.astype(_STORED).tobytes(),
            "numbers": list(self.numbers),
            "shares": list(self.shares),
            "radius": self.radius,
        }

    @classmethod
    def from_plain(cls, plain: object) -> "ClusterModel":
        """Return the model that `to_plain` gave. Raise ValueError if it is not a model, or is not complete."""
        given = mapping(plain)
        if given.get("format") != _FORMAT:
            raise ValueError("this is not a cluster model, or it is of another release")
        encoder = Encoder(tuple(feature_from_plain(feature) for feature in items(given.get("features"))))
        numbers = tuple(whole(number) for number in items(given.get("numbers")))
        shares = tuple(finite(share) for share in items(given.get("shares")))
        radius, stored = finite(given.get("radius")), given.get("centroids")
        names = {feature.name for feature in encoder.features}
        if len(names) < len(encoder.features):
            raise ValueError("two features have the same dimension")
        if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
            raise ValueError("the clusters have no numbers, or two have the same")
        if len(shares) != len(numbers) or min(shares) < 0 or abs(sum(shares) - 1) > _ROUNDING or radius < 0:
            raise ValueError("the shares or the radius do not fit the clusters")
        if not isinstance(stored, bytes) or len(stored) != len(numbers) * encoder.width * _STORED.itemsize:
            raise ValueError("the centroids do not fit the clusters")
        centroids = np.frombuffer(stored, _STORED).astype(np.float64).reshape(len(numbers), encoder.width)
        if not np.isfinite(centroids).all():
            raise ValueError("a centroid is not finite")
        return cls(encoder, centroids, numbers, shares, radius)


def centroid_distances(centroids: Array, points: Array, rows: Labels) -> Array:
    """Return the distance of each point to its centroid: float64 (points,).

    rows: int64 (points,), the row of each point's centroid.
    """
    squares: Array = ((points - centroids[rows]) ** 2).sum(1)
    return np.sqrt(squares)
