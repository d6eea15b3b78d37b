"""The one clock. Whatever needs the time takes it from here, SQL and Lua included, so that tests can set it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)
