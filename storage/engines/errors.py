"""What can keep the embedded engines from running, in words for an operator."""

import os
from pathlib import Path

_TAIL_LINES = 5
_TAIL_BYTES = 8192  # logs are never rotated, so only their end is read


class EmbeddedError(Exception):
    """The base of all."""


class DirectoryUnusableError(EmbeddedError):
    """The data directory cannot be used; the message says why, and what would do."""


class DirectoryInUseError(EmbeddedError):
    """Another server has the data directory."""


class EngineFailedError(EmbeddedError):
    """An engine did not start; the message ends with its last words."""

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
