"""The weights of features, so that several dimensions of a block which say the same count about once."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.features import Feature
from allocator.clusters.training.blocks import block_of

Array = NDArray[np.float64]
_DIGITS = 6  # further digits of sums depend on the machine


def feature_weights(features: Sequence[Feature], points: Array) -> list[float]:
    """Return the weight of each feature: 1 over the root of the sum of its likenesses to the features of its block.

    The likeness is the RV coefficient (Escoufier, 1973): 1 to itself and to a copy, 0 to an independent feature. So n
    copies together count as one feature, and n independent features keep their full weights.

    Args:
        points: float64 (users, columns of all features), of features of weight 1.
    """
    centred = points - points.mean(0)
    products = centred.T @ centred
    ends = np.cumsum([feature.width for feature in features])
    columns = [slice(end - feature.width, end) for feature, end in zip(features, ends, strict=True)]
    blocks = [block_of(feature.name) for feature in features]
    own = [_square(products[one, one]) for one in columns]
    result = []
    for one, block in enumerate(blocks):
        others = [n for n in range(len(blocks)) if n != one and blocks[n] == block and own[n] * own[one] > 0]
        likeness = (_square(products[columns[one], columns[n]]) / math.sqrt(own[one] * own[n]) for n in others)
        result.append(round((1 + sum(likeness)) ** -0.5, _DIGITS))
    return result


def _square(values: Array) -> float:
    return float((values**2).sum())
