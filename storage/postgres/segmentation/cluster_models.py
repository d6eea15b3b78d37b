"""Cluster models, and what their clusters are called."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import asyncpg

from allocator.clusters import ClusterModel, Training
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
    """A cluster of a model. `share` is in training; `kept` says that the model before had it too."""

    number: int
    share: float
    kept: bool


@dataclass(frozen=True)
class StoredModel:
    """What is known of a model without opening it; `problem` says why it cannot be used."""

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
    """What a cluster is called; `is_given` by people."""

    name: str
    is_given: bool


async def sealed(connection: Connection, experiment_number: int, version: int) -> bytes | None:
    """An encrypted model."""
    ciphertext: bytes | None = await connection.fetchval(
        "SELECT ciphertext FROM clustering_models WHERE (experiment_no, model_version) = ($1, $2)",
        experiment_number,
        version,
    )
    return ciphertext


async def load(connection: Connection, secrets: Secrets, experiment_number: int, version: int | None) -> ClusterModel:
    """A model. Raises ClusterModelUnreadableError, also where there is none."""
    found = await connection.fetchrow(
        """
        SELECT experiment_id, ciphertext FROM experiments e
            LEFT JOIN clustering_models m ON m.experiment_no = e.experiment_no AND m.model_version = $2
        WHERE e.experiment_no = $1
        """,
        experiment_number,
        version,
    )
    experiment_id, ciphertext = cast("asyncpg.Record", found)
    return open_model(secrets, experiment_id, version or 0, ciphertext)


async def insert(
    connection: Connection,
    secrets: Secrets,
    place: tuple[int, str],
    training: Training,
    assignments: int,
    now: datetime,
) -> int:
    """Store a model of the experiment with this number and id, and the names of its new clusters; its version.

    The caller holds the experiment FOR UPDATE.
    """
    number, experiment_id = place
    version: int = await connection.fetchval(
        "SELECT coalesce(max(model_version), 0) + 1 FROM clustering_models WHERE experiment_no = $1", number
    )
    model, quality = training.model, training.quality
    members = [
        {"number": cluster, "share": share, "kept": training.matched[cluster]}
        for cluster, share in zip(model.numbers, model.shares, strict=True)
    ]
    await connection.execute(
        _INSERT,
        number,
        version,
        seal_model(secrets, experiment_id, version, model),
        now,
        assignments,
        sum(training.sizes),
        members,
        quality.silhouette,
        quality.gap,
        quality.gap_error,
        quality.strength,
    )
    await _add_names(connection, number, training.names)
    return version


async def models(
    connection: Connection,
    experiment_number: int,
    *,
    version: int | None = None,
    before: int | None = None,
    limit: int = 1,
) -> list[StoredModel]:
    """The newest first: one of them, or those with a version below `before`."""
    rows = await connection.fetch(_MODELS, experiment_number, version, before, limit)
    return [_stored(row) for row in rows]


async def usable(connection: Connection, experiment_number: int) -> list[int]:
    """The versions of the models that nothing is known to be wrong with, the newest first."""
    rows = await connection.fetch(
        "SELECT model_version FROM clustering_models WHERE experiment_no = $1 AND problem = ''"
        " ORDER BY model_version DESC",
        experiment_number,
    )
    return [row[0] for row in rows]


async def in_use(connection: Connection, experiment_number: int) -> list[tuple[str, int, bytes]]:
    """The models by which an experiment is or will be segmented: its id, the version, and the encrypted model."""
    rows = await connection.fetch(
        """
        SELECT experiment_id, model_version, ciphertext FROM clustering_models JOIN experiments USING (experiment_no)
        WHERE experiment_no = $1 AND model_version IN (
            SELECT model_version FROM experiment_segmentation_config WHERE experiment_no = $1
            UNION SELECT model_version FROM pending_segmentations WHERE experiment_no = $1)
        """,
        experiment_number,
    )
    return [tuple(row) for row in rows]


async def refuse(connection: Connection, experiment_number: int, version: int, problem: str) -> None:
    """Say why a model cannot be used; with an empty `problem`, that it can."""
    await connection.execute(
        "UPDATE clustering_models SET problem = $3 WHERE (experiment_no, model_version) = ($1, $2)",
        experiment_number,
        version,
        problem,
    )


async def names(connection: Connection, experiment_number: int) -> dict[int, ClusterName]:
    """What every cluster is or was called, by its number."""
    rows = await connection.fetch(
        "SELECT cluster_no, name, given_name IS NOT NULL FROM clusters WHERE experiment_no = $1", experiment_number
    )
    return {number: ClusterName(name, is_given) for number, name, is_given in rows}


async def next_number(connection: Connection, experiment_number: int) -> int:
    """What the next new cluster will have."""
    number: int = await connection.fetchval(
        "SELECT coalesce(max(cluster_no), 0) + 1 FROM clusters WHERE experiment_no = $1", experiment_number
    )
    return number


async def rename(connection: Connection, experiment_number: int, cluster: int, name: str | None) -> bool:
    """Give a cluster a name, or, without one, take it back. Whether no other cluster has it."""
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
    """Clusters that are known keep theirs; of new ones, whose name is taken gets a number."""
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
    version, trained_at, assignments, sampled, members, *figures = row
    clusters = tuple(Member(each["number"], each["share"], each["kept"]) for each in members)
    return StoredModel(version, trained_at, assignments, sampled, clusters, *figures)
