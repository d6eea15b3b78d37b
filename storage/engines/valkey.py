"""The embedded Valkey: its settings, and how to see that it is ready."""

import signal
from pathlib import Path
from urllib.parse import quote

import redis.exceptions
from redis.asyncio import Redis

from storage.engines.directory import DataDirectory
from storage.engines.engine_process import EngineProcess, Sign


class EmbeddedValkey:
    """Valkey under a data directory, with an append-only file."""

    def __init__(self, directory: DataDirectory, binary: Path, appendfsync: str) -> None:
        """`appendfsync` is "always" or "everysec"."""
        self._binary = binary
        self._socket = directory.sockets / "valkey.sock"
        self._settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(directory.path / "valkey"),
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
        """Start Valkey, and wait until it has loaded its data. Raises EngineFailedError."""
        self._socket.unlink(missing_ok=True)
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        await self.process.start([self._binary, *options], self._look)

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


def socket_url(sockets: Path) -> str:
    """Return the URL of the Valkey whose socket is in this folder."""
    return f"unix://{quote(str(sockets / 'valkey.sock'))}?db=0"
