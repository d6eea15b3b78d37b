"""Permuted points, which have no clusters: each block of dimensions is shuffled among the users who have it."""

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
    """Columns that are shuffled together, and groups of rows with the same dimensions, within which values move."""

    columns: Indices
    rows: tuple[Indices, ...]


def find_blocks(encoder: Encoder, contexts: Sequence[Mapping[str, str]]) -> tuple[Block, ...]:
    """Return the blocks of `encoder.matrix(contexts)`. A user who lacks a dimension still lacks it after a shuffle."""
    columns: defaultdict[str, list[int]] = defaultdict(list)
    names: defaultdict[str, list[str]] = defaultdict(list)
    start = 0
    for feature in encoder.features:
        columns[block_of(feature.name)].extend(range(start, start + feature.width))
        names[block_of(feature.name)].append(feature.name)
        start += feature.width
    return tuple(Block(np.array(columns[block]), _rows_by_dimensions(names[block], contexts)) for block in columns)


def shuffle_blocks(points: Array, blocks: Sequence[Block], generator: np.random.Generator) -> Array:
    """Return a copy of the points in which the blocks are independent of each other, each distributed as before."""
    result = points.copy()
    for block in blocks:
        for rows in block.rows:
            result[np.ix_(rows, block.columns)] = points[np.ix_(generator.permutation(rows), block.columns)]
    return result


def _rows_by_dimensions(names: Sequence[str], contexts: Sequence[Mapping[str, str]]) -> tuple[Indices, ...]:
    """Return groups of rows whose contexts have the same of these dimensions."""
    groups = defaultdict(list)
    for row, dimensions in enumerate(contexts):
        groups[tuple(name in dimensions for name in names)].append(row)
    return tuple(np.array(rows) for rows in groups.values())
