"""Logs: one line for each event on stderr, as JSON, or in colours where stderr is a terminal."""

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from types import TracebackType
from typing import TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LEVEL_VARIABLE = "SAMPLIT_LOG_LEVEL"
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


class _Unfailing(io.TextIOBase):
    """A stream that drops lines which cannot be written: a full disk must not end who logs about it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()


def configure_logs(level: str | None = None, stream: TextIO | None = None) -> None:
    """Let everything in this process log in one format: structlog, logging, warnings, and errors that nobody catches.

    level: "debug", "info", "warning" or "error"; otherwise SAMPLIT_LOG_LEVEL says it. stream: stderr, if none is given.
    Never logs local variables, because they hold keys and user identifiers.
    """
    output = cast("TextIO", _Unfailing(stream or sys.stderr))
    least = LEVELS.get((level or os.environ.get(LEVEL_VARIABLE, "")).lower(), logging.INFO)
    stamps: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ends = _renderers(is_terminal=output.isatty())
    structlog.configure(
        processors=[*stamps, *ends],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(output),
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamps, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least if least < logging.INFO else max(least, logging.WARNING))  # libraries say too much at "info"
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def capture_native_lines() -> None:
    """Log what native code writes to stderr, such as gRPC's C core, line by line in the same format.

    The writers are never blocked: if they write faster than this process logs, some lines are lost.
    """
    reading, writing = os.pipe()
    ours = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
    os.dup2(writing, sys.stderr.fileno())
    os.close(writing)
    os.set_blocking(sys.stderr.fileno(), False)
    sys.stderr = ours
    configure_logs(stream=ours)
    threading.Thread(target=_log_lines, args=(reading,), name="native-log", daemon=True).start()


def _log_lines(descriptor: int) -> None:
    log = structlog.get_logger()
    with os.fdopen(descriptor, errors="replace") as lines:
        for line in lines:
            if text := line.strip():
                log.warning(text, logger="native")


def _renderers(*, is_terminal: bool) -> list[structlog.typing.Processor]:
    if is_terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(transformer), structlog.processors.JSONRenderer(default=_unknown)]


def _unknown(value: object) -> str:
    """Name the type of a value that is no JSON. Its repr may have secrets."""
    return f"<{type(value).__name__}>"


def _log_uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("the process failed", exc_info=error)


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        structlog.get_logger().critical("a thread failed", exc_info=arguments.exc_value)
