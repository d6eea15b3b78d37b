"""The queries behind the checks that raise alerts: each reads many running experiments at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from allocator.posterior.effective_trials import DELAY_STEPS
from storage.postgres.pool import Connection

_USUAL_DAYS = 7  # before today, over which the usual number of bots is the mean
# As storage.postgres.counts has them for one experiment: mature users only.
_WEAK_SEGMENTS = """
    WITH divided AS (
        SELECT experiment_no, segmentation_version, maturity_seconds
        FROM experiments JOIN experiment_segmentation_config c USING (experiment_no)
        WHERE experiment_no = ANY($3::int[]) AND (cardinality(c.segment_by) > 0 OR c.model_version IS NOT NULL)
    ), young AS (
        SELECT experiment_no, segment_no, sum(trials) AS trials, sum(successes) AS successes
        FROM cohort_counts JOIN divided USING (experiment_no, segmentation_version)
        WHERE cohort >= cohort_of($1, maturity_seconds) - $2 GROUP BY 1, 2
    ), counted AS (
        SELECT experiment_no, segment_no, sum(trials) AS trials, sum(successes) AS successes
        FROM segment_counts JOIN divided USING (experiment_no, segmentation_version) GROUP BY 1, 2
    ), mature AS (
        SELECT experiment_no, segment_no, (c.trials - coalesce(y.trials, 0))::bigint AS trials,
            (c.successes - coalesce(y.successes, 0))::bigint AS successes
        FROM counted c LEFT JOIN young y USING (experiment_no, segment_no)
    ), compared AS (
        SELECT *, sum(trials) OVER everyone AS all_trials, sum(successes) OVER everyone AS all_successes,
            count(*) OVER everyone AS segments
        FROM mature WHERE trials > 0 WINDOW everyone AS (PARTITION BY experiment_no)
    )
    SELECT experiment_no AS experiment_number, segment_key, trials, successes, all_trials::bigint,
        all_successes::bigint, segments
    FROM compared JOIN divided USING (experiment_no)
        JOIN experiment_segments USING (experiment_no, segmentation_version, segment_no)
    WHERE 2 * successes * all_trials < trials * all_successes
    ORDER BY experiment_no, segment_no
"""
_OLD_MODELS = """
    SELECT experiment_no AS experiment_number, model_version AS version, trained_at
    FROM experiments JOIN experiment_segmentation_config USING (experiment_no)
        JOIN clustering_models USING (experiment_no, model_version)
    WHERE experiment_no = ANY($2::int[]) AND NOT EXISTS (SELECT FROM clustering_models newest
        WHERE newest.experiment_no = experiments.experiment_no AND newest.trained_at >= $1)
"""
# The mean is over those days before today on which the experiment ran.
_BOTS = """
    SELECT experiment_no AS experiment_number, bot_requests AS requests, visitors, coalesce((
        SELECT sum(bot_requests) FROM experiment_traffic_stats before
        WHERE before.experiment_no = t.experiment_no AND before.day >= t.day - $3::int AND before.day < t.day
    ) / greatest(1, least($3, t.day - (started_at AT TIME ZONE time_zone)::date)), 0)::float8 AS usual
    FROM experiments JOIN experiment_traffic_stats t USING (experiment_no)
    WHERE experiment_no = ANY($4::int[]) AND day = ($1 AT TIME ZONE time_zone)::date AND bot_requests >= $2
"""
_SILENCES = """
    WITH quiet AS (
        SELECT experiment_no, segmentation_version, last_conversion_at, started_at,
            (last_conversion_at AT TIME ZONE time_zone)::date AS last_day
        FROM experiments JOIN experiment_activity USING (experiment_no)
            JOIN experiment_segmentation_config USING (experiment_no)
        WHERE experiment_no = ANY($3::int[]) AND last_assignment_at > last_conversion_at
    )
    SELECT experiment_no AS experiment_number, last_conversion_at AS since, last_day,
        least($1, last_conversion_at - started_at) AS span,
        coalesce(sum(trials) FILTER (WHERE day <= last_day), 0)::bigint AS trials,
        coalesce(sum(successes) FILTER (WHERE day <= last_day), 0)::bigint AS successes,
        coalesce(sum(trials) FILTER (WHERE day = last_day), 0)::bigint AS trials_of_last_day,
        coalesce(sum(trials) FILTER (WHERE day > last_day), 0)::bigint AS trials_after
    FROM quiet JOIN segment_counts USING (experiment_no, segmentation_version)
    WHERE day > last_day - $2::int GROUP BY 1, 2, 3, 4
"""
_DUE_SAMPLE_RATIO = """
    INSERT INTO sample_ratio_checks AS c (experiment_no, checked_at)
    SELECT experiment_no, $1 FROM experiments LEFT JOIN sample_ratio_checks USING (experiment_no)
    WHERE state = 'RUNNING' AND (checked_at IS NULL OR checked_at <= $2)
    ORDER BY checked_at NULLS FIRST, experiment_no LIMIT $3
    ON CONFLICT (experiment_no) DO UPDATE SET checked_at = excluded.checked_at
    RETURNING experiment_no
"""


@dataclass(frozen=True)
class WeakSegment:
    """A segment that converts under half as well as everyone in the experiment. `segments` is how many there are."""

    experiment_number: int
    segment_key: str
    trials: int
    successes: int
    all_trials: int
    all_successes: int
    segments: int


@dataclass(frozen=True)
class OldModel:
    """A cluster model that serves, and no newer one was trained lately."""

    experiment_number: int
    version: int
    trained_at: datetime


@dataclass(frozen=True)
class Bots:
    """Today's requests of bots and visitors; `usual` is the mean number of requests of bots a day before."""

    experiment_number: int
    requests: int
    visitors: int
    usual: float


@dataclass(frozen=True)
class Silence:
    """An experiment to which users have come since the last conversion.

    trials, successes: of the days up to that conversion, which are `span` long. trials_of_last_day are among them, some
    after the conversion; trials_after are of later days.
    """

    experiment_number: int
    since: datetime
    last_day: date
    span: timedelta
    trials: int
    successes: int
    trials_of_last_day: int
    trials_after: int


async def running(connection: Connection) -> set[int]:
    """Return the numbers of all running experiments."""
    rows = await connection.fetch("SELECT experiment_no FROM experiments WHERE state = 'RUNNING'")
    return {row["experiment_no"] for row in rows}


async def unfinished(connection: Connection) -> set[int]:
    """Return the numbers of all experiments that are not completed."""
    rows = await connection.fetch("SELECT experiment_no FROM experiments WHERE state <> 'COMPLETED'")
    return {row["experiment_no"] for row in rows}


async def weak_segments(connection: Connection, numbers: Sequence[int], now: datetime) -> list[WeakSegment]:
    """Return the segments of these experiments whose rate is under half of the experiment's, by chance or not."""
    return [WeakSegment(**row) for row in await connection.fetch(_WEAK_SEGMENTS, now, DELAY_STEPS, numbers)]


async def old_models(connection: Connection, numbers: Sequence[int], before: datetime) -> list[OldModel]:
    """Return the cluster models that serve in those of these experiments where no model was trained since."""
    return [OldModel(**row) for row in await connection.fetch(_OLD_MODELS, before, numbers)]


async def bots(connection: Connection, numbers: Sequence[int], least: int, now: datetime) -> list[Bots]:
    """Return those of these experiments to which bots have sent at least so many requests today."""
    return [Bots(**row) for row in await connection.fetch(_BOTS, now, least, _USUAL_DAYS, numbers)]


async def silences(connection: Connection, numbers: Sequence[int], most: timedelta) -> list[Silence]:
    """Return those of these experiments to which users have come since the last conversion.

    Trials and successes are of so many whole days up to that conversion, or of as long as the experiment had run.
    """
    return [Silence(**row) for row in await connection.fetch(_SILENCES, most, most.days, numbers)]


async def users_on_day_after(connection: Connection, silence: Silence) -> int:
    """Return how many users came after the last conversion, on the same day."""
    users: int = await connection.fetchval(
        """
        SELECT count(*) FROM assignments WHERE experiment_no = $1 AND day = $3
            AND assigned_at > $2 AND assigned_at < $2 + interval '1 day'
        """,
        silence.experiment_number,
        silence.since,
        silence.last_day,
    )
    return users


async def take_sample_ratio_checks(
    connection: Connection, *, checked_before: datetime, limit: int, now: datetime
) -> set[int]:
    """Return the experiments whose log was checked longest ago, and before then. They are noted as checked now."""
    rows = await connection.fetch(_DUE_SAMPLE_RATIO, now, checked_before, limit)
    return {row["experiment_no"] for row in rows}
