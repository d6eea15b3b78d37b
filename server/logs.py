"""Logs: one line for each event on stderr, as JSON, or in colours where stderr is a terminal."""

import logging
import sys
import time
from collections.abc import Hashable

import structlog

_INTERVAL_SECONDS = 1.0


class LogThrottle:
    """Limits what many calls would log at once: one event of a kind in a second."""

    def __init__(self) -> None:
        self._admitted_from: dict[Hashable, float] = {}
        self._suppressed: dict[Hashable, int] = {}

    def admit(self, kind: Hashable) -> int:
        """Return how many events this one stands for, itself included; 0 if it must not be logged."""
        now = time.monotonic()
        self._suppressed[kind] = count = self._suppressed.get(kind, 0) + 1
        if now < self._admitted_from.get(kind, 0.0):
            return 0
        self._admitted_from[kind] = now + _INTERVAL_SECONDS
        del self._suppressed[kind]
        return count


def configure_logs() -> None:
    """Configure structlog for this process."""
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
