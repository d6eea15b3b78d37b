"""The embedded Valkey: its settings, and how to see that it is ready."""

import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import quote

import redis.exceptions
from redis.asyncio import Redis

from storage.engines.append_only_file import (
    FOLDER,
    Command,
    find_snapshot,
    finish,
    is_damaged,
    read_increments,
    replace,
)
from storage.engines.directory import DataDirectory
from storage.engines.disk import look_for_room
from storage.engines.engine_process import EngineProcess, Sign
from storage.engines.errors import EngineFailedError

Salvage = Callable[[Iterable[Command]], Iterable[Command]]

_ALL_MEMORY, _NO_MEMORY = "0", "1"  # with one byte of memory allowed, every write is refused


class EmbeddedValkey:
    """Valkey under a data directory, with an append-only file."""

    def __init__(
        self,
        directory: DataDirectory,
        binary: Path,
        appendfsync: str,
        salvage: Salvage = lambda _: (),
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`appendfsync` is "always" or "everysec".

        salvage: returns which commands of a damaged append-only file are needed. report: gets a line for an operator.
        """
        self._salvage = salvage
        self._report = report
        self._account = directory.account
        self._binary = binary
        self._folder = directory.path / "valkey"
        self._socket = directory.sockets / "valkey.sock"
        self._settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": appendfsync,
            # No snapshots: the append-only file is enough. They would delay the end, or prevent it on a full disk.
            "save": "",
            "aof-load-truncated": "yes",  # a kill may cut the last write, which was not acknowledged
            "databases": "64",
            "enable-debug-command": "no",
            "maxmemory-policy": "noeviction",
            # Sticky records are small hashes: these sizes keep them in the compact encoding.
            "hash-max-listpack-entries": "512",
            "hash-max-listpack-value": "64",
        }
        self.process = EngineProcess("valkey", directory, signal.SIGTERM)
        self.url = socket_url(directory.sockets)

    async def start(self) -> None:
        """Start Valkey, and wait until it has loaded its data. Raises EngineFailedError.

        On a full disk it starts refusing writes: with the first one it would die again. A damaged append-only file is
        kept aside: Valkey then starts with what `salvage` makes of it.
        """
        finish(self._folder)
        try:
            await self._start()
        except EngineFailedError as error:
            if not is_damaged(error):
                raise
            self._report(await self._begin_anew())
            await self._start()

    async def _start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._settings["maxmemory"] = _NO_MEMORY if not look_for_room(self._folder).is_enough else _ALL_MEMORY
        await self.process.start([self._binary, *_options(self._settings)], self._look)

    async def _begin_anew(self) -> str:
        """Keep the append-only file aside, and write another with what can be salvaged. Returns what was done."""
        damaged = self._folder / FOLDER
        commands = [*await self._read_snapshot(find_snapshot(damaged)), *read_increments(damaged)]
        salvaged = list(self._salvage(commands))
        aside = replace(self._folder, salvaged, self._account)
        return (
            f"Valkey's append-only file was damaged: it is kept as {aside}, {len(salvaged):,} commands of it are used, "
            "and the rest is refilled from PostgreSQL"
        )

    async def _read_snapshot(self, snapshot: Path | None) -> list[Command]:
        """Return commands that add what streams have in a snapshot; none if it cannot be read."""
        if snapshot is None:
            return []
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(snapshot.parent),
            "dbfilename": snapshot.name,
            "appendonly": "no",
            "save": "",
        }
        self._socket.unlink(missing_ok=True)
        try:
            await self.process.start([self._binary, *_options(options)], self._look)
        except EngineFailedError:
            return []
        client = Redis.from_url(self.url)
        commands: list[Command] = []
        try:
            async for key in client.scan_iter(_type="STREAM", count=1_000):
                entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", await client.xrange(key))
                for entry_id, fields in entries:
                    commands.append((b"XADD", key, entry_id, *(word for pair in fields.items() for word in pair)))
        finally:
            await client.aclose()
            await self.process.stop()
        return commands

    async def refuse_writes(self, refuse: bool) -> None:
        """Refuse writes from now on, or accept them again. Raises OSError or RedisError if Valkey does not answer."""
        client = Redis.from_url(self.url, socket_timeout=5)
        try:
            await client.config_set("maxmemory", _NO_MEMORY if refuse else _ALL_MEMORY)
        finally:
            await client.aclose()

    async def _look(self) -> Sign:
        """Ask Valkey, which answers while it loads its data, how much it has loaded."""
        client = Redis.from_url(self.url, socket_timeout=5)
        try:
            found = await client.info("persistence")
            return Sign(is_ready=not found["loading"], progress=found.get("loading_loaded_bytes", 0))
        except (OSError, redis.exceptions.RedisError):
            return Sign(is_ready=False)
        finally:
            await client.aclose()


def _options(settings: Mapping[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def socket_url(sockets: Path) -> str:
    """Return the URL of the Valkey whose socket is in this folder."""
    return f"unix://{quote(str(sockets / 'valkey.sock'))}?db=0"
