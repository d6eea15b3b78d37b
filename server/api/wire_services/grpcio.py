"""Serves health and reflection on grpcio: the same answers as on the transport of our own, from bytes to bytes."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, NoReturn, TypeAlias

import grpc

from server.api.wire_services import health, reflection
from server.transport import StatusError

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def add_health(server: grpc.aio.Server, service: health.Health) -> None:
    """Register Check and Watch."""

    async def check(message: bytes, context: _Context) -> bytes:
        try:
            return service.check(message)
        except StatusError as error:
            aborting = _abort(context, error)
        del message, context  # grpcio keeps the error and its frames: they would keep one another for long
        return await aborting

    async def watch(message: bytes, context: _Context) -> AsyncIterator[bytes]:
        try:
            async for answer in service.watch(message):
                yield answer
            return
        except StatusError as error:
            aborting = _abort(context, error)
        del message, context
        await aborting

    _add(
        server,
        health.NAME,
        {"Check": grpc.unary_unary_rpc_method_handler(check), "Watch": grpc.unary_stream_rpc_method_handler(watch)},
    )


def add_reflection(server: grpc.aio.Server, service: reflection.Reflection) -> None:
    """Register both versions of the reflection service."""

    async def converse(messages: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        try:
            async for answer in service.converse(messages):
                yield answer
            return
        except StatusError as error:
            aborting = _abort(context, error)
        del messages, context
        await aborting

    for name in reflection.NAMES:
        _add(server, name, {reflection.METHOD: grpc.stream_stream_rpc_method_handler(converse)})


def _add(server: grpc.aio.Server, name: str, handlers: "dict[str, grpc.RpcMethodHandler[Any, Any]]") -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _abort(context: _Context, error: StatusError) -> Awaitable[NoReturn]:
    details = (("grpc-status-details-bin", error.details),) if error.details else ()
    return context.abort(_CODES[error.code], error.message, details)
