"""Re-segmentation: a new version is prepared beside the one that serves, and takes over in one step.

From `choose` on, drains label and count new rows for both versions, under a lock of the experiment's row; older rows
are labelled in chunks. So when the last chunk is done, every row has its label and is counted once.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from allocator.estimates import Estimate
from allocator.experiment import SegmentationMode
from allocator.segments import OTHER_NUMBER
from storage.postgres.events.attribution import Counting, credit
from storage.postgres.events.labels import Labeller
from storage.postgres.experiments import experiments
from storage.postgres.pool import Connection

_VERSION = """
    UPDATE experiment_segmentation_config SET newest_version = newest_version + 1
    WHERE experiment_no = $1 RETURNING newest_version
"""
_INSERT = """
    INSERT INTO pending_segmentations (experiment_no, segmentation_version, mode, segment_by, actor, created_at,
        model_version, recommendation_id, expected_lift, expected_error)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_LARGEST = """
    SELECT segment_key_of(context, $2) AS segment_key FROM assignments WHERE experiment_no = $1
    GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $3
"""
_INSERT_SEGMENTS = """
    INSERT INTO experiment_segments (experiment_no, segmentation_version, segment_key, segment_no)
    SELECT $1, $2, * FROM unnest($3::text[], $4::int[])
"""
_CHUNK_END = "SELECT user_key FROM assignments WHERE experiment_no = $1 AND user_key > $2 ORDER BY 1 OFFSET $3 LIMIT 1"
_UNLABELLED = """
    a.experiment_no = $1 AND NOT cells ? $2::text AND a.user_key > $3 AND ($4::bytea IS NULL OR a.user_key <= $4)
"""
_LABELLED = """
    a.experiment_no, cells, variant_no, day, assigned_at, converted_at,
    is_success(assigned_at, converted_at, maturity_seconds) AS success
"""
_LABEL = f"""
    UPDATE assignments a SET cells = cells || jsonb_build_object($2::text, segment_of($1, $2::int, context, $5))
    FROM experiments e WHERE e.experiment_no = $1 AND {_UNLABELLED}
    RETURNING {_LABELLED}
"""  # noqa: S608
_CONTEXTS = f"SELECT user_key, context FROM assignments a WHERE {_UNLABELLED} ORDER BY user_key"  # noqa: S608
_LABEL_AS = f"""
    UPDATE assignments a SET cells = cells || jsonb_build_object($2::text, l.segment_no)
    FROM experiments e, unnest($3::bytea[], $4::int[]) AS l (user_key, segment_no)
    WHERE a.experiment_no = $1 AND e.experiment_no = $1 AND a.user_key = l.user_key
    RETURNING {_LABELLED}
"""  # noqa: S608
_SERVE = """
    UPDATE experiment_segmentation_config c
    SET segmentation_version = p.segmentation_version, mode = p.mode, segment_by = p.segment_by,
        model_version = p.model_version,
        (serves_since, recommendation_id, expected_lift, expected_error) = (
            SELECT c.serves_since, c.recommendation_id, c.expected_lift, c.expected_error
            WHERE (p.mode, p.segment_by) = (c.mode, c.segment_by) -- a model was trained again
            UNION ALL SELECT $2, p.recommendation_id, p.expected_lift, p.expected_error
            WHERE (p.mode, p.segment_by) <> (c.mode, c.segment_by)
        ), evidence_from = CASE
            WHEN p.mode = 'DISABLED' AND c.mode <> 'DISABLED' THEN ($2 AT TIME ZONE time_zone)::date + $3::int
            ELSE evidence_from
        END
    FROM pending_segmentations p JOIN experiments USING (experiment_no)
    WHERE p.experiment_no = $1 AND c.experiment_no = $1
"""
_REST_DAYS = 14  # after segmentation was turned off, during which users are no evidence for segmenting again
_DELETE_COUNTS = "DELETE FROM segment_counts WHERE experiment_no = $1 AND segmentation_version BETWEEN $2 AND $3"
_DELETE_COHORTS = "DELETE FROM cohort_counts WHERE experiment_no = $1 AND segmentation_version BETWEEN $2 AND $3"


@dataclass(frozen=True)
class Origin:
    """The recommendation that a segmentation comes from, and what is expected of the segmentation as a whole."""

    recommendation_id: uuid.UUID
    expected: Estimate | None


@dataclass(frozen=True)
class PendingSegmentation:
    """A segmentation that is being prepared.

    labelled_to: None until its segments are chosen; then the last user key whose row is labelled. model_version: with
    AUTO and without one, the segmentation waits for a model.
    """

    experiment_number: int
    version: int
    mode: SegmentationMode
    segment_by: tuple[str, ...]
    actor: str
    created_at: datetime
    labelled_to: bytes | None
    model_version: int | None
    origin: Origin | None


async def pending(connection: Connection, experiment_number: int) -> PendingSegmentation | None:
    """Return the segmentation that is being prepared for an experiment, None if there is none."""
    row = await connection.fetchrow("SELECT * FROM pending_segmentations WHERE experiment_no = $1", experiment_number)
    if row is None:
        return None
    return PendingSegmentation(
        experiment_number=row["experiment_no"],
        version=row["segmentation_version"],
        mode=SegmentationMode(row["mode"]),
        segment_by=tuple(row["segment_by"]),
        actor=row["actor"],
        created_at=row["created_at"],
        labelled_to=row["labelled_to"],
        model_version=row["model_version"],
        origin=_origin(row),
    )


def _origin(row: asyncpg.Record) -> Origin | None:
    if row["recommendation_id"] is None:
        return None
    lift = row["expected_lift"]
    return Origin(row["recommendation_id"], None if lift is None else Estimate(lift, row["expected_error"]))


async def waiting(connection: Connection) -> list[tuple[int, str]]:
    """Return the numbers and ids of the experiments whose new segmentation can be prepared, the oldest first."""
    rows = await connection.fetch(
        "SELECT experiment_no, experiment_id FROM pending_segmentations p JOIN experiments USING (experiment_no)"
        " WHERE mode::text <> 'AUTO' OR model_version IS NOT NULL ORDER BY p.created_at"
    )
    return [(row["experiment_no"], row["experiment_id"]) for row in rows]


async def prepare(
    connection: Connection,
    experiment_number: int,
    mode: SegmentationMode,
    segment_by: Sequence[str],
    actor: str,
    now: datetime,
    model_version: int | None = None,
    origin: Origin | None = None,
) -> int:
    """Begin a new version, in place of one that was being prepared. Returns the version.

    origin: the recommendation that it comes from. The caller holds the experiment FOR UPDATE.
    """
    expected = None if origin is None else origin.expected
    version: int = await connection.fetchval(_VERSION, experiment_number)
    await abandon(connection, experiment_number)
    await connection.execute(
        _INSERT,
        experiment_number,
        version,
        mode.value,
        list(segment_by),
        actor,
        now,
        model_version,
        None if origin is None else origin.recommendation_id,
        None if expected is None else expected.value,
        None if expected is None else expected.standard_error,
    )
    return version


async def abandon(connection: Connection, experiment_number: int) -> None:
    """Delete the segmentation that is being prepared. The caller holds the experiment FOR UPDATE."""
    version = await connection.fetchval(
        "DELETE FROM pending_segmentations WHERE experiment_no = $1 RETURNING segmentation_version", experiment_number
    )
    if version is not None:
        await connection.execute(_DELETE_COUNTS, experiment_number, version, version)
        await connection.execute(_DELETE_COHORTS, experiment_number, version, version)


async def largest_segments(connection: Connection, target: PendingSegmentation, most: int) -> list[str]:
    """Return the segment keys that most users so far would have."""
    rows = await connection.fetch(_LARGEST, target.experiment_number, list(target.segment_by), most)
    return [row["segment_key"] for row in rows]


async def choose(connection: Connection, target: PendingSegmentation, numbers: Mapping[str, int]) -> None:
    """Give segment keys their numbers, so that labelling can begin. The caller holds the experiment FOR UPDATE."""
    await connection.execute(
        _INSERT_SEGMENTS, target.experiment_number, target.version, list(numbers), list(numbers.values())
    )
    await connection.execute(
        "UPDATE pending_segmentations SET labelled_to = '' WHERE (experiment_no, segmentation_version) = ($1, $2)",
        target.experiment_number,
        target.version,
    )


async def label_chunk(connection: Connection, target: PendingSegmentation, size: int, labeller: Labeller) -> bool:
    """Label and count about `size` rows of the log, in a transaction. Returns whether there may be more.

    Raises ClusterModelUnreadableError.
    """
    async with connection.transaction():
        number = target.experiment_number
        # FOR SHARE would not do: a drain that updates the same users in another order could wait for this transaction
        # while this one waits for the drain.
        next_version = await connection.fetchval(
            "SELECT posterior_version + 1 FROM experiments WHERE experiment_no = $1 FOR UPDATE", number
        )
        current = await pending(connection, number)
        if current is None or current.version != target.version or current.labelled_to is None:
            return False
        end = await connection.fetchval(_CHUNK_END, number, current.labelled_to, size)
        rows = await _label(connection, current, end, labeller)
        counting = {number: Counting((target.version,), next_version)}
        await credit(connection, rows, [row for row in rows if row["success"]], counting)
        if end is not None:
            await connection.execute(
                "UPDATE pending_segmentations SET labelled_to = $2 WHERE experiment_no = $1", number, end
            )
        return end is not None


async def _label(
    connection: Connection, target: PendingSegmentation, end: bytes | None, labeller: Labeller
) -> list[asyncpg.Record]:
    number, version = target.experiment_number, str(target.version)
    if target.model_version is None:
        dimensions = list(target.segment_by)
        return list(await connection.fetch(_LABEL, number, version, target.labelled_to, end, dimensions))
    users = await connection.fetch(_CONTEXTS, number, version, target.labelled_to, end)
    segments = await labeller.segments(connection, number, target.model_version, [user["context"] for user in users])
    return list(await connection.fetch(_LABEL_AS, number, version, [user["user_key"] for user in users], segments))


async def serve(connection: Connection, target: PendingSegmentation, now: datetime) -> None:
    """Let the version take over, and delete the counts of older ones. The caller holds the experiment FOR UPDATE.

    If this turns segmentation off, the users of the next two weeks are no evidence for segmenting again.
    """
    number = target.experiment_number
    await connection.execute(_SERVE, number, now, _REST_DAYS)
    await connection.execute("DELETE FROM pending_segmentations WHERE experiment_no = $1", number)
    await experiments.move_revision(connection, number, now)
    await connection.execute(_DELETE_COUNTS, number, 0, target.version - 1)
    await connection.execute(_DELETE_COHORTS, number, 0, target.version - 1)


async def registries(connection: Connection, experiment_number: int) -> dict[int, dict[str, int]]:
    """Return the segments of every version that has some, serves, or is being prepared.

    Numbers by key, for each version; a number is negative if its segment is retired.
    """
    rows = await connection.fetch(
        """
        SELECT segmentation_version, segment_key, CASE WHEN retired THEN -segment_no ELSE segment_no END AS number
        FROM experiment_segments WHERE experiment_no = $1 AND segment_no > $2
        """,
        experiment_number,
        OTHER_NUMBER,
    )
    counted = await connection.fetch(
        "SELECT segmentation_version FROM counted_segmentations WHERE experiment_no = $1", experiment_number
    )
    found: dict[int, dict[str, int]] = {row["segmentation_version"]: {} for row in counted}
    for row in rows:
        found.setdefault(row["segmentation_version"], {})[row["segment_key"]] = row["number"]
    return found
