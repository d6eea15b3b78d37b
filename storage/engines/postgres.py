"""The embedded PostgreSQL: its files, its settings, and how to see that it is ready."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import asyncpg

from storage.engines.directory import DataDirectory
from storage.engines.engine_process import EngineProcess, Sign
from storage.engines.errors import EngineFailedError

_NAME = "samplit"  # of the role and of the database
_PORT = 5432  # only part of the socket's name; always passed, since PGPORT would change it
SOCKET = f".s.PGSQL.{_PORT}"
_PID_LINE, _STATUS_LINE = 0, 7  # of postmaster.pid, which pg_ctl reads too
_RETRIES = 40
_RETRY_SECONDS = 0.25
_SETTINGS = {
    "listen_addresses": "",  # no TCP: whoever can enter the folder of the socket may connect
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_startup_progress_interval": "1s",
    "shared_buffers": "128MB",
    "max_connections": "100",
}


class EmbeddedPostgres:
    """PostgreSQL under a data directory."""

    def __init__(self, directory: DataDirectory, binaries: Path) -> None:
        """`binaries` is the folder of initdb and postgres."""
        self._directory = directory
        self._binaries = binaries
        self._data = directory.path / "postgres"
        self.process = EngineProcess("postgres", directory, signal.SIGINT)
        self.dsn = socket_dsn(directory.sockets)

    @property
    def is_new(self) -> bool:
        """Return whether its files are still to be created."""
        return not self._data.exists()

    async def start(self) -> None:
        """Start PostgreSQL. Its files and its database are created if they are missing. Raises EngineFailedError."""
        if self.is_new:
            await self._create_files()
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        command: list[str | Path] = [
            self._binaries / "postgres",
            "-D",
            self._data,
            *("-p", str(_PORT)),
            *("-k", self._directory.sockets),
            *options,
        ]
        for attempt in range(_RETRIES):
            try:
                await self.process.start(command, self._look)
                break
            except EngineFailedError as error:
                if not _is_blocked_by_killed_server(error) or attempt == _RETRIES - 1:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
        await self._create_database()

    async def _create_files(self) -> None:
        unfinished = self._data.with_name("postgres.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._directory.account is not None:
            os.chown(unfinished, self._directory.account.uid, self._directory.account.gid)
        status = await self.process.run(
            [
                self._binaries / "initdb",
                # No password is needed: only the owner of the socket's folder and root can enter it.
                *("-D", unfinished, "--username", _NAME, "--auth", "trust", "--encoding", "UTF8"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
                "--data-checksums",
            ]
        )
        if status != 0:
            raise EngineFailedError("postgres", "could not create its files", self.process.log)
        unfinished.rename(self._data)

    async def _look(self) -> Sign:
        """Read the state from a file. A connection that is refused would be logged, and look like progress."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            lines = []
        # A killed server leaves its file behind, so the file must name this process.
        is_ready = (
            len(lines) > _STATUS_LINE
            and lines[_PID_LINE] == str(self.process.pid)
            and lines[_STATUS_LINE].strip() == "ready"
        )
        return Sign(is_ready=is_ready, progress=self.process.work())

    async def _create_database(self) -> None:
        try:
            connection = await asyncpg.connect(socket_dsn(self._directory.sockets, "postgres"))
            try:
                if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", _NAME):
                    await connection.execute(f"CREATE DATABASE {_NAME}")
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise EngineFailedError("postgres", f"does not answer ({error})", self.process.log) from error


def _is_blocked_by_killed_server(error: EngineFailedError) -> bool:
    """Return whether processes of a killed server are in the way. They end, or are reaped, a moment later."""
    return any(words in str(error) for words in ("shared memory block", 'lock file "postmaster.pid" already exists'))


def connection_options(sockets: Path) -> list[str]:
    """Return the options with which PostgreSQL's own programs connect to the PostgreSQL whose socket is in a folder."""
    return ["-h", str(sockets.absolute()), "-p", str(_PORT), "-U", _NAME]


def socket_dsn(sockets: Path, database: str = _NAME) -> str:
    """Return the DSN of the PostgreSQL whose socket is in this folder."""
    return f"postgresql://{_NAME}@/{database}?host={quote(str(sockets))}&port={_PORT}"
