"""AllocationService: converts, delegates, and gives each item of a batch its own status."""

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
from samplit.allocation.v1 import allocation_service_pb2 as pb

from server.allocation.allocate import Allocate
from server.allocation.convert import Convert
from server.api.allocation.batches import Batches, InFlightCalls
from server.api.allocation.messages import (
    allocation_request,
    conversion_request,
    conversion_results,
)
from server.api.allocation.wire import AllocationAnswers
from server.clock import Clock

SERVICE = pb.DESCRIPTOR.services_by_name["AllocationService"].full_name
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class AllocationServicer:
    """The data plane. Allocations are answered as bytes, joined from pieces that were serialised before."""

    def __init__(self, allocate: Allocate, convert: Convert, clock: Clock) -> None:
        self._allocate = allocate
        self._convert = convert
        self._in_flight = InFlightCalls()
        self._answers = AllocationAnswers()
        self._batches = Batches(allocate, convert, self._answers, self._in_flight)
        self._clock = clock

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the methods."""
        handlers = {
            "AllocateUser": _handler(self.AllocateUser, pb.AllocateUserRequest, None),
            "AllocateUsers": _handler(self.AllocateUsers, pb.AllocateUsersRequest, None),
            "RecordConversion": _handler(
                self.RecordConversion, pb.RecordConversionRequest, pb.RecordConversionResponse
            ),
            "RecordConversions": _handler(
                self.RecordConversions, pb.RecordConversionsRequest, pb.RecordConversionsResponse
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def AllocateUser(self, request: pb.AllocateUserRequest, _context: _Context) -> bytes:
        with self._in_flight:
            return self._answers.response(await self._allocate(allocation_request(request, self._clock())))

    async def AllocateUsers(self, request: pb.AllocateUsersRequest, _context: _Context) -> bytes:
        return await self._batches.allocate(request.requests, self._clock())

    async def RecordConversion(
        self, request: pb.RecordConversionRequest, _context: _Context
    ) -> pb.RecordConversionResponse:
        with self._in_flight:
            results = await self._convert(conversion_request(request, self._clock()))
            return pb.RecordConversionResponse(results=conversion_results(results))

    async def RecordConversions(
        self, request: pb.RecordConversionsRequest, _context: _Context
    ) -> pb.RecordConversionsResponse:
        return await self._batches.convert(request.requests, self._clock())


def _handler(method: Callable[..., Any], request: Any, response: Any) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=None if response is None else response.SerializeToString,
    )
