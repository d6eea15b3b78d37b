"""Points as they would be without structure: every block of dimensions shuffled among the users who have it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allocator.clusters.encoder import Encoder
from allocator.clusters.training.blocks import block_of

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Columns of dimensions that move together, and the rows among which they do: those that have the same of them."""

    columns: Indices
    rows: tuple[Indices, ...]


def blocks(encoder: Encoder, contexts: Sequence[Mapping[str, str]]) -> tuple[Block, ...]:
    """The blocks of `encoder.matrix(contexts)`. What is missing stays missing, where it is."""
    columns: defaultdict[str, list[int]] = defaultdict(list)
    names: defaultdict[str, list[str]] = defaultdict(list)
    start = 0
    for feature in encoder.features:
        columns[block_of(feature.name)].extend(range(start, start + feature.width))
        names[block_of(feature.name)].append(feature.name)
        start += feature.width
    return tuple(Block(np.array(columns[block]), _alike(names[block], contexts)) for block in columns)


def shuffled(points: Array, parts: Sequence[Block], generator: np.random.Generator) -> Array:
    """A copy in which blocks are independent of each other, and distributed as before."""
    result = points.copy()
    for part in parts:
        for rows in part.rows:
            result[np.ix_(rows, part.columns)] = points[np.ix_(generator.permutation(rows), part.columns)]
    return result


def _alike(names: Sequence[str], contexts: Sequence[Mapping[str, str]]) -> tuple[Indices, ...]:
    alike = defaultdict(list)
    for row, dimensions in enumerate(contexts):
        alike[tuple(name in dimensions for name in names)].append(row)
    return tuple(np.array(rows) for rows in alike.values())
