"""The encrypted states of all experiments, for encrypting them anew: posteriors and cluster models."""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.postgres.pool import Connection


@dataclass(frozen=True)
class SealedState:
    """A posterior or a cluster model as it is stored."""

    experiment_number: int
    experiment_id: str
    version: int
    ciphertext: bytes


async def outdated_posteriors(
    connection: Connection, prefixes: Sequence[bytes], *, after: int, limit: int
) -> list[SealedState]:
    """Return posteriors whose ciphertext begins with one of the prefixes, by the number of their experiment.

    after: only of experiments with a larger number.
    """
    rows = await connection.fetch(
        """
        SELECT experiment_no, experiment_id, version, ciphertext
        FROM segment_posteriors JOIN experiments USING (experiment_no)
        WHERE substring(ciphertext FROM 1 FOR 5) = ANY($1::bytea[]) AND experiment_no > $2
        ORDER BY experiment_no LIMIT $3
        """,
        prefixes,
        after,
        limit,
    )
    return [SealedState(r["experiment_no"], r["experiment_id"], r["version"], r["ciphertext"]) for r in rows]


async def outdated_models(
    connection: Connection, prefixes: Sequence[bytes], *, after: tuple[int, int], limit: int
) -> list[SealedState]:
    """Return cluster models whose ciphertext begins with one of the prefixes, by experiment and version.

    after: only models that come after the one with this experiment's number and this version.
    """
    rows = await connection.fetch(
        """
        SELECT experiment_no, experiment_id, model_version, ciphertext
        FROM clustering_models JOIN experiments USING (experiment_no)
        WHERE substring(ciphertext FROM 1 FOR 5) = ANY($1::bytea[]) AND (experiment_no, model_version) > ($2, $3)
        ORDER BY experiment_no, model_version LIMIT $4
        """,
        prefixes,
        *after,
        limit,
    )
    return [SealedState(r["experiment_no"], r["experiment_id"], r["model_version"], r["ciphertext"]) for r in rows]


async def replace_posterior(connection: Connection, old: SealedState, ciphertext: bytes) -> bool:
    """Replace a ciphertext by another one of the same posterior. Returns False if a newer posterior is stored."""
    status = await connection.execute(
        "UPDATE segment_posteriors SET ciphertext = $3 WHERE experiment_no = $1 AND ciphertext = $2",
        old.experiment_number,
        old.ciphertext,
        ciphertext,
    )
    return bool(status == "UPDATE 1")


async def replace_model(connection: Connection, old: SealedState, ciphertext: bytes) -> bool:
    """Replace a ciphertext by another one of the same cluster model. Returns False if another one is stored by now."""
    status = await connection.execute(
        "UPDATE clustering_models SET ciphertext = $4 WHERE (experiment_no, model_version) = ($1, $2)"
        " AND ciphertext = $3",
        old.experiment_number,
        old.version,
        old.ciphertext,
        ciphertext,
    )
    return bool(status == "UPDATE 1")


async def experiment_ids(connection: Connection, *, after: int, limit: int) -> dict[int, str]:
    """Return ids of experiments by number, of those with a number larger than `after`."""
    rows = await connection.fetch(
        "SELECT experiment_no, experiment_id FROM experiments WHERE experiment_no > $1 ORDER BY experiment_no LIMIT $2",
        after,
        limit,
    )
    return {row["experiment_no"]: row["experiment_id"] for row in rows}
