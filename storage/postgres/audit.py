"""Who changed what, when."""

from datetime import datetime
from typing import Any

from storage.postgres.pool import Connection


async def record(
    connection: Connection, experiment_number: int, actor: str, action: str, detail: dict[str, Any], now: datetime
) -> None:
    """Keep an event, in the transaction that made it true."""
    await connection.execute(
        "INSERT INTO audit_events (at, actor, action, experiment_no, detail) VALUES ($1, $2, $3, $4, $5)",
        now,
        actor,
        action,
        experiment_number,
        detail,
    )
