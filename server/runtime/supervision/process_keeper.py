"""Keeps one child process alive, and replaces it without a gap."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import structlog

from server.runtime.supervision.children import Child, ChildFailedError
from server.runtime.supervision.standby import Standby
from storage.engines.directory import DataDirectory

log = structlog.get_logger()
_FIRST_DELAY, _MOST_DELAY = 1.0, 10.0
_SHORT_LIFE = 5.0  # seconds: what dies sooner would die again
Started = TypeVar("Started")


class Keeper:
    """Keeps one child process alive. The data directory records it as `name`."""

    def __init__(
        self, name: str, role: str, environment: Mapping[str, str], directory: DataDirectory, standby: Standby
    ) -> None:
        self._standby = standby
        self._name = name
        self._role = role
        self._environment = environment
        self._directory = directory
        self._child: Child | None = None
        self._started_at = 0.0
        self._changing = asyncio.Lock()  # held while another child takes the place

    async def start(self) -> None:
        """Start the child. Raises ChildFailedError."""
        await self._start(None)

    async def _start(self, standby: asyncio.subprocess.Process | None) -> None:
        self._child = await Child.start(self._role, self._environment, standby)
        self._started_at = asyncio.get_running_loop().time()
        self._directory.record_process(self._name, self._child.pid)

    async def _start_again(self) -> None:
        await self._start(self._standby.take())

    async def keep(self) -> None:
        """Start the child again whenever it ends, until cancelled."""
        while True:
            child = self._child
            assert child is not None  # noqa: S101 (it was started)
            code = await child.wait()
            async with self._changing:
                if child is self._child:
                    log.error("process died: starting it again", process=self._name, exit_code=code)
                    lived = asyncio.get_running_loop().time() - self._started_at
                    await insist(self._name, self._start_again, ChildFailedError, lived=lived)

    async def replace(self, leaving: float, stopping: float) -> None:
        """Start a new child, then let the old one leave, and stop it.

        leaving: seconds for its calls and connections. stopping: seconds for everything else. If the new child does not
        start, the old one stays.
        """
        async with self._changing:
            old = self._child
            try:
                await self.start()
            except ChildFailedError as error:
                log.error(
                    "the replacement did not start: the old process stays", process=self._name, problem=str(error)
                )
                return
        if old is not None:
            try:
                await old.leave(leaving)
            finally:
                await old.stop(stopping)
        log.info("process replaced", process=self._name)

    async def stop(self, seconds: float) -> None:
        """Stop the child. Kill it after `seconds`."""
        if self._child is not None:
            await self._child.stop(seconds)
            self._directory.forget_process(self._name)


async def insist(
    name: str, start: Callable[[], Awaitable[Started]], failure: type[Exception], *, lived: float = 0.0
) -> Started:
    """Start something that has died, and try again until it succeeds.

    What has lived for a while is started at once; otherwise there is a delay of a second, and then ever longer ones.
    lived: for how many seconds.
    """
    delay = _FIRST_DELAY
    if lived < _SHORT_LIFE:
        await asyncio.sleep(delay)
    while True:
        try:
            return await start()
        except (failure, OSError) as error:
            delay = min(2 * delay, _MOST_DELAY)
            log.error("it did not start: trying again", process=name, problem=str(error), seconds=delay)
        await asyncio.sleep(delay)
