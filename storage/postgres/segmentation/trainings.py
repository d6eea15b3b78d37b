"""Trainings of cluster models: requested, under way, ended. At most one is under way for an experiment."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import asyncpg

from storage.postgres.pool import Connection, snapshot

_JOB = "job_id, state, stage, progress, actor, requested_at, started_at, finished_at, error, model_version"
_INSERT = f"""
    INSERT INTO clustering_jobs (job_id, experiment_no, actor, requested_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (experiment_no) WHERE finished_at IS NULL DO NOTHING RETURNING {_JOB}
"""  # noqa: S608
_UNDER_WAY = f"SELECT {_JOB} FROM clustering_jobs WHERE experiment_no = $1 AND finished_at IS NULL"  # noqa: S608
_LATEST = f"""
    SELECT {_JOB} FROM clustering_jobs WHERE experiment_no = $1 ORDER BY requested_at DESC, job_id LIMIT 1
"""  # noqa: S608
_BEGIN = """
    UPDATE clustering_jobs j SET state = 'RUNNING', started_at = $2, stage = 'reading', progress = 0
    FROM experiments e WHERE job_id = $1 AND finished_at IS NULL AND e.experiment_no = j.experiment_no
    RETURNING e.experiment_id
"""
# The order of users by their keys is random but always the same, since the keys are keyed hashes. An index has it.
_CONTEXTS = "SELECT context::text AS context FROM assignments WHERE experiment_no = $1 ORDER BY user_key LIMIT $2"
_KEY_BYTES = 16
_LAST_KEY = 2 ** (8 * _KEY_BYTES) - 1
_COUNT = """
    SELECT coalesce(sum(trials), 0)::bigint FROM segment_counts JOIN experiment_segmentation_config
        USING (experiment_no, segmentation_version) JOIN experiments USING (experiment_no)
    WHERE experiment_no = $1 AND ($2::timestamptz IS NULL OR day >= ($2 AT TIME ZONE time_zone)::date)
"""
# A model is due if there is none, if the newest is old, or if users have doubled since; but not soon after a failure.
_DUE = """
    WITH automatic AS (
        SELECT experiment_no, (
            SELECT max(model_version) FROM clustering_models m
            WHERE m.experiment_no = c.experiment_no AND problem = ''
        ) AS model_version, (
            SELECT coalesce(sum(trials), 0) FROM segment_counts s
            WHERE s.experiment_no = c.experiment_no AND s.segmentation_version = c.segmentation_version
        ) AS assignments
        FROM experiment_segmentation_config c JOIN experiments e USING (experiment_no)
            LEFT JOIN pending_segmentations p USING (experiment_no)
        WHERE e.state = 'RUNNING' AND coalesce(p.mode, c.mode)::text = 'AUTO'
    )
    SELECT experiment_no FROM automatic a LEFT JOIN clustering_models m USING (experiment_no, model_version)
    WHERE a.assignments >= $1
        AND (m.trained_at IS NULL OR m.trained_at < $2 OR a.assignments >= 2 * m.assignments)
        AND NOT EXISTS (SELECT FROM clustering_jobs j WHERE j.experiment_no = a.experiment_no
            AND (j.finished_at IS NULL OR j.state = 'FAILED' AND j.finished_at > $3))
"""
_OLD = timedelta(days=7)
_PAUSE_AFTER_FAILURE = timedelta(hours=1)


class JobState(Enum):
    """Whether a training waits, is under way, or how it ended."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Job:
    """One training. `progress` is the share that is done, from 0 to 1; `error` says why it failed."""

    job_id: uuid.UUID
    state: JobState
    stage: str
    progress: float
    actor: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str
    model_version: int | None


async def request(connection: Connection, experiment_number: int, actor: str, now: datetime) -> tuple[Job, bool]:
    """Return a new job, or the one that is under way, and whether it is new."""
    row = await connection.fetchrow(_INSERT, uuid.uuid4(), experiment_number, actor, now)
    if row is not None:
        return _job(row), True
    row = await connection.fetchrow(_UNDER_WAY, experiment_number)
    if row is None:  # it ended meanwhile
        return await request(connection, experiment_number, actor, now)
    return _job(row), False


async def latest(connection: Connection, experiment_number: int) -> Job | None:
    """Return the job that was requested last, None if there is none."""
    row = await connection.fetchrow(_LATEST, experiment_number)
    return None if row is None else _job(row)


async def waiting(connection: Connection, experiment_id: str) -> uuid.UUID | None:
    """Return the job of an experiment that no worker has begun, None if there is none."""
    job_id: uuid.UUID | None = await connection.fetchval(
        "SELECT job_id FROM clustering_jobs JOIN experiments USING (experiment_no)"
        " WHERE experiment_id = $1 AND clustering_jobs.state = 'QUEUED'",
        experiment_id,
    )
    return job_id


async def under_way(connection: Connection) -> list[uuid.UUID]:
    """Return all jobs that have not ended, the oldest first."""
    rows = await connection.fetch("SELECT job_id FROM clustering_jobs WHERE finished_at IS NULL ORDER BY requested_at")
    return [row["job_id"] for row in rows]


async def will_serve(connection: Connection, job_id: uuid.UUID) -> bool | None:
    """Return whether the model of a job is to serve; None if the job has ended.

    The caller holds the experiment FOR UPDATE.
    """
    to_serve: bool | None = await connection.fetchval(
        "SELECT to_serve FROM clustering_jobs WHERE job_id = $1 AND finished_at IS NULL", job_id
    )
    return to_serve


async def let_stay(connection: Connection, experiment_number: int) -> None:
    """Keep the model that is being trained from serving by itself. The caller holds the experiment FOR UPDATE."""
    await connection.execute(
        "UPDATE clustering_jobs SET to_serve = false WHERE experiment_no = $1 AND finished_at IS NULL",
        experiment_number,
    )


async def begin(connection: Connection, job_id: uuid.UUID, now: datetime) -> str | None:
    """Start a job, or start again one that a worker left. Returns the experiment's id, or None if the job has ended."""
    experiment_id: str | None = await connection.fetchval(_BEGIN, job_id, now)
    return experiment_id


async def advance(connection: Connection, job_id: uuid.UUID, stage: str, progress: float) -> None:
    """Store the stage and the progress of a job."""
    await connection.execute(
        "UPDATE clustering_jobs SET stage = $2, progress = $3 WHERE job_id = $1 AND finished_at IS NULL",
        job_id,
        stage,
        progress,
    )


async def succeed(connection: Connection, job_id: uuid.UUID, model_version: int, now: datetime) -> None:
    """Mark a job as succeeded."""
    await connection.execute(
        "UPDATE clustering_jobs SET state = 'SUCCEEDED', progress = 1, stage = '', finished_at = $3, model_version = $2"
        " WHERE job_id = $1",
        job_id,
        model_version,
        now,
    )


async def fail(connection: Connection, job_id: uuid.UUID, error: str, now: datetime) -> None:
    """Mark a job as failed, unless another worker has ended it meanwhile."""
    await connection.execute(
        "UPDATE clustering_jobs SET state = 'FAILED', finished_at = $3, error = $2"
        " WHERE job_id = $1 AND finished_at IS NULL",
        job_id,
        error,
        now,
    )


async def due(connection: Connection, least: int, now: datetime) -> list[int]:
    """Return the numbers of the experiments in mode AUTO that need a model, or a new one.

    least: so many users must have been assigned.
    """
    return [row["experiment_no"] for row in await connection.fetch(_DUE, least, now - _OLD, now - _PAUSE_AFTER_FAILURE)]


async def count_assignments(connection: Connection, experiment_number: int, since: datetime | None = None) -> int:
    """Return how many users were assigned, all or from the beginning of the day of `since` on."""
    count: int = await connection.fetchval(_COUNT, experiment_number, since)
    return count


async def contexts(connection: Connection, experiment_number: int, most: int, chunk: int) -> AsyncIterator[list[str]]:
    """Yield an even sample of at most `most` contexts as JSON, in chunks: the same in the same order each time."""
    async with snapshot(connection):
        cursor = await connection.cursor(_CONTEXTS, experiment_number, most)
        while rows := await cursor.fetch(chunk):
            yield [row["context"] for row in rows]


async def recent_contexts(
    connection: Connection, experiment_number: int, since: datetime, most: int
) -> list[dict[str, str]]:
    """Return an even sample of the contexts of users who were assigned since then: all, or about `most` of them."""
    users = await count_assignments(connection, experiment_number, since)
    share = min(1, most / users) if users else 1
    rows = await connection.fetch(
        "SELECT context FROM assignments WHERE experiment_no = $1 AND assigned_at >= $2 AND user_key <= $3",
        experiment_number,
        since,
        int(share * _LAST_KEY).to_bytes(_KEY_BYTES),
    )
    return [row["context"] for row in rows]


def _job(row: asyncpg.Record) -> Job:
    return Job(
        job_id=row["job_id"],
        state=JobState(row["state"]),
        stage=row["stage"],
        progress=row["progress"],
        actor=row["actor"],
        requested_at=row["requested_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=row["error"],
        model_version=row["model_version"],
    )
