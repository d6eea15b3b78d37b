"""Reads and writes the sticky records for the use cases: single calls are coalesced, batches go as they are."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from server import metrics
from server.allocation.coalescer import Coalescer, Ticket
from server.allocation.returning_users import ReturningUsers
from storage.events import ConversionEvent
from storage.records import EXISTING, NEW, Found, Lookup
from storage.redis import client, sticky
from storage.redis.client import EmptyError, OutOfMemoryError
from storage.redis.function_connection import FunctionConnection
from storage.redis.keys import shard_of
from storage.redis.sticky import ConversionAnswer

_Answer = TypeVar("_Answer")
_LOOKUPS_IN_CALL = 2_048  # of a user in an experiment: Redis takes some two milliseconds for so many
OUTAGE = (*client.UNREACHABLE, EmptyError, OutOfMemoryError)


class _Search(NamedTuple):
    """A user, and the experiments that the user may be in."""

    user_key: bytes
    experiments: tuple[int, ...]


class Records:
    """The sticky records of all shards. A user's records are in one shard."""

    def __init__(self, connections: Sequence[FunctionConnection], returning: ReturningUsers) -> None:
        """`connections` has the function connection of each shard."""
        self._connections = connections
        self._returning = returning
        self._shards = len(connections)
        self._epochs = [b""] * len(connections)
        self._allocating, self._converting = metrics.RedisCalls("allocate"), metrics.RedisCalls("convert")
        self._finding = metrics.RedisCalls("find_experiments")
        self.stale = asyncio.Event()  # set by a call that met an epoch which is not known
        self._allocations = [
            Coalescer(partial(self._allocate, s), connection.spin_for_reply) for s, connection in enumerate(connections)
        ]
        self._conversions = [
            Coalescer(partial(self._convert, s), connection.spin_for_reply) for s, connection in enumerate(connections)
        ]
        self._searches = [Coalescer(partial(self._search, s)) for s in range(self._shards)]

    def adopt(self, epochs: Sequence[bytes]) -> None:
        """Use these epochs from now on, and forget all users who are remembered."""
        self._returning.clear()
        self._epochs = list(epochs)

    @property
    def epochs(self) -> list[bytes]:
        """The known epoch of each shard; empty before the first look."""
        return self._epochs

    def allocate(self, lookup: Lookup, done: Callable[[Found | Exception], None]) -> Ticket:
        """Find or store an assignment. `done` gets the record, or one of OUTAGE while it cannot be read.

        Raises OverloadedError.
        """
        return self._allocations[shard_of(lookup.user_key, self._shards)].submit(lookup, done)

    def convert(self, user_key: bytes, events: Sequence[ConversionEvent]) -> list[asyncio.Future[ConversionAnswer]]:
        """Accept a user's conversion in each experiment concerned. The futures raise one of OUTAGE."""
        return self._conversions[shard_of(user_key, self._shards)].submit_all(events)

    async def find_experiments(self, user_key: bytes, experiments: tuple[int, ...]) -> Sequence[int]:
        """Return which of these experiments a user is in. Raises one of OUTAGE, OverloadedError."""
        search = self._searches[shard_of(user_key, self._shards)]
        (future,) = search.submit_all([_Search(user_key, experiments)])
        found: Sequence[int] = await future
        return found

    async def allocate_all(self, lookups: Sequence[Lookup]) -> list[Found | Exception]:
        """Find or store the assignments of many users, with one call for each shard that they are in."""
        by_shard: dict[int, list[int]] = {}
        for index, lookup in enumerate(lookups):
            by_shard.setdefault(shard_of(lookup.user_key, self._shards), []).append(index)
        found: list[Found | Exception] = [EmptyError()] * len(lookups)

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
        begin = time.perf_counter()

        def remember(found: Sequence[Found] | Exception) -> None:
            if not isinstance(found, Exception):
                self._allocating.observe(time.perf_counter() - begin, len(lookups))
                for lookup, each in zip(lookups, found, strict=True):
                    if each.code in (EXISTING, NEW):
                        self._returning.put(lookup.experiment, lookup.user_key, each)
            self._answered(found, done)

        sticky.allocate(self._connections[shard], shard, self._epochs[shard], lookups, remember)

    def _convert(
        self,
        shard: int,
        events: Sequence[ConversionEvent],
        done: Callable[[Sequence[ConversionAnswer] | Exception], None],
    ) -> None:
        begin = time.perf_counter()

        def answered(answers: Sequence[ConversionAnswer] | Exception) -> None:
            if not isinstance(answers, Exception):
                self._converting.observe(time.perf_counter() - begin, len(events))
            self._answered(answers, done)

        sticky.convert(self._connections[shard], shard, self._epochs[shard], events, answered)

    def _search(
        self, shard: int, searches: Sequence[_Search], done: Callable[[Sequence[Sequence[int]] | Exception], None]
    ) -> None:
        """Make as many calls as it takes, one after the other, so that other calls get their turn in between."""
        experiments = searches[-1].experiments  # the newest: searches of one moment differ in nothing else
        at_once = max(1, _LOOKUPS_IN_CALL // max(1, len(experiments)))
        found: list[Sequence[int]] = []

        def ask() -> None:
            begin = time.perf_counter()
            users = [each.user_key for each in searches[len(found) : len(found) + at_once]]

            def take(answers: Sequence[Sequence[int]] | Exception) -> None:
                if isinstance(answers, Exception):
                    self._answered(answers, done)
                    return
                self._finding.observe(time.perf_counter() - begin, len(users))
                found.extend(answers)
                if len(found) < len(searches):
                    ask()
                else:
                    done(found)

            sticky.find_experiments(self._connections[shard], shard, self._epochs[shard], experiments, users, take)

        ask()

    def _answered(
        self, answers: Sequence[_Answer] | Exception, done: Callable[[Sequence[_Answer] | Exception], None]
    ) -> None:
        if isinstance(answers, EmptyError):
            self.stale.set()
        done(answers)


def _settle(future: asyncio.Future[Sequence[Found] | Exception], answers: Sequence[Found] | Exception) -> None:
    if not future.done():
        future.set_result(answers)
