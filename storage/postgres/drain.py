"""Events into rows and counts: at-least-once delivery, exactly-once effect.

Rows that are there already are not inserted again, and only inserted rows are counted, in the same transaction. Each
counted row keeps the posterior version that first knows it: the next one, since publishing takes the experiment's row
FOR UPDATE and counting takes it FOR SHARE.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import asyncpg

from allocator.experiment import Group, Reason
from storage.events import AssignmentEvent, ConversionEvent, Event
from storage.postgres.credit import Counting, credit
from storage.postgres.pool import Connection, columns

# Reading comes after locking, in a statement of its own: one statement would see what was there before it waited.
_LOCK_EXPERIMENTS = "SELECT FROM experiments WHERE experiment_no = ANY($1::int[]) ORDER BY experiment_no FOR SHARE"
_READ_EXPERIMENTS = """
    SELECT experiment_no, posterior_version + 1 AS pending_version, time_zone, primary_metric,
        ARRAY(SELECT segmentation_version FROM counted_segmentations c WHERE c.experiment_no = e.experiment_no)
            AS versions
    FROM experiments e WHERE experiment_no = ANY($1::int[])
"""
_INSERT_SEGMENTS = """
    INSERT INTO experiment_segments (experiment_no, segmentation_version, segment_no, segment_key)
    SELECT * FROM unnest($1::int[], $2::int[], $3::int[], $4::text[]) ON CONFLICT DO NOTHING
"""
_INSERT_ASSIGNMENTS = """
    INSERT INTO assignments (experiment_no, user_key, variant_no, segmentation_version, segment_no, reason,
        allocation_group, posterior_version, revision, propensity, marginal_propensity, q_segment, q_global, context,
        assigned_at, day, counted_version, cells)
    SELECT a.*, jsonb_build_object(serving.segmentation_version, CASE
            WHEN serving.segmentation_version = a.segmentation_version THEN a.segment_no
            ELSE segment_of(a.experiment_no, serving.segmentation_version, a.context, serving.segment_by)
        END) || CASE WHEN next.segmentation_version IS NULL THEN '{}' ELSE jsonb_build_object(next.segmentation_version,
            segment_of(a.experiment_no, next.segmentation_version, a.context, next.segment_by))
        END
    FROM unnest($1::int[], $2::bytea[], $3::smallint[], $4::int[], $5::int[], $6::allocation_reason[],
            $7::allocation_group[], $8::bigint[], $9::bigint[], $10::float8[], $11::float8[], $12::float8[],
            $13::float8[], $14::jsonb[], $15::timestamptz[], $16::date[], $17::bigint[])
        AS a (experiment_no, user_key, variant_no, segmentation_version, segment_no, reason, allocation_group,
            posterior_version, revision, propensity, marginal_propensity, q_segment, q_global, context, assigned_at,
            day, counted_version)
        JOIN experiment_segmentation_config serving USING (experiment_no)
        LEFT JOIN pending_segmentations next ON next.experiment_no = a.experiment_no AND next.labelled_to IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING experiment_no, cells, variant_no, day, assigned_at, converted_at
"""
_INSERT_CONVERSIONS = """
    INSERT INTO conversions (experiment_no, user_key, metric, event_id, value, currency, occurred_at)
    SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::timestamptz[])
    ON CONFLICT DO NOTHING
    RETURNING experiment_no, user_key, metric, occurred_at
"""
_CREDIT = """
    UPDATE assignments a SET converted_at = c.occurred_at, converted_version = c.pending_version
    FROM unnest($1::int[], $2::bytea[], $3::timestamptz[], $4::bigint[])
            AS c (experiment_no, user_key, occurred_at, pending_version)
        JOIN experiments e USING (experiment_no)
    WHERE a.experiment_no = c.experiment_no AND a.user_key = c.user_key
        AND (a.converted_at IS NULL OR NOT is_success(a.assigned_at, a.converted_at, e.maturity_seconds)
            AND is_success(a.assigned_at, c.occurred_at, e.maturity_seconds))
    RETURNING a.experiment_no, a.cells, a.variant_no, a.day, a.assigned_at, a.converted_at,
        is_success(a.assigned_at, a.converted_at, e.maturity_seconds) AS success
"""


async def write(connection: Connection, events: Sequence[Event]) -> set[int]:
    """Store and count events in one transaction; answers the experiments whose counts changed.

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
        trials = await _assign(connection, [e for e in events if isinstance(e, AssignmentEvent)], experiments)
        successes = await _convert(connection, [e for e in events if isinstance(e, ConversionEvent)], experiments)
        counting = {
            number: Counting(tuple(row["versions"]), row["pending_version"]) for number, row in experiments.items()
        }
        return await credit(connection, trials, successes, counting)


async def _assign(
    connection: Connection, events: Sequence[AssignmentEvent], experiments: dict[int, asyncpg.Record]
) -> list[asyncpg.Record]:
    """What was inserted."""
    if not events:
        return []
    segments = sorted({(e.experiment, e.segmentation_version, e.segment, e.segment_key) for e in events})
    await connection.execute(_INSERT_SEGMENTS, *columns(segments, 4))
    rows = []
    for event in sorted(events, key=lambda e: (e.experiment, e.user_key)):
        experiment = experiments[event.experiment]
        assigned_at = datetime.fromtimestamp(event.assigned_at, UTC)
        rows.append(
            (
                event.experiment,
                event.user_key,
                event.variant,
                event.segmentation_version,
                event.segment,
                Reason(event.reason).name,
                Group(event.group).name,
                event.posterior_version,
                event.revision,
                event.propensity,
                event.marginal,
                event.q_segment,
                event.q_global,
                event.context,
                assigned_at,
                assigned_at.astimezone(ZoneInfo(experiment["time_zone"])).date(),
                experiment["pending_version"],
            )
        )
    return list(await connection.fetch(_INSERT_ASSIGNMENTS, *columns(rows, 17)))


async def _convert(
    connection: Connection, events: Sequence[ConversionEvent], experiments: dict[int, asyncpg.Record]
) -> list[asyncpg.Record]:
    """The assignments that became successes."""
    if not events:
        return []
    rows = [
        (
            e.experiment,
            e.user_key,
            e.metric,
            e.event_id,
            e.value,
            e.currency,
            datetime.fromtimestamp(e.occurred_at, UTC),
        )
        for e in sorted(events, key=lambda e: (e.experiment, e.user_key, e.metric, e.event_id))
    ]
    first: dict[tuple[int, bytes], datetime] = {}
    for row in await connection.fetch(_INSERT_CONVERSIONS, *columns(rows, 7)):
        if row["metric"] == experiments[row["experiment_no"]]["primary_metric"]:
            user = row["experiment_no"], row["user_key"]
            first[user] = min(row["occurred_at"], first.get(user, row["occurred_at"]))
    credited = [(*user, occurred_at, _pending(experiments, user)) for user, occurred_at in sorted(first.items())]
    return [row for row in await connection.fetch(_CREDIT, *columns(credited, 4)) if row["success"]]


def _pending(experiments: dict[int, asyncpg.Record], cell: Sequence[object]) -> int:
    version: int = experiments[cell[0]]["pending_version"]  # type: ignore[index]
    return version
