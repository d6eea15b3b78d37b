"""Logs: one line an event on stderr, JSON unless a person is reading."""

import logging
import sys
import time
from collections.abc import Hashable

import structlog

_SELDOM_SECONDS = 1.0


class LogThrottle:
    """Thins out what every call may have to say: one event of a kind a second."""

    def __init__(self) -> None:
        """Nothing is said yet."""
        self._next: dict[Hashable, float] = {}
        self._unsaid: dict[Hashable, int] = {}

    def admit(self, kind: Hashable) -> int:
        """How many events this one stands for; 0 if it is not to be said."""
        now = time.monotonic()
        self._unsaid[kind] = count = self._unsaid.get(kind, 0) + 1
        if now < self._next.get(kind, 0.0):
            return 0
        self._next[kind] = now + _SELDOM_SECONDS
        del self._unsaid[kind]
        return count


def configure_logs() -> None:
    """Set up structlog for this process."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if not sys.stderr.isatty() else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _unchanged(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
