"""API keys as a table. Names are never taken as markup."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table

from server.cli.views.formats import plain
from storage.postgres.operations.api_keys import ApiKey


def keys_table(keys: Sequence[ApiKey]) -> Table:
    """Show a row for each key, with the minutes (UTC) in which it was created, expires, and was revoked."""
    table = Table("key", "name", "scopes", "created", "expires", "revoked", "replaced by")
    for key in keys:
        table.add_row(
            key.key_id,
            plain(key.name),
            ", ".join(key.scopes),
            _minute(key.created_at),
            _minute(key.expires_at),
            _minute(key.revoked_at),
            key.replaced_by or "",
        )
    return table


def _minute(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
