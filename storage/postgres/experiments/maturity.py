"""Changes an experiment's maturity. What counts as a success changes with it, back to the first day."""

from datetime import datetime, timedelta

from storage.postgres.counts import cohorts, dimensions, recount
from storage.postgres.pool import Connection

_AUTOMATIC = """
    SELECT experiment_id FROM experiments WHERE auto_maturity AND state IN ('RUNNING', 'PAUSED') ORDER BY experiment_id
"""
_DELAY = """
    SELECT extract(epoch FROM percentile_cont($4::float8) WITHIN GROUP (ORDER BY converted_at - assigned_at))
    FROM assignments WHERE experiment_no = $1 AND converted_at IS NOT NULL AND assigned_at <= $2
    HAVING count(*) >= $3
"""


async def automatic(connection: Connection) -> list[str]:
    """Return the ids of the experiments whose maturity Samplit finds by itself."""
    return [row["experiment_id"] for row in await connection.fetch(_AUTOMATIC)]


async def observed_delay(
    connection: Connection, experiment_number: int, assigned_until: datetime, *, quantile: float, least: int
) -> timedelta | None:
    """Return a quantile of the conversion delays of users assigned by then; None if fewer than `least` converted."""
    seconds = await connection.fetchval(_DELAY, experiment_number, assigned_until, least, quantile)
    return None if seconds is None else timedelta(seconds=float(seconds))


async def store(connection: Connection, experiment_number: int, maturity_seconds: int, now: datetime) -> None:
    """Change the maturity and count again. The caller holds the experiment FOR UPDATE, so nobody counts meanwhile."""
    await connection.execute(
        "UPDATE experiments SET maturity_seconds = $2, maturity_from = posterior_version + 1 WHERE experiment_no = $1",
        experiment_number,
        maturity_seconds,
    )
    await recount.repair(connection, await recount.differences(connection, experiment_number))
    await cohorts.recount(connection, experiment_number, now)
    await dimensions.repair(connection, experiment_number)
