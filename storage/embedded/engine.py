"""One engine's process: started with its output in a log, waited for while it makes progress, stopped."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psutil

from storage.embedded.directory import DataDirectory
from storage.embedded.errors import EngineFailedError

_STALL_SECONDS = 30.0
_POLL_SECONDS = 0.05
_STOP_SECONDS = 60.0


class EngineProcess:
    """The process of the engine `name`."""

    def __init__(self, name: str, directory: DataDirectory, stop_signal: signal.Signals) -> None:
        """Nothing runs yet."""
        self.name = name
        self.log = directory.logs / f"{name}.log"
        self._directory = directory
        self._stop_signal = stop_signal
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, command: Sequence[str | Path]) -> int:
        """Run a helper program of the engine to its end; its exit code."""
        process = await self._spawn(command)
        return await process.wait()

    async def start(self, command: Sequence[str | Path], is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Start the engine, and wait until it is ready or stalls. Raises EngineFailedError."""
        self._process = process = await self._spawn(command)
        self._directory.record_process(self.name, process.pid)
        loop = asyncio.get_running_loop()
        seen, deadline = self._progress(), loop.time() + _STALL_SECONDS
        while not await is_ready():
            if process.returncode is not None:
                raise EngineFailedError(self.name, f"ended with status {process.returncode}", self.log)
            if self._progress() != seen:
                seen, deadline = self._progress(), loop.time() + _STALL_SECONDS
            elif loop.time() > deadline:
                await self.stop()
                raise EngineFailedError(self.name, f"made no progress for {_STALL_SECONDS:.0f} s", self.log)
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> None:
        """Until it ends."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """A clean shutdown; insisted on after a minute."""
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
        # A session of its own: Ctrl-C in the terminal is for us, and we stop the engine when nobody needs it.
        with self.log.open("ab") as log:
            if account is None:
                return await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            os.fchown(log.fileno(), account.uid, account.gid)
            return await asyncio.create_subprocess_exec(
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

    def _progress(self) -> tuple[int, float]:
        """Grows while the engine works: the size of its log, and the CPU time of its processes."""
        cpu = 0.0
        if self._process is not None:
            try:
                root = psutil.Process(self._process.pid)
                cpu = sum(sum(each.cpu_times()[:2]) for each in (root, *root.children(recursive=True)))
            except psutil.Error:
                pass
        return self.log.stat().st_size, round(cpu, 1)
