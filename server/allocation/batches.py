"""Batches of up to 1,000 items: in chunks, and in short turns, so that single calls run between."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

import structlog
from google.rpc import status_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.errors import InvalidFieldError, SamplitError
from server.allocation.allocate import Allocate, Allocation, NotLoadedError, Pending
from server.allocation.convert import Convert
from server.allocation.messages import allocation_item, allocation_request, conversion_request, conversion_results
from server.allocation.records import OUTAGE
from server.status import OK, as_samplit_error, to_status
from storage.records import Found

log = structlog.get_logger()
_MOST_ITEMS = 1_000
_CHUNK = 32  # items that go to Redis together
_TURN_SECONDS, _WAIT_SECONDS = 0.000_2, 0.001
_Prepared: TypeAlias = Allocation | Pending | status_pb2.Status


class Batches:
    """The use cases, many at once. `singles` is how many single calls are under way, which go first."""

    def __init__(self, allocate: Allocate, convert: Convert) -> None:
        """Holds no other state."""
        self.singles = 0
        self._lock = asyncio.Lock()  # one batch has a turn at a time
        self._allocate = allocate
        self._convert = convert

    async def allocate(self, messages: Sequence[pb.AllocateUserRequest], now: datetime) -> bytes:
        """A serialised AllocateUsersResponse. Raises InvalidFieldError if there are too many.

        While Redis works on a chunk, the next one is prepared.
        """
        _check_size(messages)
        turn = _Turn(self)
        items: list[bytes] = []
        variants: dict[tuple[str, str], pb.Variant] = {}
        under_way: tuple[list[_Prepared], asyncio.Task[list[Found | Exception]]] | None = None
        for start in range(0, len(messages), _CHUNK):
            prepared = []
            async with self._lock:
                for message in messages[start : start + _CHUNK]:
                    prepared.append(await self._prepare(message, now))
                    await turn.over()
            before, under_way = under_way, (prepared, self._record(prepared))
            if before is not None:
                await self._finish(*before, turn, items, variants)
        if under_way is not None:
            await self._finish(*under_way, turn, items, variants)
        said = pb.AllocateUsersResponse(variants={"/".join(name): message for name, message in variants.items()})
        return b"".join((*items, said.SerializeToString()))

    async def convert(
        self, messages: Sequence[pb.RecordConversionRequest], now: datetime
    ) -> pb.RecordConversionsResponse:
        """The outcome of every item, in order. Raises InvalidFieldError if there are too many."""
        _check_size(messages)
        items: list[pb.RecordConversionsResponse.Item] = []
        for start in range(0, len(messages), _CHUNK):
            chunk = messages[start : start + _CHUNK]
            items += await asyncio.gather(*(self._conversion(message, now) for message in chunk))
        return pb.RecordConversionsResponse(items=items)

    async def _prepare(self, message: pb.AllocateUserRequest, now: datetime) -> _Prepared:
        try:
            request = allocation_request(message, now)
            try:
                return self._allocate.prepare_now(request)
            except NotLoadedError:
                return await self._allocate.prepare(request)
        except Exception as error:
            return _status(error)

    def _record(self, prepared: list[_Prepared]) -> asyncio.Task[list[Found | Exception]]:
        lookups = [each.lookup for each in prepared if isinstance(each, Pending)]
        return asyncio.create_task(self._allocate.records.allocate_all(lookups))

    async def _finish(
        self,
        prepared: list[_Prepared],
        recording: asyncio.Task[list[Found | Exception]],
        turn: "_Turn",
        items: list[bytes],
        variants: dict[tuple[str, str], pb.Variant],
    ) -> None:
        found = iter(await recording)
        async with self._lock:
            for each in prepared:
                outcome = await self._outcome(each, next(found)) if isinstance(each, Pending) else each
                if isinstance(outcome, Allocation):
                    items.append(allocation_item(outcome))
                    name = outcome.snapshot.experiment.experiment_id, outcome.variant.variant_id
                    if name not in variants:
                        variants[name] = outcome.snapshot.answers[outcome.variant.number].message
                else:
                    item = pb.AllocateUsersResponse.Item(status=outcome)
                    items.append(pb.AllocateUsersResponse(items=[item]).SerializeToString())
                await turn.over()

    async def _outcome(self, pending: Pending, found: Found | Exception) -> Allocation | status_pb2.Status:
        try:
            if isinstance(found, OUTAGE):
                return await self._allocate.during_outage(pending)
            if isinstance(found, Exception):
                raise found
            return await self._allocate.finish(pending, found)
        except Exception as error:
            return _status(error)

    async def _conversion(
        self, message: pb.RecordConversionRequest, now: datetime
    ) -> pb.RecordConversionsResponse.Item:
        try:
            results = await self._convert(conversion_request(message, now))
        except Exception as error:
            return pb.RecordConversionsResponse.Item(status=_status(error))
        return pb.RecordConversionsResponse.Item(status=OK, results=conversion_results(results))


def _check_size(messages: Sequence[object]) -> None:
    if len(messages) > _MOST_ITEMS:
        raise InvalidFieldError.of("requests", f"must have at most {_MOST_ITEMS} items, has {len(messages)}")


class _Turn:
    """What a batch may take of the event loop at a time."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._ends = time.perf_counter() + _TURN_SECONDS

    async def over(self) -> None:
        """Let single calls run, if it is their turn: to their end, unless there are always some."""
        now = time.perf_counter()
        if now < self._ends:
            return
        latest = now + _WAIT_SECONDS
        await asyncio.sleep(0)
        while self._batches.singles and time.perf_counter() < latest:  # noqa: ASYNC110 (an event for each call costs)
            await asyncio.sleep(0)
        self._ends = time.perf_counter() + _TURN_SECONDS


def _status(error: Exception) -> status_pb2.Status:
    known = as_samplit_error(error)
    if known is None:
        log.error("item failed", exc_info=error)
        known = SamplitError("the server failed; its log says why")
    return to_status(known)
