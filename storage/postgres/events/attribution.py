"""Counts rows of the log in their cells, under every segmentation for which users are counted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import asyncpg

from storage.postgres.counts import cohorts, counts
from storage.postgres.counts.cohorts import CohortUsers
from storage.postgres.counts.counts import Cell, CellChange
from storage.postgres.pool import Connection


@dataclass(frozen=True)
class Counting:
    """How an experiment's rows are counted: for which segmentation versions.

    next_version: the posterior version that will be the first to know them. has_cohorts: False where all users are
    mature at once, so that none are counted by age.
    """

    versions: tuple[int, ...]
    next_version: int
    has_cohorts: bool = True


async def credit(
    connection: Connection,
    trials: Iterable[asyncpg.Record],
    successes: Iterable[asyncpg.Record],
    counting: Mapping[int, Counting],
) -> set[int]:
    """Count new trials and new successes. Returns the numbers of the experiments whose counts changed.

    Rows have experiment_no, cells, variant_no, day, assigned_at and converted_at, and `users` if a row stands for
    several. The caller holds their experiments.
    """
    assigned = _expand(trials, counting, are_successes=False)
    converted = _expand(successes, counting, are_successes=True)
    new_trials, new_successes = _sum_by_cell(assigned), _sum_by_cell(converted)
    cells = new_trials.keys() | new_successes.keys()
    await counts.add(
        connection,
        [
            CellChange(cell, new_trials[cell], new_successes[cell], counting[cell.experiment].next_version)
            for cell in cells
        ],
    )
    if any(counting[cell.experiment].has_cohorts for cell in cells):
        await cohorts.add(connection, assigned, converted)
    return {cell.experiment for cell in cells}


def _expand(
    rows: Iterable[asyncpg.Record], counting: Mapping[int, Counting], *, are_successes: bool
) -> list[CohortUsers]:
    return [
        CohortUsers(
            Cell(number, version, row["cells"][str(version)], row["variant_no"], row["day"]),
            row["assigned_at"],
            row["converted_at"] if are_successes else None,
            row.get("users", 1),
        )
        for row in rows
        for number in (row["experiment_no"],)
        for version in counting[number].versions
        if str(version) in row["cells"]
    ]


def _sum_by_cell(rows: Iterable[CohortUsers]) -> Counter[Cell]:
    users: Counter[Cell] = Counter()
    for row in rows:
        users[row.cell] += row.users
    return users
