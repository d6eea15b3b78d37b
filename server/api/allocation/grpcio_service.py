"""Serves AllocationService on grpcio."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from server.api.allocation.servicer import SERVICE, AllocationServicer

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


def add_to_grpcio(servicer: AllocationServicer, server: grpc.aio.Server) -> None:
    """Register the methods. Messages are passed as bytes: they are parsed only after the key was checked."""
    methods = {
        "AllocateUser": servicer.allocate_user,
        "AllocateUsers": servicer.allocate_users,
        "RecordConversion": servicer.record_conversion,
        "RecordConversions": servicer.record_conversions,
    }
    handlers = {name: grpc.unary_unary_rpc_method_handler(_method(method)) for name, method in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _method(method: Callable[[bytes], Awaitable[bytes]]) -> "Callable[[bytes, _Context], Awaitable[bytes]]":
    async def handle(message: bytes, _context: _Context) -> bytes:
        return await method(message)

    return handle
