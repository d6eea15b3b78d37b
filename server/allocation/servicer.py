"""AllocationService: converts, delegates, and gives each item of a batch its own status."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog
from google.rpc import status_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import allocation_service_pb2_grpc as pb_grpc

from allocator.errors import InvalidFieldError, SamplitError
from server.allocation.allocate import Allocate, Allocation, AllocationRequest
from server.allocation.convert import Convert
from server.allocation.messages import (
    allocation_request,
    allocation_response,
    conversion_request,
    conversion_results,
)
from server.clock import Clock
from server.coalescer import Coalescer
from server.status import OK, as_samplit_error, to_status
from storage.redis.keys import shard_of
from storage.redis.sticky import Lookup, StickyRecord, StreamFull

log = structlog.get_logger()
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only
_Request = TypeVar("_Request")
_Result = TypeVar("_Result")
_MOST_ITEMS = 1_000
_YIELD_EVERY = 32  # items of a batch between which other calls may run


class AllocationServicer(pb_grpc.AllocationServiceServicer):
    """The data plane."""

    def __init__(
        self,
        allocate: Allocate,
        convert: Convert,
        coalescer: Coalescer[Lookup, StickyRecord | StreamFull | None],
        shards: int,
        clock: Clock,
    ) -> None:
        """All of it is shared with nobody but this process's calls."""
        self._allocate = allocate
        self._convert = convert
        self._coalescer = coalescer
        self._shards = shards
        self._clock = clock

    async def AllocateUser(self, request: pb.AllocateUserRequest, _context: _Context) -> pb.AllocateUserResponse:
        """See the proto."""
        allocation = await self._allocated(allocation_request(request, self._clock()))
        return allocation_response(allocation, _message(allocation))

    async def AllocateUsers(self, request: pb.AllocateUsersRequest, _context: _Context) -> pb.AllocateUsersResponse:
        """See the proto."""
        now = self._clock()

        async def one(item: pb.AllocateUserRequest) -> Allocation:
            return await self._allocated(allocation_request(item, now))

        response = pb.AllocateUsersResponse()
        for status, allocation in await _each(request.requests, one):
            if allocation is None:
                response.items.add(status=status)
                continue
            response.items.add(status=status, allocation=allocation_response(allocation, None))
            name = f"{allocation.snapshot.experiment.experiment_id}/{allocation.variant.variant_id}"
            if name not in response.variants:
                response.variants[name].CopyFrom(_message(allocation))
        return response

    async def RecordConversion(
        self, request: pb.RecordConversionRequest, _context: _Context
    ) -> pb.RecordConversionResponse:
        """See the proto."""
        results = await self._convert(conversion_request(request, self._clock()))
        return pb.RecordConversionResponse(results=conversion_results(results))

    async def RecordConversions(
        self, request: pb.RecordConversionsRequest, _context: _Context
    ) -> pb.RecordConversionsResponse:
        """See the proto."""
        now = self._clock()

        async def one(item: pb.RecordConversionRequest) -> list[pb.RecordConversionResponse.Result]:
            return conversion_results(await self._convert(conversion_request(item, now)))

        outcomes = await _each(request.requests, one)
        return pb.RecordConversionsResponse(
            items=[pb.RecordConversionsResponse.Item(status=status, results=results) for status, results in outcomes]
        )

    async def _allocated(self, request: AllocationRequest) -> Allocation:
        prepared = await self._allocate.prepare(request)
        if isinstance(prepared, Allocation):
            return prepared
        found = await self._coalescer.submit(shard_of(prepared.key, self._shards), prepared.lookup)
        return await self._allocate.finish(prepared, found)


def _message(allocation: Allocation) -> pb.Variant:
    return allocation.snapshot.messages[allocation.variant.number]


async def _each(
    items: Sequence[_Request], one: Callable[[_Request], Awaitable[_Result]]
) -> list[tuple[status_pb2.Status, _Result | None]]:
    """The outcome of every item, in order. Items of one batch share round trips."""
    if len(items) > _MOST_ITEMS:
        raise InvalidFieldError.of("requests", f"must have at most {_MOST_ITEMS} items, has {len(items)}")

    async def outcome(item: _Request) -> tuple[status_pb2.Status, _Result | None]:
        try:
            return OK, await one(item)
        except Exception as error:
            known = as_samplit_error(error)
            if known is None:
                log.error("item failed", exc_info=error)
                known = SamplitError("the server failed; its log says why")
            return to_status(known), None

    tasks = []
    for index, item in enumerate(items):
        tasks.append(asyncio.create_task(outcome(item)))
        if index % _YIELD_EVERY == _YIELD_EVERY - 1:
            await asyncio.sleep(0)
    return await asyncio.gather(*tasks)
