"""Child processes of the supervisor: start one, wait until it is ready, stop it."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from typing import Self

from server.runtime.exit_codes import UNUSABLE

_READY_SECONDS = 120.0


class ChildFailedError(Exception):
    """A child ended before it was ready. `final` says that starting again will not help."""

    def __init__(self, message: str, *, final: bool) -> None:
        """The message ends with what the child said last."""
        super().__init__(message)
        self.final = final


class Child:
    """A server or worker process. It ends by itself when its parent is gone."""

    def __init__(self, role: str, process: asyncio.subprocess.Process) -> None:
        """Use `start`."""
        self.role = role
        self.pid = process.pid
        self._process = process

    @classmethod
    async def start(cls, role: str, environment: Mapping[str, str]) -> Self:
        """Start `python -m server.runtime.process ROLE` in a session of its own, away from the terminal's Ctrl-C."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.runtime.process",
            role,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        return cls(role, process)

    async def ready(self) -> None:
        """Wait until it serves. Raises ChildFailedError."""
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise ChildFailedError(f"the {self.role} was not ready in {_READY_SECONDS:.0f} s", final=False) from None
        if line != b"ready\n":
            code = await self._process.wait()
            raise ChildFailedError(f"the {self.role} could not start; see above", final=code == UNUSABLE)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await self._process.wait()

    async def stop(self, seconds: float) -> None:
        """Ask it to end; insist after `seconds`."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), seconds)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
