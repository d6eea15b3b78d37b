"""A trained set of clusters: which one a context belongs to, and how far traffic has moved since."""

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
_ROUNDING = 1e-6  # of shares, which sum to 1


@dataclass(frozen=True, slots=True)
class Drift:
    """How unlike training the present users are.

    Attributes:
        far_share: of the users, those further from their centroid than 99 % were in training (.01 if nothing moved).
        share_shift: total variation between the clusters' shares now and in training, 0 to 1.
    """

    far_share: float
    share_shift: float


@dataclass(frozen=True, slots=True, eq=False)
class ClusterModel:
    """Centroids and whose they are.

    Attributes:
        centroids: float64 (clusters, encoder.width), contiguous, in the encoder's coordinates.
        numbers: of each cluster, at least 1; the same cluster keeps its number over retraining.
        shares: of the users in training, by cluster; they sum to 1.
        radius: 99th percentile of the users' distances to their own centroid in training.
    """

    encoder: Encoder
    centroids: Array
    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    radius: float

    def number(self, dimensions: Mapping[str, str]) -> int:
        """The number of the cluster that a context belongs to."""
        row: int = nearest_centroid(self.centroids, self.encoder.vector(dimensions))
        return self.numbers[row]

    def label(self, contexts: Sequence[Mapping[str, str]]) -> Labels:
        """`number` of each context, int64 (contexts,)."""
        rows: Labels = nearest_centroids(self.centroids, self.encoder.matrix(contexts))
        return np.array(self.numbers)[rows]

    def drift(self, contexts: Sequence[Mapping[str, str]]) -> Drift:
        """Of at least one context, against training."""
        points = self.encoder.matrix(contexts)
        rows = nearest_centroids(self.centroids, points)
        shares = np.bincount(rows, minlength=len(self.numbers)) / len(points)
        return Drift(
            float((distances(self.centroids, points, rows) > self.radius).mean()),
            float(np.abs(shares - self.shares).sum() / 2),
        )

    def to_plain(self) -> dict[str, Any]:
        """As texts, numbers, bytes, lists and dicts."""
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
        """The inverse of `to_plain`. Raises ValueError if this is no model, or not a whole one."""
        given = mapping(plain)
        if given.get("format") != _FORMAT:
            raise ValueError("these are no clusters, or of another release")
        encoder = Encoder(tuple(feature_from_plain(feature) for feature in items(given.get("features"))))
        numbers = tuple(whole(number) for number in items(given.get("numbers")))
        shares = tuple(finite(share) for share in items(given.get("shares")))
        radius, stored = finite(given.get("radius")), given.get("centroids")
        names = {feature.name for feature in encoder.features}
        if len(names) < len(encoder.features):
            raise ValueError("a dimension has two features")
        if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
            raise ValueError("the clusters are not numbered")
        if len(shares) != len(numbers) or min(shares) < 0 or abs(sum(shares) - 1) > _ROUNDING or radius < 0:
            raise ValueError("the shares are not those of the clusters")
        if not isinstance(stored, bytes) or len(stored) != len(numbers) * encoder.width * _STORED.itemsize:
            raise ValueError("the centroids are not those of the clusters")
        centroids = np.frombuffer(stored, _STORED).astype(np.float64).reshape(len(numbers), encoder.width)
        if not np.isfinite(centroids).all():
            raise ValueError("a centroid is not finite")
        return cls(encoder, centroids, numbers, shares, radius)


def distances(centroids: Array, points: Array, rows: Labels) -> Array:
    """Of each point to its centroid, float64 (points,)."""
    squares: Array = ((points - centroids[rows]) ** 2).sum(1)
    return np.sqrt(squares)
