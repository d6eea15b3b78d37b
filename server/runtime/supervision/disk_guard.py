"""Watches the disk of the data directory: when it is full, nothing new is accepted until there is room.

An engine that meets a full disk dies, and takes with it what only it can answer. So Valkey is told to refuse writes
before: users who are known keep their variant, and everything goes on by itself when there is room.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from server.tasks import repeat
from storage.engines.directory import DataDirectory
from storage.engines.disk import look_for_room

log = structlog.get_logger()
_INTERVAL_SECONDS = 1.0
_SAY_SECONDS = 60.0
_REPEAT_SECONDS = 10.0


class DiskGuard:
    """Looks once a second."""

    def __init__(self, directory: DataDirectory, refuse_writes: Callable[[bool], Awaitable[None]] | None) -> None:
        """`refuse_writes` tells Valkey whether to refuse writes; None without embedded engines. It may fail."""
        self._directory = directory
        self._refuse_writes = refuse_writes
        self._is_full = False
        self._said_at = -_SAY_SECONDS
        self._protect_at = 0.0

    async def run(self) -> None:
        """Watch until cancelled, whatever happens to the disk."""
        await repeat(self.look, _INTERVAL_SECONDS, "looking for room on the disk")

    async def look(self) -> None:
        """Look once: say what is wrong, at most once a minute, and let Valkey refuse writes or accept them."""
        room = await asyncio.to_thread(look_for_room, self._directory.path)
        problem = self._directory.save_records()
        is_full = not room.is_enough
        if is_full:
            self._say(f"disk full: {room} in {self._directory.path}: until there is room, nothing new is accepted")
        elif problem is not None:
            self._say(f"disk error in {self._directory.path}: {problem}")
        elif self._is_full:
            log.info(f"the disk has room again: {room} in {self._directory.path}")
            self._said_at = -_SAY_SECONDS
        self._is_full = is_full
        await self._protect_valkey()

    async def _protect_valkey(self) -> None:
        """Tell Valkey when that is due. One that was started meanwhile has looked for itself, perhaps too early."""
        now = time.monotonic()
        if self._refuse_writes is None or (not self._is_full and now < self._protect_at):
            return
        try:
            await self._refuse_writes(self._is_full)
        except Exception as error:  # it is being started again
            log.debug("Valkey was not told about the disk", error=repr(error))
            self._protect_at = now
        else:
            self._protect_at = now if self._is_full else now + _REPEAT_SECONDS

    def _say(self, text: str) -> None:
        if time.monotonic() - self._said_at >= _SAY_SECONDS:
            self._said_at = time.monotonic()
            log.error(text)
