"""Credits rows of the log to the cells that they are in, under every segmentation that counts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from storage.postgres.counts import cohorts, counts
from storage.postgres.pool import Connection, columns

_Credited = tuple[int, int, int, int, date, datetime, datetime | None, int]
_Cell = tuple[int, int, int, int, date]  # experiment, segmentation version, segment, variant, day


@dataclass(frozen=True)
class Counting:
    """What an experiment's rows count for: segmentation versions, and the posterior version that first knows it.

    Cohorts are skipped where there are none because all users are mature at once.
    """

    versions: tuple[int, ...]
    pending_version: int
    has_cohorts: bool = True


async def credit(
    connection: Connection,
    trials: Iterable[asyncpg.Record],
    successes: Iterable[asyncpg.Record],
    counting: Mapping[int, Counting],
) -> set[int]:
    """Count new trials and new successes; answers the experiments whose counts changed.

    Rows have experiment_no, cells, variant_no, day, assigned_at and converted_at, and `users` if a row stands for
    several. The caller holds their experiments.
    """
    assigned: list[_Credited] = [(*row[:6], None, row[7]) for row in _expand(trials, counting)]
    converted = _expand(successes, counting)
    by_cell = _by_cell(assigned), _by_cell(converted)
    cells = by_cell[0] | by_cell[1]
    await counts.add(
        connection, [(*cell, by_cell[0][cell], by_cell[1][cell], counting[cell[0]].pending_version) for cell in cells]
    )
    if any(counting[cell[0]].has_cohorts for cell in cells):
        await cohorts.add(connection, columns(assigned, 8), columns(converted, 8))
    return {cell[0] for cell in cells}


def _expand(rows: Iterable[asyncpg.Record], counting: Mapping[int, Counting]) -> list[_Credited]:
    return [
        (
            number,
            version,
            row["cells"][str(version)],
            row["variant_no"],
            row["day"],
            row["assigned_at"],
            row["converted_at"],
            row.get("users", 1),
        )
        for row in rows
        for number in (row["experiment_no"],)
        for version in counting[number].versions
        if str(version) in row["cells"]
    ]


def _by_cell(rows: Iterable[_Credited]) -> Counter[_Cell]:
    users: Counter[_Cell] = Counter()
    for row in rows:
        users[row[:5]] += row[7]
    return users
