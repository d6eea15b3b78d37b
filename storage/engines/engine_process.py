"""The process of one engine: started with its output in a log, waited for while it makes progress, and stopped."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from storage.engines.directory import DataDirectory
from storage.engines.errors import EngineFailedError

_STALL_SECONDS = 30.0
_POLL_SECONDS = 0.05
_STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Sign:
    """What can be seen of an engine while it starts."""

    is_ready: bool
    progress: Hashable = None  # changes when the engine makes progress, and only then


class EngineProcess:
    """The process of the engine `name`."""

    def __init__(self, name: str, directory: DataDirectory, stop_signal: signal.Signals) -> None:
        """Nothing runs yet."""
        self.name = name
        self.log = directory.logs / f"{name}.log"
        self._directory = directory
        self._stop_signal = stop_signal
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the id of the process that was started last."""
        return None if self._process is None else self._process.pid

    async def run(self, command: Sequence[str | Path]) -> int:
        """Run a helper program of the engine, and return its exit code. Raises EngineFailedError if it stalls."""
        process = await self._spawn(command)

        async def look() -> Sign:
            return Sign(is_ready=process.returncode is not None, progress=self.work())

        await self._follow(process, look)
        self._directory.forget_process(self.name)
        return await process.wait()

    async def start(self, command: Sequence[str | Path], look: Callable[[], Awaitable[Sign]]) -> None:
        """Start the engine, and wait until it is ready, ends or stalls. Raises EngineFailedError."""
        try:
            process = await self._spawn(command)
        except OSError as error:  # no disk, no memory, no file descriptors
            raise EngineFailedError(self.name, f"could not start ({error.strerror})", self.log) from error
        await self._follow(process, look)

    def work(self) -> tuple[float, int]:
        """Return the CPU seconds of the process and its children, and the bytes that they read and wrote on disks."""
        cpu, moved = 0.0, 0
        try:
            root = psutil.Process(self.pid)
            for each in (root, *root.children(recursive=True)):
                times = each.cpu_times()
                cpu += times.user + times.system
                moved += _moved_bytes(each)
        except psutil.Error:  # a process ended meanwhile, which is progress too
            pass
        return round(cpu, 1), moved

    async def wait(self) -> None:
        """Wait until the process ends."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """Shut the engine down cleanly; if that takes a minute, force it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(self._stop_signal)
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.send_signal(signal.SIGQUIT)
                await process.wait()
        self._directory.forget_process(self.name)

    async def _spawn(self, command: Sequence[str | Path]) -> asyncio.subprocess.Process:
        account = self._directory.account
        # In a session of its own, the engine gets no Ctrl-C from the terminal: Samplit stops it when nobody needs it.
        with self.log.open("ab") as log:
            if account is None:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            else:
                os.fchown(log.fileno(), account.uid, account.gid)
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    user=account.uid,
                    group=account.gid,
                    extra_groups=[],
                    cwd=self._directory.sockets,
                )
        self._process = process
        self._directory.record_process(self.name, process.pid)
        return process

    async def _follow(self, process: asyncio.subprocess.Process, look: Callable[[], Awaitable[Sign]]) -> None:
        """Wait until the process is ready. Its time is up if neither its log nor its progress changes for a while."""
        loop = asyncio.get_running_loop()
        seen, deadline = None, loop.time() + _STALL_SECONDS
        while not (sign := await look()).is_ready:
            if process.returncode is not None:
                self._directory.forget_process(self.name)
                raise EngineFailedError(self.name, f"ended with status {process.returncode}", self.log)
            now = (self.log.stat().st_size, sign.progress)
            if now != seen:
                seen, deadline = now, loop.time() + _STALL_SECONDS
            elif loop.time() > deadline:
                await self.stop()
                raise EngineFailedError(self.name, f"made no progress for {_STALL_SECONDS:.0f} s", self.log)
            await asyncio.sleep(_POLL_SECONDS)


def _moved_bytes(process: psutil.Process) -> int:
    """Return the bytes read from and written to disks.

    0 on macOS, and for the root of a container, which may not ask about processes of other users.
    """
    if not psutil.LINUX:
        return 0
    try:
        counters = process.io_counters()
    except psutil.AccessDenied:
        return 0
    return counters.read_bytes + counters.write_bytes
