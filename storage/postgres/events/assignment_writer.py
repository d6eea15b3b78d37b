"""Writes new assignments into the log, and the last day on which users were seen.

The caller is in a transaction, and holds the experiments. Knows nothing of counts.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Group, Reason
from allocator.segments import OTHER_NUMBER
from storage.events import AssignmentEvent, VisitEvent
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import Connection, columns

_INSERT_SEGMENTS = """
    INSERT INTO experiment_segments (experiment_no, segmentation_version, segment_no, segment_key)
    SELECT * FROM unnest($1::int[], $2::int[], $3::int[], $4::text[]) ON CONFLICT DO NOTHING
"""
# COPY is the fastest way in, but knows no ON CONFLICT. A temporary table writes no log, and the commit empties it.
_CREATE_STAGE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_assignments (
        experiment_no integer, user_key bytea, variant_no smallint, segmentation_version integer, segment_no integer,
        reason allocation_reason, allocation_group allocation_group, posterior_version bigint, revision bigint,
        propensity float8, marginal_propensity float8, q_segment float8, q_global float8, context text,
        assigned_at bigint, day date, labels text
    ) ON COMMIT DELETE ROWS
"""
# Only what was inserted is counted: each row of the answer is all new users of a cell, or of a cohort in it.
_INSERT_ASSIGNMENTS = """
    WITH inserted AS (
        INSERT INTO assignments (experiment_no, user_key, variant_no, segmentation_version, segment_no, reason,
            allocation_group, posterior_version, revision, propensity, marginal_propensity, q_segment, q_global,
            context, assigned_at, day, seen_on, counted_version, cells)
        SELECT experiment_no, user_key, variant_no, s.segmentation_version, segment_no, reason, allocation_group,
            s.posterior_version, s.revision, propensity, marginal_propensity, q_segment, q_global, context::jsonb,
            to_timestamp(assigned_at), day, day, e.posterior_version + 1,
            jsonb_build_object(serving.segmentation_version, CASE
                WHEN serving.segmentation_version = s.segmentation_version THEN segment_no
                ELSE segment_of(experiment_no, serving.segmentation_version, context::jsonb, serving.segment_by)
            END) || CASE WHEN next.labelled_to IS NULL THEN '{}' ELSE jsonb_build_object(next.segmentation_version,
                segment_of(experiment_no, next.segmentation_version, context::jsonb, next.segment_by))
            END || labels::jsonb
        FROM staged_assignments s JOIN experiments e USING (experiment_no)
            JOIN experiment_segmentation_config serving USING (experiment_no)
            LEFT JOIN pending_segmentations next USING (experiment_no)
        ORDER BY experiment_no, user_key -- so that drains cannot wait for each other in a ring
        ON CONFLICT DO NOTHING
        RETURNING experiment_no, user_key, cells, variant_no, day, assigned_at
    )
    SELECT experiment_no, cells, variant_no, day, min(assigned_at) AS assigned_at, NULL::timestamptz AS converted_at,
        count(*) AS users, max(assigned_at) AS latest, array_agg(user_key) AS user_keys
    FROM inserted JOIN experiments USING (experiment_no)
    GROUP BY 1, 2, 3, 4, CASE WHEN maturity_seconds > 0 THEN cohort_of(assigned_at, maturity_seconds) END
"""
_SEE = """
    UPDATE assignments a SET seen_on = $1
    FROM unnest($2::int[], $3::bytea[]) AS v (experiment_no, user_key)
    WHERE a.experiment_no = v.experiment_no AND a.user_key = v.user_key AND a.seen_on < $1
    RETURNING a.experiment_no, a.variant_no, a.seen_on, a.context
"""
_EPOCH = date(1970, 1, 1)
_REASONS = {each.value: each.name for each in Reason}
_GROUPS = {each.value: each.name for each in Group}
_encode_json = msgspec.json.Encoder().encode


class _AnsweredSegment(NamedTuple):
    experiment: int
    segmentation_version: int
    segment: int
    segment_key: str


class _StagedAssignment(NamedTuple):
    """A row of the stage, whose columns have these names. A number without a name becomes NULL, which is refused."""

    experiment_no: int
    user_key: bytes
    variant_no: int
    segmentation_version: int
    segment_no: int
    reason: str | None
    allocation_group: str | None
    posterior_version: int
    revision: int
    propensity: float
    marginal_propensity: float
    q_segment: float
    q_global: float
    context: str
    assigned_at: int
    day: date
    labels: str


async def assign(
    connection: Connection,
    events: Sequence[AssignmentEvent],
    time_zones: Mapping[int, ZoneInfo],
    models: Mapping[int, Mapping[int, int]],
    labeller: Labeller,
) -> list[asyncpg.Record]:
    """Store the assignments of users who have none. Returns the new ones as `credit` takes them, with their keys.

    events: one for each user. models: by experiment, the model of each segmentation version that is counted and has
    one.
    """
    if not events:
        return []
    segments = {_AnsweredSegment(e.experiment, e.segmentation_version, e.segment, e.segment_key) for e in events}
    await connection.execute(_INSERT_SEGMENTS, *columns(sorted(segments), *_AnsweredSegment._fields))
    await connection.execute(_CREATE_STAGE)
    labels = await _labels(connection, events, models, labeller)
    with _storable():
        await connection.copy_records_to_table(
            "staged_assignments",
            records=(_staged(e, time_zones[e.experiment], labels.get((e.experiment, e.user_key), {})) for e in events),
            columns=_StagedAssignment._fields,
        )
    return list(await connection.fetch(_INSERT_ASSIGNMENTS))


async def visit(connection: Connection, events: Sequence[VisitEvent]) -> list[asyncpg.Record]:
    """Note the last day of users who have an assignment. Returns those who had not been seen on the day."""
    visits: dict[date, list[VisitEvent]] = defaultdict(list)
    with _storable():
        for event in sorted(events, key=lambda e: (e.experiment, e.user_key)):
            visits[_EPOCH + timedelta(event.day)].append(event)
    return [
        row
        for day in sorted(visits)
        for row in await connection.fetch(_SEE, day, *columns(visits[day], "experiment", "user_key"))
    ]


async def _labels(
    connection: Connection,
    events: Sequence[AssignmentEvent],
    models: Mapping[int, Mapping[int, int]],
    labeller: Labeller,
) -> dict[tuple[int, bytes], dict[str, int]]:
    """Return segments by segmentation version, of users who were answered under another version.

    Where a model cannot be read, the segment is "other".
    """
    labels: dict[tuple[int, bytes], dict[str, int]] = defaultdict(dict)
    for number, versions in models.items():
        for version, model in versions.items():
            users = [e for e in events if e.experiment == number and e.segmentation_version != version]
            if not users:
                continue
            try:
                segments = await labeller.segments(connection, number, model, [e.context for e in users])
            except ClusterModelUnreadableError:
                segments = [OTHER_NUMBER] * len(users)
            for event, segment in zip(users, segments, strict=True):
                labels[number, event.user_key][str(version)] = segment
    return labels


@contextmanager
def _storable() -> Iterator[None]:
    """Raise DataError, as PostgreSQL does, where a value of an event is too large for Python."""
    try:
        yield
    except (OverflowError, ValueError) as error:
        raise asyncpg.DataError(str(error)) from error


def _staged(event: AssignmentEvent, time_zone: ZoneInfo, labels: Mapping[str, int]) -> _StagedAssignment:
    return _StagedAssignment(
        experiment_no=event.experiment,
        user_key=event.user_key,
        variant_no=event.variant,
        segmentation_version=event.segmentation_version,
        segment_no=event.segment,
        reason=_REASONS.get(event.reason),
        allocation_group=_GROUPS.get(event.group),
        posterior_version=event.posterior_version,
        revision=event.revision,
        propensity=event.propensity,
        marginal_propensity=event.marginal,
        q_segment=event.q_segment,
        q_global=event.q_global,
        context=_encode_json(event.context).decode(),
        assigned_at=event.assigned_at,
        day=_day(event.assigned_at, time_zone),
        labels=_encode_json(labels).decode(),
    )


def _day(seconds: int, time_zone: ZoneInfo) -> date:
    try:
        return datetime.fromtimestamp(seconds, time_zone).date()
    except OSError as error:  # of the C library; elsewhere it would be the connection's
        raise OverflowError(f"there is no time {seconds}") from error
