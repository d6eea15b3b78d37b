"""Batches of up to 1,000 items: in chunks, a few of which are under way at a time, so that single calls run between."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

import structlog
from google.rpc import status_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.errors import InvalidFieldError, SamplitError
from server.allocation.allocate import Allocate, Allocation, Pending
from server.allocation.convert import Convert
from server.allocation.messages import allocation_item, allocation_request, conversion_request, conversion_results
from server.allocation.records import OUTAGE
from server.status import OK, as_samplit_error, to_status
from storage.records import Found

log = structlog.get_logger()
_MOST_ITEMS = 1_000
_CHUNK = 32  # items of a batch between which other calls may run
_UNDER_WAY = 4  # chunks that wait for Redis at a time
_Prepared: TypeAlias = Allocation | Pending | status_pb2.Status


class Batches:
    """The use cases, many at once."""

    def __init__(self, allocate: Allocate, convert: Convert) -> None:
        """Holds no state of its own."""
        self._allocate = allocate
        self._convert = convert

    async def allocate(self, messages: Sequence[pb.AllocateUserRequest], now: datetime) -> bytes:
        """A serialised AllocateUsersResponse. Raises InvalidFieldError if there are too many."""
        _check_size(messages)
        under_way: list[asyncio.Task[list[Allocation | status_pb2.Status]]] = []
        outcomes: list[Allocation | status_pb2.Status] = []
        for start in range(0, len(messages), _CHUNK):
            prepared = [await self._prepare(message, now) for message in messages[start : start + _CHUNK]]
            under_way.append(asyncio.create_task(self._record(prepared)))
            await asyncio.sleep(0)
            if len(under_way) >= _UNDER_WAY:
                outcomes += await under_way.pop(0)
        for task in under_way:
            outcomes += await task
        return _response(outcomes)

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
            return await self._allocate.prepare(allocation_request(message, now))
        except Exception as error:
            return _status(error)

    async def _record(self, prepared: list[_Prepared]) -> list[Allocation | status_pb2.Status]:
        pending = [each for each in prepared if isinstance(each, Pending)]
        found = iter(await self._allocate.records.allocate_all([each.lookup for each in pending]))
        return [await self._finish(each, next(found)) if isinstance(each, Pending) else each for each in prepared]

    async def _finish(self, pending: Pending, found: Found | Exception) -> Allocation | status_pb2.Status:
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


def _response(outcomes: Sequence[Allocation | status_pb2.Status]) -> bytes:
    items: list[bytes] = []
    variants: dict[str, pb.Variant] = {}
    for outcome in outcomes:
        if isinstance(outcome, Allocation):
            items.append(allocation_item(outcome))
            name = f"{outcome.snapshot.experiment.experiment_id}/{outcome.variant.variant_id}"
            variants[name] = outcome.snapshot.answers[outcome.variant.number].message
        else:
            item = pb.AllocateUsersResponse.Item(status=outcome)
            items.append(pb.AllocateUsersResponse(items=[item]).SerializeToString())
    return b"".join((*items, pb.AllocateUsersResponse(variants=variants).SerializeToString()))


def _status(error: Exception) -> status_pb2.Status:
    known = as_samplit_error(error)
    if known is None:
        log.error("item failed", exc_info=error)
        known = SamplitError("the server failed; its log says why")
    return to_status(known)
