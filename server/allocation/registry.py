"""The numbers of segments, as this process knows them. New keys are registered in Redis."""

import asyncio

from allocator.segments import GLOBAL, GLOBAL_NUMBER, OTHER, OTHER_NUMBER
from storage.redis import keys, segment_registry
from storage.redis.client import Client
from storage.redis.segment_registry import Segments


class SegmentRegistry:
    """The keys and numbers of one segmentation version of one experiment. A key keeps its number for good."""

    def __init__(self, client: Client, experiment_number: int, segmentation_version: int) -> None:
        self._client = client
        self._name = keys.segments(experiment_number, segmentation_version)
        self._segments = Segments()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._keys = {GLOBAL_NUMBER: GLOBAL, OTHER_NUMBER: OTHER}
        self._learned = {GLOBAL: GLOBAL_NUMBER}

    @property
    def name(self) -> str:
        """The key of the registry in Redis."""
        return self._name

    @property
    def version(self) -> int:
        """The version of the registry when it was last read."""
        return self._segments.version

    async def load(self) -> None:
        """Read the registry from Redis."""
        self._segments = await segment_registry.load(self._client, self._name)
        self._learned = {**self._segments.active, GLOBAL: GLOBAL_NUMBER}
        self._keys = {GLOBAL_NUMBER: GLOBAL, OTHER_NUMBER: OTHER}
        for known in (self._segments.active, self._segments.retired):
            self._keys.update({number: key for key, number in known.items()})

    def known_key(self, number: int) -> str | None:
        """Return the key of a number, or None if this process does not know it."""
        return self._keys.get(number)

    def known(self, key: str, most: int) -> int | None:
        """Return the number of a key, or None if it must be registered first.

        Retired keys, and new ones beyond `most` segments, have the number of "other".
        """
        number = self._learned.get(key)
        if number is None and (key in self._segments.retired or len(self._learned) > most):  # all, and "global"
            return OTHER_NUMBER
        return number

    async def learn(self, key: str, most: int) -> None:
        """Register a key, so that its number is known. Raises EmptyError if Redis has lost the registry."""
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._register(key, most))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        await asyncio.shield(asking)

    async def key(self, number: int) -> str:
        """Return the key of a number that some process has given, or "other" if Redis does not know it any more."""
        if number not in self._keys:
            await self.load()
        return self._keys.get(number, OTHER)

    async def _register(self, key: str, most: int) -> None:
        number = await segment_registry.register(self._client, self._name, key, most)
        if number == OTHER_NUMBER:
            await self.load()
            if self.known(key, most) is None:  # there are no numbers left
                self._learned[key] = OTHER_NUMBER
        else:
            self._learned[key] = number
            self._keys[number] = key
