"""The sticky records as the use cases see them: coalesced calls, larger batches, and what to do in an outage."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from server.allocation.returning import ReturningUsers
from server.coalescer import Coalescer
from storage.events import ConversionEvent
from storage.records import EXISTING, NEW, Found, Lookup
from storage.redis import client, sticky
from storage.redis.keys import shard_of
from storage.redis.link import Link
from storage.redis.sticky import Answers, ConversionAnswer, EmptyShardError

OUTAGE = (*client.UNREACHABLE, EmptyShardError)


class Records:
    """Reads and writes of one process, by the shard that a user lives in."""

    def __init__(self, link: Link, shards: int, returning: ReturningUsers) -> None:
        """All of it goes through `link`."""
        self._link = link
        self._returning = returning
        self._shards = shards
        self._allocations = [Coalescer(partial(self._allocate, shard)) for shard in range(shards)]
        self._conversions = [Coalescer(partial(self._convert, shard)) for shard in range(shards)]

    def allocate(self, lookup: Lookup) -> asyncio.Future[Found]:
        """Find or store an assignment. The future raises one of OUTAGE where nobody can tell."""
        return self._allocations[shard_of(lookup.user_key, self._shards)].submit(lookup)

    def convert(self, event: ConversionEvent) -> asyncio.Future[ConversionAnswer]:
        """Accept a conversion. The future raises one of OUTAGE."""
        return self._conversions[shard_of(event.user_key, self._shards)].submit(event)

    async def allocate_all(self, lookups: Sequence[Lookup]) -> list[Found | Exception]:
        """The same for many users at once, a call for each shard that they live in."""
        by_shard: dict[int, list[int]] = {}
        for index, lookup in enumerate(lookups):
            by_shard.setdefault(shard_of(lookup.user_key, self._shards), []).append(index)
        found: list[Found | Exception] = [EmptyShardError()] * len(lookups)

        async def ask(shard: int, indices: list[int]) -> None:
            future: asyncio.Future[Sequence[Found] | Exception] = asyncio.get_running_loop().create_future()
            self._allocate(shard, [lookups[index] for index in indices], partial(_settle, future))
            answers = await future
            for position, index in enumerate(indices):
                found[index] = answers if isinstance(answers, Exception) else answers[position]

        await asyncio.gather(*(ask(shard, indices) for shard, indices in by_shard.items()))
        return found

    def _allocate(
        self, shard: int, lookups: Sequence[Lookup], done: Callable[[Sequence[Found] | Exception], None]
    ) -> None:
        def remember(found: Sequence[Found] | Exception) -> None:
            if not isinstance(found, Exception):
                for lookup, each in zip(lookups, found, strict=True):
                    if each.code in (EXISTING, NEW):
                        self._returning.put(lookup.experiment, lookup.user_key, each)
            done(found)

        sticky.allocate(self._link, shard, lookups, partial(self._answered, shard, remember))

    def _convert(
        self,
        shard: int,
        events: Sequence[ConversionEvent],
        done: Callable[[Sequence[ConversionAnswer] | Exception], None],
    ) -> None:
        sticky.convert(self._link, shard, events, partial(self._answered, shard, done))

    def _answered(self, shard: int, done: Callable[..., None], answers: "Answers | Exception") -> None:
        if isinstance(answers, Exception):
            done(answers)
        else:
            self._returning.check(shard, answers.epoch)
            done(answers.items)


def _settle(future: asyncio.Future[Sequence[Found] | Exception], answers: Sequence[Found] | Exception) -> None:
    if not future.done():
        future.set_result(answers)
