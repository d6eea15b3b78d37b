"""Child processes of the supervisor: starts one, waits for its end, stops it."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

STANDBY = "standby"  # the role of a process that is prepared for any role
_READY_SECONDS = 120.0


class ChildFailedError(Exception):
    """A child ended before it was ready."""


async def run_process(role: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Run `python -m server.runtime.process ROLE` in a session of its own, which Ctrl-C does not reach.

    Raises ChildFailedError if there cannot be another process.
    """
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.runtime.process",
            role,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    except OSError as error:  # no memory, no file descriptors, no disk
        raise ChildFailedError(f"the {role} could not start: {error.strerror}") from error


class Child:
    """A server or worker process. It ends by itself when its parent is gone."""

    def __init__(self, role: str, process: asyncio.subprocess.Process) -> None:
        """Use `start`."""
        self.role = role
        self.pid = process.pid
        self._process = process

    @classmethod
    async def start(
        cls, role: str, environment: Mapping[str, str], standby: asyncio.subprocess.Process | None = None
    ) -> Self:
        """Start a child, or let a standby become one. Returns once the child serves.

        Raises ChildFailedError; the child has ended then, as it has after a cancellation.
        """
        if standby is None:
            process = await run_process(role, environment)
        else:
            process = standby
            assert process.stdin is not None  # noqa: S101 (it was asked for)
            process.stdin.write(f"{role}\n".encode())
        child = cls(role, process)
        try:
            await child._ready()
        except BaseException:
            await child.stop(0)
            raise
        return child

    async def wait(self) -> int:
        """Wait for the end of the child, and return its exit code."""
        return await self._process.wait()

    async def leave(self, seconds: float) -> None:
        """Ask the child to end once no client needs it, and wait for that, at most `seconds`."""
        await self._end(signal.SIGUSR2, seconds)

    async def stop(self, seconds: float) -> None:
        """Ask the child to end. Kill it after `seconds`."""
        await self._end(signal.SIGTERM, seconds)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _ready(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise ChildFailedError(f"the {self.role} was not ready in {_READY_SECONDS:.0f} s") from None
        if line != b"ready\n":
            raise ChildFailedError(f"the {self.role} could not start; see above")

    async def _end(self, number: signal.Signals, seconds: float) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), seconds)
