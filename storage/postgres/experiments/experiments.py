"""Experiments: created, read, listed and changed. Every change raises `revision` by one."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import asyncpg

from allocator.errors import ExperimentExistsError, ExperimentNotFoundError
from allocator.experiment import (
    Experiment,
    ExperimentDraft,
    ExperimentState,
    OutagePolicy,
    SegmentationConfig,
    SegmentationMode,
    Variant,
)
from storage.postgres.experiments import decision_rules
from storage.postgres.pool import Connection

_COLUMNS = """
    SELECT e.*, c.segmentation_version, c.mode, c.segment_by, c.min_samples_per_segment,
        c.max_segments, c.max_clusters, c.model_version, c.auto_activation, c.auto_activation_threshold,
        c.auto_clustering_enabled,
        (SELECT jsonb_object_agg('cluster:' || n.cluster_no, n.name) FROM clusters n
         WHERE n.experiment_no = e.experiment_no) AS cluster_names,
        (SELECT jsonb_agg(jsonb_build_object('number', v.variant_no, 'variant_id', v.variant_id, 'name', v.name,
                                             'content', v.content, 'retired', v.retired_at IS NOT NULL,
                                             'added_later', coalesce(v.added_at > e.started_at, false))
                          ORDER BY v.position)
         FROM element_variants v WHERE v.experiment_no = e.experiment_no) AS variants
    FROM experiments e JOIN experiment_segmentation_config c USING (experiment_no)
"""
_GET = _COLUMNS + " WHERE e.experiment_id = $1"
_LOCK = "SELECT FROM experiments WHERE experiment_id = $1 FOR UPDATE"
_LIST = _COLUMNS + (
    " WHERE ($1::experiment_state IS NULL OR e.state = $1) AND ($2::int IS NULL OR e.experiment_no < $2)"
    " ORDER BY e.experiment_no DESC LIMIT $3"
)
_INSERT_VARIANT = """
    INSERT INTO element_variants AS v (experiment_no, variant_no, variant_id, name, content, position, added_at,
        retired_at)
    VALUES ($1, $2, $3, $4, $5, $6, $8, CASE WHEN $7 THEN $8::timestamptz END)
    ON CONFLICT (experiment_no, variant_no) DO UPDATE SET variant_id = excluded.variant_id, name = excluded.name,
        content = excluded.content, position = excluded.position,
        retired_at = CASE WHEN $7 THEN coalesce(v.retired_at, $8) END
"""


@dataclass(frozen=True)
class Progress:
    """The newest revision and posterior version of an experiment; -1 if nothing was learned yet."""

    experiment_id: str
    revision: int
    posterior_version: int


async def insert(connection: Connection, draft: ExperimentDraft, now: datetime) -> Experiment:
    """Store a draft, and return the experiment. Call it in a transaction. Raises ExperimentExistsError."""
    control = next(v.number for v in draft.variants if v.variant_id == draft.control_variant_id)
    try:
        number: int = await connection.fetchval(
            """
            INSERT INTO experiments (experiment_id, name, description, owner, control_variant_no, primary_metric,
                holdout_share, baseline_share, time_zone, maturity_seconds, auto_maturity, on_outage, salt,
                created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14) RETURNING experiment_no
            """,
            draft.experiment_id,
            draft.name,
            draft.description,
            draft.owner,
            control,
            draft.primary_metric,
            draft.holdout_share,
            draft.baseline_share,
            draft.time_zone,
            draft.maturity_seconds,
            draft.auto_maturity,
            draft.on_outage.value,
            secrets.token_bytes(16),
            now,
        )
    except asyncpg.UniqueViolationError as error:
        raise ExperimentExistsError(draft.experiment_id) from error
    await connection.execute(
        """
        INSERT INTO experiment_segmentation_config (experiment_no, mode, segment_by, min_samples_per_segment,
            max_segments, max_clusters, auto_activation, auto_activation_threshold, auto_clustering_enabled)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        number,
        draft.segmentation.mode.value,
        draft.segmentation.segment_by,
        draft.segmentation.min_samples_per_segment,
        draft.segmentation.max_segments,
        draft.segmentation.max_clusters,
        draft.segmentation.auto_activation,
        draft.segmentation.auto_activation_threshold,
        draft.segmentation.auto_clustering_enabled,
    )
    await _write_variants(connection, number, draft.variants, now)
    await decision_rules.keep(connection, number)
    return cast("Experiment", await get(connection, draft.experiment_id))


async def knows_time_zone(connection: Connection, name: str) -> bool:
    """Return whether PostgreSQL knows a time zone: its statements find the days of an experiment by it.

    If it does not, the caller's transaction cannot go on.
    """
    try:
        await connection.fetchval("SELECT now() AT TIME ZONE $1", name)
    except asyncpg.InvalidParameterValueError:
        return False
    return True


async def get(connection: Connection, experiment_id: str, *, lock: bool = False) -> Experiment | None:
    """Return an experiment, None if there is none. `lock` keeps others from changing it until the transaction ends."""
    if lock:  # in a statement of its own: a statement that waits for the lock reads what was there before it waited
        await connection.execute(_LOCK, experiment_id)
    row = await connection.fetchrow(_GET, experiment_id)
    return None if row is None else _experiment(row)


async def require(connection: Connection, experiment_id: str, *, lock: bool = False) -> Experiment:
    """Return an experiment as `get` does. Raises ExperimentNotFoundError."""
    experiment = await get(connection, experiment_id, lock=lock)
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    return experiment


async def list_page(
    connection: Connection, *, state: ExperimentState | None, before: int | None, limit: int
) -> list[Experiment]:
    """Return the newest experiments with a number below `before`."""
    rows = await connection.fetch(_LIST, None if state is None else state.value, before, limit)
    return [_experiment(row) for row in rows]


async def update(connection: Connection, experiment: Experiment, now: datetime) -> Experiment:
    """Store every field that may change but the maturity, and raise the revision. The caller holds the lock."""
    winner = experiment.variant(experiment.winner_variant_id)
    await connection.execute(
        """
        UPDATE experiments SET name = $2, description = $3, owner = $4, state = $5, control_variant_no = $6,
            winner_variant_no = $7, primary_metric = $8, holdout_share = $9, baseline_share = $10, time_zone = $11,
            started_at = $12, completed_at = $13, updated_at = $14, auto_maturity = $15, on_outage = $16,
            revision = revision + 1
        WHERE experiment_no = $1
        """,
        experiment.number,
        experiment.name,
        experiment.description,
        experiment.owner,
        experiment.state.value,
        experiment.control.number,
        None if winner is None else winner.number,
        experiment.primary_metric,
        experiment.holdout_share,
        experiment.baseline_share,
        experiment.time_zone,
        experiment.started_at,
        experiment.completed_at,
        now,
        experiment.auto_maturity,
        experiment.on_outage.value,
    )
    await connection.execute(
        """
        UPDATE experiment_segmentation_config SET mode = $2, segment_by = $3, min_samples_per_segment = $4,
            max_segments = $5, max_clusters = $6, model_version = $7, auto_activation = $8,
            auto_activation_threshold = $9, auto_clustering_enabled = $10
        WHERE experiment_no = $1
        """,
        experiment.number,
        experiment.segmentation.mode.value,
        experiment.segmentation.segment_by,
        experiment.segmentation.min_samples_per_segment,
        experiment.segmentation.max_segments,
        experiment.segmentation.max_clusters,
        experiment.segmentation.model_version,
        experiment.segmentation.auto_activation,
        experiment.segmentation.auto_activation_threshold,
        experiment.segmentation.auto_clustering_enabled,
    )
    if experiment.state is ExperimentState.DRAFT:
        await connection.execute("DELETE FROM element_variants WHERE experiment_no = $1", experiment.number)
    await _write_variants(connection, experiment.number, experiment.variants, now)
    await decision_rules.keep(connection, experiment.number)
    return cast("Experiment", await get(connection, experiment.experiment_id))


async def touch(connection: Connection, experiment: Experiment, now: datetime) -> Experiment:
    """Raise the revision, after a change that `update` does not store. The caller holds the lock."""
    await move_revision(connection, experiment.number, now)
    return cast("Experiment", await get(connection, experiment.experiment_id))


async def move_revision(connection: Connection, experiment_number: int, now: datetime) -> None:
    """Do the same as `touch`, without reading the experiment."""
    await connection.execute(
        "UPDATE experiments SET revision = revision + 1, updated_at = $2 WHERE experiment_no = $1",
        experiment_number,
        now,
    )
    await decision_rules.keep(connection, experiment_number)


async def progress(connection: Connection) -> list[Progress]:
    """Return the progress of every experiment."""
    rows = await connection.fetch(
        """
        SELECT experiment_id, revision, coalesce(p.version, -1) AS posterior_version
        FROM experiments LEFT JOIN segment_posteriors p USING (experiment_no)
        """
    )
    return [Progress(**row) for row in rows]


async def _write_variants(connection: Connection, number: int, variants: Sequence[Variant], now: datetime) -> None:
    await connection.executemany(
        _INSERT_VARIANT,
        [
            (number, v.number, v.variant_id, v.name, v.content, position, v.retired, now)
            for position, v in enumerate(variants)
        ],
    )


def _experiment(row: asyncpg.Record) -> Experiment:
    variants = tuple(Variant(**variant) for variant in row["variants"])
    by_number = {variant.number: variant.variant_id for variant in variants}
    return Experiment(
        number=row["experiment_no"],
        experiment_id=row["experiment_id"],
        name=row["name"],
        description=row["description"],
        owner=row["owner"],
        state=ExperimentState(row["state"]),
        variants=variants,
        control_variant_id=by_number[row["control_variant_no"]],
        primary_metric=row["primary_metric"],
        segmentation=SegmentationConfig(
            mode=SegmentationMode(row["mode"]),
            segment_by=tuple(row["segment_by"]),
            min_samples_per_segment=row["min_samples_per_segment"],
            max_segments=row["max_segments"],
            max_clusters=row["max_clusters"],
            model_version=row["model_version"],
            auto_activation=row["auto_activation"],
            auto_activation_threshold=row["auto_activation_threshold"],
            auto_clustering_enabled=row["auto_clustering_enabled"],
        ),
        segmentation_version=row["segmentation_version"],
        holdout_share=row["holdout_share"],
        baseline_share=row["baseline_share"],
        time_zone=row["time_zone"],
        salt=row["salt"],
        revision=row["revision"],
        maturity_seconds=row["maturity_seconds"],
        auto_maturity=row["auto_maturity"],
        on_outage=OutagePolicy(row["on_outage"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        winner_variant_id=by_number.get(row["winner_variant_no"], ""),
        cluster_names=row["cluster_names"] or {},
    )
