"""Names of clusters, from the traits that distinguish the users of a cluster from all users."""

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
_MOST_ROWS = 20_000  # contexts that are counted
_MIN_SHARE = 0.5  # a trait names a cluster if at least this share of its users have it
_MIN_EXCESS = 0.1  # by which that share must exceed the share of all users
_WEAK = 0.2  # a trait with less than this part of the best score is left out
_MOST_TRAITS = 5  # that are combined if a name is taken


def name_clusters(
    encoder: Encoder, contexts: Sequence[Mapping[str, str]], rows: NDArray[np.int64], clusters: int
) -> list[str]:
    """Return a name for each cluster. All are different, with at most 4 words and 40 characters.

    The clusters get their names in turn. If two are similar, the first gets the better name.

    Args:
        rows: int64 (contexts,), the cluster of each context.
        clusters: how many there are.
    """
    if clusters == 1:
        return [EVERYONE]
    step = math.ceil(len(contexts) / _MOST_ROWS)
    rows, contexts = rows[::step], contexts[::step]
    values = [Counter[tuple[str, str]]() for _ in range(clusters)]
    for row, dimensions in zip(rows.tolist(), contexts, strict=True):
        values[row].update(dimensions.items())
    traits_of = [_traits(encoder, of_cluster) for of_cluster in values]
    everybody = {trait: total / len(rows) for trait, total in sum(traits_of, Counter[Trait]()).items()}
    sizes = np.bincount(rows, minlength=clusters).tolist()
    names: list[str] = []
    for users, of_cluster, counted in zip(sizes, values, traits_of, strict=True):
        noun = next((noun for channel, noun in KINDS.items() if 2 * of_cluster["channel", channel] > users), "Users")
        shares = {trait: number / users for trait, number in counted.items()}
        names.append(next(name for name in _candidates(_ranked(shares, everybody), noun) if name not in names))
    return names


def _traits(encoder: Encoder, values: Mapping[tuple[str, str], int]) -> Counter[Trait]:
    """Count the users with each trait, for the dimensions that have a feature."""
    features = {feature.name: feature for feature in encoder.features}
    having = Counter[Trait]()
    for (name, value), users in values.items():
        for trait in _traits_of_value(features[name], value) if name in features else ():
            having[trait] += users
    return having


def _traits_of_value(feature: Feature, value: str) -> tuple[Trait, ...]:
    if feature.name in DIMENSIONS:
        return traits(feature.name, value)
    number = to_number(value)
    if isinstance(feature, Number) and number is not None and {feature.low, feature.high, number} != {0, 1}:
        return (scale_trait(feature.name, feature.block(value)[0] > feature.neutral[0]),)
    trait = attribute_trait(feature.name, value)
    return (trait,) if trait else ()


def _ranked(shares: Mapping[Trait, float], everybody: Mapping[Trait, float]) -> list[Trait]:
    """Return the best trait of each facet, the best first.

    The score is how surprising the share of the cluster is (Kullback-Leibler), times the weight of the trait.
    """
    scores = {
        trait: trait.weight * _surprise(share, everybody[trait])
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
    """Yield names, the best first, without end."""
    last = next((trait.word for trait in ranked if trait.facet == LAST), noun)
    ranked = [trait for trait in ranked if trait.word not in last.split() or trait.facet == LAST]
    for size in (2, 3, 1):
        for chosen in combinations(ranked[:_MOST_TRAITS], min(size, len(ranked))):
            yield _name_of(chosen, noun)
    plain = _name_of(ranked[:1], noun)
    for number in count(2):
        yield f"{plain} {number}"


def _name_of(chosen: Sequence[Trait], noun: str) -> str:
    """Make a name of traits, which come the best first. Leave the last ones out if the name would be too long."""
    ordered = sorted(chosen, key=lambda trait: ORDER.index(trait.facet.split()[0]))
    ends = not ordered or ordered[-1].facet != LAST
    words = [trait.word for trait in ordered] + [noun] * ends
    words = [word for word in dict.fromkeys(words) if word == words[-1] or word not in words[-1].split()]
    name = " ".join(words) if ordered else f"Other {noun}"
    fits = len(name) <= MAX_CHARACTERS - 3 and len(name.split()) <= MAX_WORDS
    return name if fits or len(chosen) < 2 else _name_of(chosen[:-1], noun)
