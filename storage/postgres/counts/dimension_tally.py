"""Adds batches of events to the counts by dimension.

Callers choose the names and values of dimensions, so a batch may have any number of both. This bounds what is stored:
values are ranked here, since PostgreSQL has no statistics of a batch and would compare each value with each other one.
PostgreSQL gets only the rows that are kept.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from itertools import chain
from typing import NamedTuple

from allocator.segments import OTHER
from storage.postgres.pool import Connection, columns

MOST_VALUES = 100  # of a dimension, on a day and in all that is read; the rest share 'other'
MOST_DIMENSIONS = 64  # of an experiment; no more are counted
_EVERYONE = ""

# PostgreSQL keeps a plan for a while. One that was made while the table was small would read all of it for each name.
_BY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
_AS_USUAL = "SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on"
# Both walk along the index from one name to the next, so they read as many entries as there are names, not rows.
_KNOWN_DIMENSIONS = """
    SELECT asked.experiment_no, known.dimension FROM unnest($1::int[]) AS asked (experiment_no), LATERAL (
        WITH RECURSIVE walk AS (
            (SELECT dimension FROM dimension_counts d WHERE d.experiment_no = asked.experiment_no
             ORDER BY dimension LIMIT 1)
            UNION ALL
            SELECT (SELECT d.dimension FROM dimension_counts d
                    WHERE d.experiment_no = asked.experiment_no AND d.dimension > walk.dimension
                    ORDER BY d.dimension LIMIT 1)
            FROM walk WHERE walk.dimension IS NOT NULL
        )
        SELECT dimension FROM walk WHERE dimension IS NOT NULL
    ) known
"""
_KNOWN_VALUES = """
    SELECT asked.experiment_no, asked.dimension, asked.day, known.value
    FROM unnest($1::int[], $2::text[], $3::date[]) AS asked (experiment_no, dimension, day), LATERAL (
        WITH RECURSIVE walk AS (
            (SELECT value FROM dimension_counts d
             WHERE (d.experiment_no, d.dimension, d.day) = (asked.experiment_no, asked.dimension, asked.day)
             ORDER BY value LIMIT 1)
            UNION ALL
            SELECT (SELECT d.value FROM dimension_counts d
                    WHERE (d.experiment_no, d.dimension, d.day) = (asked.experiment_no, asked.dimension, asked.day)
                        AND d.value > walk.value
                    ORDER BY d.value LIMIT 1)
            FROM walk WHERE walk.value IS NOT NULL
        )
        SELECT value FROM walk WHERE value IS NOT NULL
    ) known
"""
# A success of a day that is not kept any more counts for nothing: it has no row.
_ADD = """
    INSERT INTO dimension_counts AS c
    SELECT * FROM unnest($1::int[], $2::text[], $3::date[], $4::text[], $5::smallint[], $6::bigint[], $7::bigint[],
            $8::bigint[])
        AS a (experiment_no, dimension, day, value, variant_no, visitors, trials, successes)
    WHERE visitors > 0 OR EXISTS (SELECT FROM dimension_counts d
        WHERE (d.experiment_no, d.dimension, d.day, d.value, d.variant_no)
            = (a.experiment_no, a.dimension, a.day, a.value, a.variant_no))
    ORDER BY 1, 2, 3, 4, 5 -- so that drains cannot wait for each other in a ring
    ON CONFLICT (experiment_no, dimension, day, value, variant_no) DO UPDATE SET
        visitors = c.visitors + excluded.visitors, trials = c.trials + excluded.trials,
        successes = c.successes + excluded.successes
"""

_Seen = Counter[tuple[str, str]]  # users by dimension and value


class Assigned(NamedTuple):
    """What users have in common who were assigned to a variant on a day."""

    experiment: int
    day: date
    variant: int


class _DimensionDay(NamedTuple):
    experiment: int
    dimension: str
    day: date


class _Cell(NamedTuple):
    of: _DimensionDay
    value: str
    variant: int


class _Change(NamedTuple):
    """What is added to the count of a cell."""

    cell: _Cell
    visitors: int
    trials: int
    successes: int


class Tally:
    """Sums up what a batch of events adds."""

    def __init__(self) -> None:
        self._new: dict[Assigned, _Seen] = {}
        self._back: dict[Assigned, _Seen] = {}
        self._won: dict[Assigned, _Seen] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is added."""
        return not (self._new or self._back or self._won)

    def assigned(self, users: Assigned, contexts: Iterable[Mapping[str, str]]) -> None:
        """Add new users, by their contexts."""
        _see(self._new, users, contexts)

    def came_back(self, users: Assigned, contexts: Iterable[Mapping[str, str]]) -> None:
        """Add users who were assigned before; the day of `users` is the one on which they came back."""
        _see(self._back, users, contexts)

    def converted(self, users: Assigned, contexts: Iterable[Mapping[str, str]]) -> None:
        """Add users who have become successes."""
        _see(self._won, users, contexts)

    def changes(self) -> list[_Change]:
        """Return what is added to each count."""
        changes: list[_Change] = []
        for users in self._new.keys() | self._back.keys() | self._won.keys():
            new, back, won = (part.get(users, Counter()) for part in (self._new, self._back, self._won))
            for seen in new.keys() | back.keys() | won.keys():
                dimension, value = seen
                cell = _Cell(_DimensionDay(users.experiment, dimension, users.day), value, users.variant)
                changes.append(_Change(cell, new[seen] + back[seen], new[seen], won[seen]))
        return changes


def _see(part: dict[Assigned, _Seen], users: Assigned, contexts: Iterable[Mapping[str, str]]) -> None:
    kept = list(contexts)
    seen = part.setdefault(users, Counter())
    seen.update(chain.from_iterable(context.items() for context in kept))
    seen[_EVERYONE, _EVERYONE] += len(kept)


async def add(connection: Connection, tally: Tally) -> None:
    """Add a batch, in the transaction that stores it."""
    if tally.is_empty:
        return
    await connection.execute(_BY_INDEX)
    changes = await _of_counted_dimensions(connection, tally.changes())
    rows = await _by_kept_value(connection, changes)
    if rows:
        names = "cell.of.experiment", "cell.of.dimension", "cell.of.day", "cell.value", "cell.variant"
        await connection.execute(_ADD, *columns(rows, *names, "visitors", "trials", "successes"))
    await connection.execute(_AS_USUAL)


async def _of_counted_dimensions(connection: Connection, changes: list[_Change]) -> list[_Change]:
    """Return the changes of the dimensions that are counted: those with rows, and the most frequent new ones."""
    visitors: dict[int, Counter[str]] = defaultdict(Counter)
    for change in changes:
        visitors[change.cell.of.experiment][change.cell.of.dimension] += change.visitors
    known: dict[int, set[str]] = defaultdict(set)
    for row in await connection.fetch(_KNOWN_DIMENSIONS, sorted(visitors)):
        known[row["experiment_no"]].add(row["dimension"])
    counted = {number: _keep(seen, known[number], MOST_DIMENSIONS) for number, seen in visitors.items()}
    return [change for change in changes if change.cell.of.dimension in counted[change.cell.of.experiment]]


async def _by_kept_value(connection: Connection, changes: list[_Change]) -> list[_Change]:
    """Return the changes with values that have a row of their own; those of all other values are summed in "other"."""
    visitors: dict[_DimensionDay, Counter[str]] = defaultdict(Counter)
    for change in changes:
        visitors[change.cell.of][change.cell.value] += change.visitors
    known: dict[_DimensionDay, set[str]] = defaultdict(set)
    asked = columns(sorted(visitors), "experiment", "dimension", "day")
    for row in await connection.fetch(_KNOWN_VALUES, *asked):
        known[_DimensionDay(row["experiment_no"], row["dimension"], row["day"])].add(row["value"])
    kept = {of: _keep(seen, known[of], MOST_VALUES) for of, seen in visitors.items()}
    summed: dict[_Cell, _Change] = {}
    for change in changes:
        cell = change.cell if change.cell.value in kept[change.cell.of] else change.cell._replace(value=OTHER)
        before = summed.get(cell, _Change(cell, 0, 0, 0))
        summed[cell] = _Change(
            cell,
            before.visitors + change.visitors,
            before.trials + change.trials,
            before.successes + change.successes,
        )
    return list(summed.values())


def _keep(visitors: Counter[str], known: Collection[str], most: int) -> set[str]:
    """Return the names that are counted: the known ones, and the most frequent new ones while there is room."""
    new = sorted((-users, name) for name, users in visitors.items() if users and name not in known)
    return {*known, *(name for _, name in new[: max(0, most - len(known))])}
