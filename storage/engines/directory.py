"""The data directory: who uses it, who may enter it, and which processes run on it."""

import asyncio
import fcntl
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from storage.engines.account import Account, engine_account
from storage.engines.errors import DirectoryInUseError, DirectoryUnusableError

_BETTER = Path("/var/lib/samplit")
_MOST_SOCKET_PATH = 100  # bytes; the limit is 108 on Linux and 104 on macOS, with a zero at the end
_MOST_PATH = _MOST_SOCKET_PATH - len("/run/.s.PGSQL.5432")
_ORPHAN_SECONDS = 20.0
_QUIT_SECONDS = 5.0
_SAME_START = 0.05  # seconds; kernels count them in hundredths


class DataDirectory:
    """An open data directory. A lock keeps other processes out until `close`, or until this process ends."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open`."""
        self.path = path
        self.account: Account | None = engine_account(path / "postgres")
        self._lock = lock
        self._processes = self._read_records()
        self._is_saved = True

    @classmethod
    def open(cls, path: Path) -> Self:
        """Lock the directory, and make what is missing in it. Raises DirectoryUnusableError or DirectoryInUseError."""
        path = path.absolute()
        if len(os.fsencode(path)) > _MOST_PATH:
            raise DirectoryUnusableError(f"the path {path} is too long for unix sockets: at most {_MOST_PATH} bytes")
        if "," in str(path):  # PostgreSQL and its clients read a list of folders or hosts there, and none can quote it
            raise DirectoryUnusableError(f"the path {path} has a comma: PostgreSQL cannot make a socket there")
        try:
            path.mkdir(parents=True, exist_ok=True)
            entries = {entry.name for entry in path.iterdir()} - {"lost+found"}
            if entries and not entries & {"lock", "secrets"}:
                raise DirectoryUnusableError(
                    f"the folder {path} holds other things than Samplit's files: name an empty or a new folder"
                )
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise DirectoryUnusableError(
                f"the data directory {path} is not usable: {error.filename} is not a folder, or lies in a file"
            ) from error
        except OSError as error:
            raise DirectoryUnusableError(f"the data directory {path} is not usable: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode().strip()
            os.close(lock)
            raise DirectoryInUseError(f"the data directory {path} is in use by process {owner}") from None
        owner_line = f"{os.getpid()}\n".encode()
        with suppress(OSError):  # on a full disk the lock works without it; overwriting needs no room
            os.pwrite(lock, owner_line, 0)
            os.truncate(lock, len(owner_line))
        directory = cls(path, lock)
        try:
            directory._lay_out()
        except BaseException:
            directory.close()
            raise
        return directory

    def close(self) -> None:
        """Unlock the directory."""
        os.close(self._lock)

    @property
    def sockets(self) -> Path:
        """Return the folder of the engines' sockets. Only their account and root can enter it."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """Return the folder of the engines' logs."""
        return self.path / "log"

    def record_process(self, name: str, pid: int) -> None:
        """Record a process that must not outlive this one, unless it has ended already."""
        try:
            started = _started(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return
        self._processes[name] = [pid, started]
        self._is_saved = False
        self.save_records()

    def forget_process(self, name: str) -> None:
        """Delete the record of a process that has ended."""
        self._processes.pop(name, None)
        self._is_saved = False
        self.save_records()

    def save_records(self) -> str | None:
        """Write the records into their file, unless it has them. Returns what is wrong if the disk refuses that."""
        if self._is_saved:
            return None
        temporary = self.path / "processes.new"
        try:
            temporary.write_text(json.dumps(self._processes))
            temporary.replace(self.path / "processes.json")
        except OSError as error:
            return error.strerror or repr(error)
        self._is_saved = True
        return None

    async def stop_orphans(self) -> list[str]:
        """Stop the recorded processes that a killed owner left running. Returns their names.

        The last one to start is stopped first, so that servers can still finish their work on the engines.
        """
        stopped = []
        self._processes = self._read_records()
        for name, (pid, started) in reversed(self._processes.items()):
            process = _alive(int(pid), started)
            if process is not None:
                await _stop(process, is_postgres=name == "postgres")
                stopped.append(name)
        self._processes = {}
        self._is_saved = False
        self.save_records()
        return stopped

    def _lay_out(self) -> None:
        try:
            self.path.chmod(0o700 if self.account is None else 0o711)
            for folder in (self.sockets, self.logs, self.path / "valkey"):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
                if self.account is not None:
                    os.chown(folder, self.account.uid, self.account.gid)
        except OSError as error:
            raise DirectoryUnusableError(f"the data directory {self.path} is not usable: {error.strerror}") from error
        if self.account is not None and not self.account.can_enter(self.path):
            raise DirectoryUnusableError(
                f"PostgreSQL cannot run as root, and its account (uid {self.account.uid}) cannot enter {self.path}: "
                f"use --data-dir {_BETTER}, or another folder below ones that everybody may enter"
            )

    def _read_records(self) -> dict[str, list[float]]:
        try:
            records: dict[str, list[float]] = json.loads((self.path / "processes.json").read_text())
        except (OSError, ValueError):
            return {}
        return records


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds from the boot: setting the clock does not change that."""
    return process.create_time() - psutil.boot_time()


def _alive(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        is_same = abs(_started(process) - started) < _SAME_START
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


async def _stop(process: psutil.Process, *, is_postgres: bool) -> None:
    """Ask a process to end; if it does not, kill it and its children, which a killed postmaster would leave behind."""
    try:
        children = process.children(recursive=True)
        process.send_signal(signal.SIGINT if is_postgres else signal.SIGTERM)
        await asyncio.to_thread(psutil.wait_procs, [process], _ORPHAN_SECONDS)
        if is_postgres and process.is_running():
            process.send_signal(signal.SIGQUIT)  # the postmaster ends its children itself
            await asyncio.to_thread(psutil.wait_procs, [process], _QUIT_SECONDS)
        for each in (process, *children):
            if each.is_running():
                each.kill()
        await asyncio.to_thread(psutil.wait_procs, [process, *children], _ORPHAN_SECONDS)
    except psutil.NoSuchProcess:
        return
