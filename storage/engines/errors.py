"""The errors that keep the engines from running, in words for an operator."""

import os
from pathlib import Path

_TAIL_LINES = 5
_TAIL_BYTES = 8192  # logs are never rotated, so only their end is read


class EmbeddedError(Exception):
    """The base of the errors of this package."""


class DirectoryUnusableError(EmbeddedError):
    """The data directory cannot be used. The message says why, and what to use instead."""


class DirectoryInUseError(EmbeddedError):
    """Another server uses the data directory."""


class EngineFailedError(EmbeddedError):
    """An engine did not start. The message ends with the last lines of its log."""

    def __init__(self, engine: str, problem: str, log: Path) -> None:
        """`log` is the engine's log file."""
        super().__init__("\n  ".join([f"{engine} {problem}; its log is {log}:", *_last_lines(log)]))


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    except FileNotFoundError:
        return []
