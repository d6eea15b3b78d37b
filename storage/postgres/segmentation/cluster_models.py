"""Cluster models, and the names of their clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast

import asyncpg

from allocator.clusters import ClusterModel, Training
from allocator.experiment import Experiment
from storage.encryption import Secrets
from storage.postgres.pool import Connection
from storage.sealing import open_model, seal_model

_MODELS = """
    SELECT model_version, trained_at, assignments, sampled, clusters, silhouette, gap, gap_error, prediction_strength,
        problem
    FROM clustering_models WHERE experiment_no = $1 AND ($2::int IS NULL OR model_version = $2)
        AND ($3::int IS NULL OR model_version < $3)
    ORDER BY model_version DESC LIMIT $4
"""
_INSERT = """
    INSERT INTO clustering_models (experiment_no, model_version, ciphertext, trained_at, assignments, sampled, clusters,
        silhouette, gap, gap_error, prediction_strength)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


@dataclass(frozen=True)
class Member:
    """A cluster of a model. `share` is of the users in training; `kept` says that the model before had it too."""

    number: int
    share: float
    kept: bool


@dataclass(frozen=True)
class StoredModel:
    """A model without its encrypted part. `problem` says why it cannot be used."""

    version: int
    trained_at: datetime
    assignments: int
    sampled: int
    members: tuple[Member, ...]
    silhouette: float
    gap: float
    gap_error: float
    prediction_strength: float
    problem: str


@dataclass(frozen=True)
class ClusterName:
    """The name of a cluster. `is_given` says that people gave it."""

    name: str
    is_given: bool


class ModelInUse(NamedTuple):
    """A model by which an experiment is or will be segmented, encrypted."""

    experiment_id: str
    version: int
    ciphertext: bytes


async def sealed(connection: Connection, experiment_number: int, version: int) -> bytes | None:
    """Return an encrypted model, None if there is none."""
    ciphertext: bytes | None = await connection.fetchval(
        "SELECT ciphertext FROM clustering_models WHERE (experiment_no, model_version) = ($1, $2)",
        experiment_number,
        version,
    )
    return ciphertext


async def load(connection: Connection, secrets: Secrets, experiment_number: int, version: int | None) -> ClusterModel:
    """Return a model. Raises ClusterModelUnreadableError, also if there is none."""
    found = await connection.fetchrow(
        """
        SELECT experiment_id, ciphertext FROM experiments e
            LEFT JOIN clustering_models m ON m.experiment_no = e.experiment_no AND m.model_version = $2
        WHERE e.experiment_no = $1
        """,
        experiment_number,
        version,
    )
    row = cast("asyncpg.Record", found)
    return open_model(secrets, row["experiment_id"], version or 0, row["ciphertext"])


async def insert(
    connection: Connection,
    secrets: Secrets,
    experiment: Experiment,
    training: Training,
    assignments: int,
    now: datetime,
) -> int:
    """Store a model, and the names of its new clusters. Returns its version.

    The caller holds the experiment FOR UPDATE.
    """
    version: int = await connection.fetchval(
        "SELECT coalesce(max(model_version), 0) + 1 FROM clustering_models WHERE experiment_no = $1", experiment.number
    )
    model, quality = training.model, training.quality
    members = [
        {"number": cluster, "share": share, "kept": training.matched[cluster]}
        for cluster, share in zip(model.numbers, model.shares, strict=True)
    ]
    await connection.execute(
        _INSERT,
        experiment.number,
        version,
        seal_model(secrets, experiment.experiment_id, version, model),
        now,
        assignments,
        sum(training.sizes),
        members,
        quality.silhouette,
        quality.gap,
        quality.gap_error,
        quality.strength,
    )
    await _add_names(connection, experiment.number, training.names)
    return version


async def models(
    connection: Connection,
    experiment_number: int,
    *,
    version: int | None = None,
    before: int | None = None,
    limit: int = 1,
) -> list[StoredModel]:
    """Return the newest models: the one with a version, or those with versions below `before`."""
    rows = await connection.fetch(_MODELS, experiment_number, version, before, limit)
    return [_stored(row) for row in rows]


async def usable(connection: Connection, experiment_number: int) -> list[int]:
    """Return the versions of the models without a known problem, the newest first."""
    rows = await connection.fetch(
        "SELECT model_version FROM clustering_models WHERE experiment_no = $1 AND problem = ''"
        " ORDER BY model_version DESC",
        experiment_number,
    )
    return [row["model_version"] for row in rows]


async def in_use(connection: Connection, experiment_number: int) -> list[ModelInUse]:
    """Return the models by which an experiment is or will be segmented."""
    rows = await connection.fetch(
        """
        SELECT experiment_id, model_version, ciphertext FROM clustering_models JOIN experiments USING (experiment_no)
        WHERE experiment_no = $1 AND model_version IN (
            SELECT model_version FROM experiment_segmentation_config WHERE experiment_no = $1
            UNION SELECT model_version FROM pending_segmentations WHERE experiment_no = $1)
        """,
        experiment_number,
    )
    return [ModelInUse(row["experiment_id"], row["model_version"], row["ciphertext"]) for row in rows]


async def refuse(connection: Connection, experiment_number: int, version: int, problem: str) -> None:
    """Store why a model cannot be used; with an empty `problem`, that it can be used."""
    await connection.execute(
        "UPDATE clustering_models SET problem = $3 WHERE (experiment_no, model_version) = ($1, $2)",
        experiment_number,
        version,
        problem,
    )


async def names(connection: Connection, experiment_number: int) -> dict[int, ClusterName]:
    """Return the name of every cluster that there is or was, by its number."""
    rows = await connection.fetch(
        "SELECT cluster_no, name, given_name IS NOT NULL AS is_given FROM clusters WHERE experiment_no = $1",
        experiment_number,
    )
    return {row["cluster_no"]: ClusterName(row["name"], row["is_given"]) for row in rows}


async def next_number(connection: Connection, experiment_number: int) -> int:
    """Return the number for the next new cluster."""
    number: int = await connection.fetchval(
        "SELECT coalesce(max(cluster_no), 0) + 1 FROM clusters WHERE experiment_no = $1", experiment_number
    )
    return number


async def rename(connection: Connection, experiment_number: int, cluster: int, name: str | None) -> bool:
    """Give a cluster a name, or, without one, remove the given name.

    Returns False, and changes nothing, if another cluster has the name.
    """
    try:
        async with connection.transaction():
            await connection.execute(
                "UPDATE clusters SET given_name = $3 WHERE (experiment_no, cluster_no) = ($1, $2)",
                experiment_number,
                cluster,
                name,
            )
    except asyncpg.UniqueViolationError:
        return False
    return True


async def _add_names(connection: Connection, experiment_number: int, found: Mapping[int, str]) -> None:
    """Name the new clusters. If a name is taken, a number is added to it."""
    known = await names(connection, experiment_number)
    taken = {each.name for each in known.values()}
    for number, name in found.items():
        if number in known:
            continue
        chosen = next(n for n in (name, *(f"{name} {count}" for count in range(2, len(taken) + 3))) if n not in taken)
        taken.add(chosen)
        await connection.execute(
            "INSERT INTO clusters (experiment_no, cluster_no, found_name) VALUES ($1, $2, $3)",
            experiment_number,
            number,
            chosen,
        )


def _stored(row: asyncpg.Record) -> StoredModel:
    return StoredModel(
        version=row["model_version"],
        trained_at=row["trained_at"],
        assignments=row["assignments"],
        sampled=row["sampled"],
        members=tuple(Member(each["number"], each["share"], each["kept"]) for each in row["clusters"]),
        silhouette=row["silhouette"],
        gap=row["gap"],
        gap_error=row["gap_error"],
        prediction_strength=row["prediction_strength"],
        problem=row["problem"],
    )
