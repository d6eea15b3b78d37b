"""What can keep the embedded engines from running, in words for an operator."""

from pathlib import Path

_TAIL_LINES = 5


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
        tail = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if log.exists() else []
        super().__init__("\n  ".join([f"{engine} {problem}; its log is {log}:", *tail]))
