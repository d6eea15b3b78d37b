"""Names of clusters, in a marketer's words: what sets the users of one apart from everybody."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.encoder import Encoder
from allocator.clusters.features import Feature, Number, to_number
from allocator.clusters.words import KINDS, LAST, ORDER, Trait, attribute_trait, scale_trait, traits
from allocator.context import DIMENSIONS

EVERYONE = "Everyone"
MAX_CHARACTERS, MAX_WORDS = 40, 4
_MOST_ROWS = 20_000  # that are looked at
_MIN_SHARE = 0.5  # of a cluster's users, for it to be named by a trait
_MIN_EXCESS = 0.1  # over everybody's share
_WEAK = 0.2  # of the first trait's score: not worth a word
_MOST_TRAITS = 5  # that are tried where a name is taken


def name_clusters(
    encoder: Encoder, contexts: Sequence[Mapping[str, str]], rows: NDArray[np.int64], clusters: int
) -> list[str]:
    """A name for each cluster, all different, at most 4 words and 40 characters; `rows` is the cluster of each context.

    Clusters choose in turn: where two are alike, the first has the better name.
    """
    if clusters == 1:
        return [EVERYONE]
    step = math.ceil(len(contexts) / _MOST_ROWS)
    rows, contexts = rows[::step], contexts[::step]
    values = [Counter[tuple[str, str]]() for _ in range(clusters)]
    for row, dimensions in zip(rows.tolist(), contexts, strict=True):
        values[row].update(dimensions.items())
    had = [_traits(encoder, of_cluster) for of_cluster in values]
    everybody = {trait: total / len(rows) for trait, total in sum(had, Counter[Trait]()).items()}
    sizes = np.bincount(rows, minlength=clusters).tolist()
    names: list[str] = []
    for users, of_cluster, traits_of in zip(sizes, values, had, strict=True):
        noun = next((noun for channel, noun in KINDS.items() if 2 * of_cluster["channel", channel] > users), "Users")
        shares = {trait: number / users for trait, number in traits_of.items()}
        names.append(next(name for name in _candidates(_ranked(shares, everybody), noun) if name not in names))
    return names


def _traits(encoder: Encoder, values: Mapping[tuple[str, str], int]) -> Counter[Trait]:
    """How many users have each trait; nothing is said of dimensions that tell nobody apart."""
    features = {feature.name: feature for feature in encoder.features}
    having = Counter[Trait]()
    for (name, value), users in values.items():
        for trait in _said(features[name], value) if name in features else ():
            having[trait] += users
    return having


def _said(feature: Feature, value: str) -> tuple[Trait, ...]:
    if feature.name in DIMENSIONS:
        return traits(feature.name, value)
    number = to_number(value)
    if isinstance(feature, Number) and number is not None and {feature.low, feature.high, number} != {0, 1}:
        return (scale_trait(feature.name, feature.block(value)[0] > feature.neutral[0]),)
    trait = attribute_trait(feature.name, value)
    return (trait,) if trait else ()


def _ranked(shares: Mapping[Trait, float], everybody: Mapping[Trait, float]) -> list[Trait]:
    """The best trait of each facet, the best first: by how surprising the cluster's share is (Kullback-Leibler)."""
    scores = {
        trait: trait.liking * _surprise(share, everybody[trait])
        for trait, share in shares.items()
        if share >= _MIN_SHARE and share - everybody[trait] >= _MIN_EXCESS
    }
    best: dict[str, Trait] = {}
    for trait in sorted(scores, key=lambda trait: (-scores[trait], trait.word)):
        if scores[trait] >= _WEAK * max(scores.values()):
            best.setdefault(trait.facet, trait)
    return list(best.values())


def _surprise(share: float, usual: float) -> float:
    rest = (1 - share) * math.log((1 - share) / (1 - usual)) if share < 1 else 0.0
    return share * math.log(share / usual) + rest


def _candidates(ranked: Sequence[Trait], noun: str) -> Iterator[str]:
    """Names, the best first, without end."""
    last = next((trait.word for trait in ranked if trait.facet == LAST), noun)
    ranked = [trait for trait in ranked if trait.word not in last.split() or trait.facet == LAST]
    for size in (2, 3, 1):
        for chosen in combinations(ranked[:_MOST_TRAITS], min(size, len(ranked))):
            yield _joined(chosen, noun)
    plain = _joined(ranked[:1], noun)
    for number in count(2):
        yield f"{plain} {number}"


def _joined(chosen: Sequence[Trait], noun: str) -> str:
    """A name of traits, the best first; the last go where it would get too long."""
    ordered = sorted(chosen, key=lambda trait: ORDER.index(trait.facet.split()[0]))
    ends = not ordered or ordered[-1].facet != LAST
    words = [trait.word for trait in ordered] + [noun] * ends
    words = [word for word in dict.fromkeys(words) if word == words[-1] or word not in words[-1].split()]
    name = " ".join(words) if ordered else f"Other {noun}"
    fits = len(name) <= MAX_CHARACTERS - 3 and len(name.split()) <= MAX_WORDS
    return name if fits or len(chosen) < 2 else _joined(chosen[:-1], noun)
