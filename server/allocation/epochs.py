"""Follows the epochs of the shards: which generation of sticky records each shard holds.

A shard whose records were made anew has another epoch. This process may use such records only after it has forgotten
what it remembers of the former ones.
"""

import asyncio
from contextlib import suppress

import structlog

from server.allocation.catalog import Catalog
from server.allocation.records import Records
from storage.redis import streams
from storage.redis.client import Client

log = structlog.get_logger()
_LEAST_SECONDS = 0.1  # between two looks


class Epochs:
    """Looks at every poll interval, and at once after a call that met an unknown epoch."""

    def __init__(self, redis: Client, catalog: Catalog, records: Records, poll_interval: float) -> None:
        self._redis = redis
        self._catalog = catalog
        self._records = records
        self._poll_interval = poll_interval
        self.are_complete = False  # whether every shard had its records at the last look
        self.changed = asyncio.Event()  # set after each look that found something else than the look before

    async def run(self) -> None:
        """Follow the epochs until cancelled."""
        while True:
            await asyncio.sleep(_LEAST_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._records.stale.wait(), self._poll_interval)
            self._records.stale.clear()  # a call that meets an unknown epoch sets it again
            await self.look()

    async def look(self) -> None:
        """Look once, and adopt epochs that are new. Redis out of reach counts as records that are not there."""
        try:
            are_complete = await self._adopt()
        except Exception as error:
            log.info("epochs not read", error=repr(error))
            are_complete = False
        if are_complete != self.are_complete:
            self.are_complete = are_complete
            self.changed.set()

    async def _adopt(self) -> bool:
        """Return whether all shards have their records.

        Registries are read again too: a Redis that lost its data has given the numbers of segments anew.
        """
        epochs = [epoch or b"" for epoch in await streams.epochs(self._redis, len(self._records.epochs))]
        if epochs != self._records.epochs:
            await self._catalog.reload_registries()
            self._records.adopt(epochs)
        return b"" not in epochs
