"""What the drains of all shards are doing, as PostgreSQL sees it, on whatever machine their workers are."""

from dataclasses import dataclass

from storage.postgres import locks
from storage.postgres.pool import Connection

_SHORT = 60  # characters of a statement, which tell which one it is. They have no data: that comes as parameters
# Only a session that holds the lock of a shard drains it.
_ACTIVITY = """
    SELECT objid::int AS shard, coalesce(state, '') AS state, coalesce(wait_event_type, '') = 'Lock' AS waits_for_lock,
        left(regexp_replace(trim(query), '\\s+', ' ', 'g'), $2) AS statement,
        coalesce(extract(epoch FROM clock_timestamp()
            - CASE state WHEN 'active' THEN query_start ELSE state_change END), 0)::float8 AS seconds
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = $1 AND granted
        AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class DrainActivity:
    """What the session of a shard's drain does, and for how long."""

    state: str
    waits_for_lock: bool
    statement: str
    seconds: float

    def __str__(self) -> str:
        """Say it in words."""
        if self.state != "active":
            return f"its worker has asked PostgreSQL nothing for {self.seconds:,.0f} seconds"
        if self.waits_for_lock:
            return f"its worker has waited {self.seconds:,.0f} seconds for a lock, in {self.statement!r}"
        return f"PostgreSQL has worked {self.seconds:,.0f} seconds on {self.statement!r}"


async def drain_activities(connection: Connection) -> dict[int, DrainActivity]:
    """Return the activity of the drain of each shard that a worker drains, by shard."""
    rows = await connection.fetch(_ACTIVITY, locks.DRAIN, _SHORT)
    return {
        row["shard"]: DrainActivity(row["state"], row["waits_for_lock"], row["statement"], row["seconds"])
        for row in rows
    }
