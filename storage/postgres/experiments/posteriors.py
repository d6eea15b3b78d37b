"""The serving posterior of an experiment, encrypted."""

from datetime import datetime

from storage.postgres.experiments import experiments
from storage.postgres.pool import Connection, snapshot
from storage.publication import Publication, SealedPosterior


async def posterior_version(connection: Connection, experiment_number: int) -> int:
    """Return the version that serves, and keep others from counting for the experiment until the transaction ends."""
    version: int = await connection.fetchval(
        "SELECT posterior_version FROM experiments WHERE experiment_no = $1 FOR UPDATE", experiment_number
    )
    return version


async def store(connection: Connection, experiment_number: int, version: int, ciphertext: bytes, now: datetime) -> None:
    """Replace the posterior. Call it in the transaction that took `posterior_version`."""
    await connection.execute(
        """
        INSERT INTO segment_posteriors (experiment_no, version, ciphertext, published_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (experiment_no) DO UPDATE
        SET version = excluded.version, ciphertext = excluded.ciphertext, published_at = excluded.published_at
        """,
        experiment_number,
        version,
        ciphertext,
        now,
    )
    await connection.execute(
        "UPDATE experiments SET posterior_version = $2 WHERE experiment_no = $1", experiment_number, version
    )


async def load(connection: Connection, experiment_number: int) -> SealedPosterior | None:
    """Return the stored posterior, None if nothing was learned yet."""
    row = await connection.fetchrow(
        "SELECT version, ciphertext, published_at FROM segment_posteriors WHERE experiment_no = $1", experiment_number
    )
    return None if row is None else SealedPosterior(**row)


async def load_publication(connection: Connection, experiment_id: str) -> Publication | None:
    """Return an experiment and its posterior as of one moment, or None. Call it outside of a transaction."""
    async with snapshot(connection):
        experiment = await experiments.get(connection, experiment_id)
        if experiment is None:
            return None
        return Publication(experiment, await load(connection, experiment.number))
