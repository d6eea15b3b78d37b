"""Starts, restarts and stops both engines of a data directory."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.engines.binaries import find_binaries
from storage.engines.directory import DataDirectory
from storage.engines.disk import look_for_room
from storage.engines.errors import DirectoryUnusableError
from storage.engines.postgres import SOCKET, EmbeddedPostgres, socket_dsn
from storage.engines.valkey import EmbeddedValkey, Salvage, socket_url

ENGINES = ("postgres", "valkey")
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class StoreUrls:
    """The addresses of the engines, which are unix sockets."""

    postgres_dsn: str
    redis_url: str


class EmbeddedEngines:
    """PostgreSQL and Valkey, from `start` to `stop`."""

    def __init__(
        self,
        directory: DataDirectory,
        report: Callable[[str], None],
        *,
        appendfsync: str = "always",
        salvage: Salvage = lambda _: (),
    ) -> None:
        """`report` gets a text before each step that takes long, and about damage.

        salvage: returns which commands of a damaged append-only file Valkey needs. Raises EmbeddedError if there are no
        binaries.
        """
        binaries = find_binaries(directory.path / "engines", directory.account)
        self._postgres = EmbeddedPostgres(directory, binaries.postgres)
        self._valkey = EmbeddedValkey(directory, binaries.valkey, appendfsync, salvage, report)
        self._report = report
        self._path = directory.path

    async def start(self) -> StoreUrls:
        """Start both. Raises EngineFailedError; an engine that did start runs until `stop`.

        Raises DirectoryUnusableError on a full disk: then nothing is started.
        """
        room = look_for_room(self._path)
        if not room.is_enough:
            raise DirectoryUnusableError(f"disk full: {room} in {self._path}")
        first = "for the first time, creating its files" if self._postgres.is_new else "on its data"
        self._report(f"starting PostgreSQL {first}, and Valkey")
        results = await asyncio.gather(self._postgres.start(), self._valkey.start(), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return StoreUrls(self._postgres.dsn, self._valkey.url)

    async def wait(self, name: str) -> None:
        """Wait until the engine ends."""
        await (self._postgres if name == "postgres" else self._valkey).process.wait()

    async def restart(self, name: str) -> None:
        """Start an engine that has ended. Raises EngineFailedError."""
        await (self._postgres if name == "postgres" else self._valkey).start()

    async def refuse_writes(self, refuse: bool) -> None:
        """Let Valkey refuse writes from now on, or accept them again. Raises an error if it does not answer."""
        await self._valkey.refuse_writes(refuse)

    async def stop(self) -> None:
        """Stop both cleanly."""
        await asyncio.gather(self._postgres.process.stop(), self._valkey.process.stop())


def find_running(path: Path) -> StoreUrls | None:
    """Return the addresses of the engines that run on a data directory; None if none do, or none can be reached."""
    sockets = path.absolute() / "run"
    running = all(_listens(sockets / name) for name in (SOCKET, "valkey.sock"))
    return StoreUrls(socket_dsn(sockets), socket_url(sockets)) if running else None


def _listens(path: Path) -> bool:
    """Return whether an engine listens on a socket. A killed engine leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ANSWER_SECONDS)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def is_embedded(redis_url: str, path: Path) -> bool:
    """Return whether a URL leads to the Valkey of a data directory."""
    return redis_url == socket_url(path.absolute() / "run")
