"""Encoding of contexts as points, by one lookup for each dimension. One context and many give the same points."""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.features import MISSING, Feature
from allocator.clusters.training.feature_kinds import MIN_SHARE, Usage, choose_feature, with_weight
from allocator.clusters.training.weights import feature_weights

Dimensions = Mapping[str, str]
Array = NDArray[np.float64]
_MOST_WEIGHED = 20_000  # contexts that the weights are computed from


class _Table(dict[str | None, bytes]):
    """The coordinates of each value, as bytes. Those of a value that nobody had in training are computed when asked."""

    def __init__(self, feature: Feature, channel: str | None) -> None:
        super().__init__({value: _packed(feature.block(value)) for value in feature.values})
        absent = feature.neutral if channel in feature.without else feature.block(MISSING)
        self[None] = self[MISSING] = _packed(absent)
        self._block = feature.block

    def __missing__(self, value: str) -> bytes:
        return _packed(self._block(value))


@dataclass(frozen=True, slots=True)
class Encoder:
    """The features, whose coordinates stand side by side in this order.

    Without features every context is the same point, which has no coordinates.
    """

    features: tuple[Feature, ...]
    _tables: Mapping[str, list[tuple[str, _Table]]] = field(init=False, repr=False, compare=False)
    _elsewhere: list[tuple[str, _Table]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the tables of each channel."""
        channels = {channel for feature in self.features for channel in feature.without}
        object.__setattr__(self, "_tables", {channel: self._of_channel(channel) for channel in channels})
        object.__setattr__(self, "_elsewhere", self._of_channel(None))

    @property
    def width(self) -> int:
        """Return how many coordinates a point has."""
        return sum(feature.width for feature in self.features)

    def vector(self, dimensions: Dimensions) -> Array:
        """Return the point of a context: float64 (width,)."""
        return np.frombuffer(bytearray().join(self._blocks(dimensions)))

    def matrix(self, contexts: Sequence[Dimensions]) -> Array:
        """Return the point of each context: float64 (contexts, width)."""
        rows = bytearray().join([block for dimensions in contexts for block in self._blocks(dimensions)])
        return np.frombuffer(rows).reshape(len(contexts), self.width)

    def _blocks(self, dimensions: Dimensions) -> list[bytes]:
        known = dimensions.get
        return [table[known(name)] for name, table in self._tables.get(known("channel", ""), self._elsewhere)]

    def _of_channel(self, channel: str | None) -> list[tuple[str, _Table]]:
        return [(feature.name, _Table(feature, channel)) for feature in self.features]


def fit_encoder(contexts: Sequence[Dimensions]) -> Encoder:
    """Make the encoder of the dimensions that tell these contexts apart, in the order of their names."""
    features = [feature for usage in _usages(contexts) if (feature := choose_feature(usage))]
    if not features:
        return Encoder(())
    some = contexts[:: math.ceil(len(contexts) / _MOST_WEIGHED)]
    weights = feature_weights(features, Encoder(tuple(features)).matrix(some))
    return Encoder(tuple(with_weight(feature, weight) for feature, weight in zip(features, weights, strict=True)))


def _usages(contexts: Sequence[Dimensions]) -> list[Usage]:
    users: Counter[str] = Counter()
    counts: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for dimensions in contexts:
        channel = dimensions.get("channel", "")
        users[channel] += 1
        for name, value in dimensions.items():
            counts[name][channel][value] += 1
    return [_usage(name, counts[name], users) for name in sorted(counts)]


def _usage(name: str, counts: Mapping[str, Counter[str]], users: Counter[str]) -> Usage:
    with_it = [channel for channel in counts if counts[channel].total() >= MIN_SHARE * users[channel]]
    values = sum((counts[channel] for channel in with_it), Counter[str]())
    values[MISSING] += sum(users[channel] for channel in with_it) - values.total()
    return Usage(name, tuple(sorted(users.keys() - with_it)), +values)


def _packed(block: Sequence[float]) -> bytes:
    return array("d", block).tobytes()
