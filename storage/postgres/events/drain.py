"""Events into rows and counts: at-least-once delivery, exactly-once effect.

Rows that are there already are not inserted again, and only inserted rows are counted, in the same transaction. Each
counted row keeps the posterior version that first knows it: the next one, since publishing takes the experiment's row
FOR UPDATE and counting takes it FOR SHARE.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import asyncpg

from allocator.time_zones import time_zone_or_utc
from storage.events import AssignmentEvent, ConversionEvent, Event, VisitEvent
from storage.postgres.counts import dimension_tally, traffic
from storage.postgres.events.assignment_writer import assign, visit
from storage.postgres.events.attribution import Counting, credit
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import Connection, columns

# Reading comes after locking, in a statement of its own: one statement would see what was there before it waited.
_LOCK_EXPERIMENTS = "SELECT FROM experiments WHERE experiment_no = ANY($1::int[]) ORDER BY experiment_no FOR SHARE"
_READ_EXPERIMENTS = """
    SELECT experiment_no, posterior_version + 1 AS next_version, time_zone, primary_metric,
        maturity_seconds > 0 AS has_cohorts,
        ARRAY(SELECT segmentation_version FROM counted_segmentations c WHERE c.experiment_no = e.experiment_no)
            AS versions,
        (SELECT jsonb_object_agg(segmentation_version, model_version) FROM (
            SELECT experiment_no, segmentation_version, model_version FROM experiment_segmentation_config
            UNION ALL SELECT experiment_no, segmentation_version, model_version FROM pending_segmentations
            WHERE labelled_to IS NOT NULL
        ) m WHERE m.experiment_no = e.experiment_no AND model_version IS NOT NULL) AS models
    FROM experiments e WHERE experiment_no = ANY($1::int[])
"""
_INSERT_CONVERSIONS = """
    INSERT INTO conversions (experiment_no, user_key, metric, event_id, value, currency, occurred_at)
    SELECT experiment_no, user_key, metric, event_id, value, currency, to_timestamp(occurred_at)
    FROM unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::bigint[])
        AS c (experiment_no, user_key, metric, event_id, value, currency, occurred_at)
    ON CONFLICT DO NOTHING
    RETURNING experiment_no, user_key, metric, occurred_at
"""
# Clocks differ: a conversion that is dated before its assignment was right after it.
_CREDIT = """
    UPDATE assignments a SET converted_at = greatest(c.occurred_at, assigned_at), converted_version = c.next_version
    FROM unnest($1::int[], $2::bytea[], $3::timestamptz[], $4::bigint[])
            AS c (experiment_no, user_key, occurred_at, next_version)
        JOIN experiments e USING (experiment_no)
    WHERE a.experiment_no = c.experiment_no AND a.user_key = c.user_key
        AND (a.converted_at IS NULL OR NOT is_success(a.assigned_at, a.converted_at, e.maturity_seconds)
            AND is_success(a.assigned_at, c.occurred_at, e.maturity_seconds))
    RETURNING a.experiment_no, a.cells, a.variant_no, a.day, a.assigned_at, a.converted_at, a.context,
        is_success(a.assigned_at, a.converted_at, e.maturity_seconds) AS success
"""


class _FirstConversion(NamedTuple):
    experiment: int
    user_key: bytes
    occurred_at: datetime
    next_version: int


async def write(connection: Connection, events: Sequence[Event], labeller: Labeller) -> set[int]:
    """Store and count events in one transaction. Returns the numbers of the experiments whose counts changed.

    Raises:
        asyncpg.DataError, asyncpg.IntegrityConstraintViolationError: one of the events cannot be stored; none is.
    """
    async with connection.transaction():
        numbers = sorted({event.experiment for event in events})
        await connection.execute(_LOCK_EXPERIMENTS, numbers)
        experiments = {row["experiment_no"]: row for row in await connection.fetch(_READ_EXPERIMENTS, numbers)}
        unknown = next((event.experiment for event in events if event.experiment not in experiments), None)
        if unknown is not None:
            raise asyncpg.ForeignKeyViolationError(f"there is no experiment number {unknown}")
        zones = {number: time_zone_or_utc(row["time_zone"]) for number, row in experiments.items()}
        models = {
            number: {int(version): model for version, model in row["models"].items()}
            for number, row in experiments.items()
            if row["models"]
        }
        users = {(e.experiment, e.user_key): e for e in reversed(events) if isinstance(e, AssignmentEvent)}
        trials = await assign(connection, list(users.values()), zones, models, labeller)
        successes = await _convert(connection, [e for e in events if isinstance(e, ConversionEvent)], experiments)
        visits = await visit(connection, [e for e in events if isinstance(e, VisitEvent)])
        await _note_traffic(connection, trials, successes, visits, users)
        counting = {
            number: Counting(tuple(row["versions"]), row["next_version"], row["has_cohorts"])
            for number, row in experiments.items()
        }
        return await credit(connection, trials, successes, counting)


async def _note_traffic(
    connection: Connection,
    trials: Sequence[asyncpg.Record],
    successes: Sequence[asyncpg.Record],
    visits: Sequence[asyncpg.Record],
    users: Mapping[tuple[int, bytes], AssignmentEvent],
) -> None:
    """Count users by day and by their contexts, and note when they came."""
    tally = dimension_tally.Tally()
    visitors: Counter[tuple[int, date]] = Counter()
    for row in trials:
        number, day = row["experiment_no"], row["day"]
        visitors[number, day] += row["users"]
        contexts = (users[number, key].context for key in row["user_keys"])
        tally.assigned(dimension_tally.Assigned(number, day, row["variant_no"]), contexts)
    for row in visits:
        number, day = row["experiment_no"], row["seen_on"]
        visitors[number, day] += 1
        tally.came_back(dimension_tally.Assigned(number, day, row["variant_no"]), [row["context"]])
    for row in successes:
        users_of_day = dimension_tally.Assigned(row["experiment_no"], row["day"], row["variant_no"])
        tally.converted(users_of_day, [row["context"]])
    await traffic.add_visitors(connection, visitors)
    await dimension_tally.add(connection, tally)
    await traffic.note_activity(
        connection,
        [(row["experiment_no"], row["latest"]) for row in trials],
        [(row["experiment_no"], row["converted_at"]) for row in successes],
    )


async def _convert(
    connection: Connection, events: Sequence[ConversionEvent], experiments: dict[int, asyncpg.Record]
) -> list[asyncpg.Record]:
    """Store conversions, and return the assignments that became successes."""
    if not events:
        return []
    ordered = sorted(events, key=lambda event: (event.experiment, event.user_key, event.metric, event.event_id))
    names = "experiment", "user_key", "metric", "event_id", "value", "currency", "occurred_at"
    first: dict[tuple[int, bytes], datetime] = {}
    for row in await connection.fetch(_INSERT_CONVERSIONS, *columns(ordered, *names)):
        if row["metric"] == experiments[row["experiment_no"]]["primary_metric"]:
            user = row["experiment_no"], row["user_key"]
            first[user] = min(row["occurred_at"], first.get(user, row["occurred_at"]))
    credited = [
        _FirstConversion(number, user_key, occurred_at, experiments[number]["next_version"])
        for (number, user_key), occurred_at in sorted(first.items())
    ]
    rows = await connection.fetch(_CREDIT, *columns(credited, *_FirstConversion._fields))
    return [row for row in rows if row["success"]]
