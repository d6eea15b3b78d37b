"""The numbers of segments, as this process knows them; new keys are registered in Redis."""

import asyncio

from redis.asyncio import Redis

from allocator.experiment import MAX_SEGMENTS, Experiment
from allocator.segments import GLOBAL, GLOBAL_NUMBER, OTHER, OTHER_NUMBER
from storage.redis import publications


class SegmentRegistry:
    """Keys and numbers of one segmentation version of one experiment. They never change once given."""

    def __init__(self, client: Redis, experiment: Experiment) -> None:
        """Knows "global" and "other" only, until asked."""
        self._client = client
        self._experiment = experiment
        self._numbers = {GLOBAL: GLOBAL_NUMBER}
        self._asking: dict[str, asyncio.Task[int]] = {}
        self._keys = {GLOBAL_NUMBER: GLOBAL, OTHER_NUMBER: OTHER}
        self.version = experiment.segmentation_version

    async def load(self) -> None:
        """Learn what other processes have registered."""
        rows = await publications.load_segments(self._client, self._experiment.number, self.version)
        for key, number in rows.items():
            self._learn(key, number)

    async def number(self, key: str) -> int:
        """The number of a key. Once there are MAX_SEGMENTS of them, new keys share that of "other"."""
        known = self._numbers.get(key)
        if known is not None:
            return known
        if len(self._numbers) > MAX_SEGMENTS:  # all of them, and "global"
            return OTHER_NUMBER
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._register(key))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def key(self, number: int) -> str:
        """The key of a number that some process has given."""
        if number not in self._keys:
            await self.load()
        return self._keys[number]

    async def _register(self, key: str) -> int:
        number = await publications.register_segment(self._client, self._experiment, key, MAX_SEGMENTS)
        if number == OTHER_NUMBER:
            await self.load()
        else:
            self._learn(key, number)
        return number

    def _learn(self, key: str, number: int) -> None:
        self._numbers[key] = number
        self._keys[number] = key
