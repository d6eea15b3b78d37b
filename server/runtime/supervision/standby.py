"""Keeps one process prepared, which takes the place of a server or worker that dies.

A Python process with all imports and compiled kernels takes some seconds of processor time to start, and much longer
on a busy machine. The standby has done that before.
"""

import asyncio
from collections.abc import Mapping

import structlog

from server.runtime.supervision.children import STANDBY, ChildFailedError, run_process

log = structlog.get_logger()
_RETRY_SECONDS = 10.0


class Standby:
    """One prepared process, while `run` runs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Prepare a process whenever there is none, until cancelled. The process ends then."""
        try:
            while True:
                self._wanted.clear()
                if self._process is None:
                    try:
                        self._process = await run_process(STANDBY, self._environment)
                    except ChildFailedError as error:
                        log.warning("there is no standby", problem=str(error))
                        await asyncio.sleep(_RETRY_SECONDS)
                        continue
                await self._wanted.wait()
        finally:
            self.discard()

    def take(self) -> asyncio.subprocess.Process | None:
        """Return the process, which the caller owns from now on, and prepare another. None if there is none."""
        process, self._process = self._process, None
        self._wanted.set()
        return None if process is None or process.returncode is not None else process

    def discard(self) -> None:
        """End the process: what is installed may have changed since it was prepared. Another one is prepared."""
        process = self.take()
        if process is not None:
            process.kill()
