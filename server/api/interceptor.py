"""Wraps every call on grpcio: checks the key, then parses the message, and turns an error into a status.

A call is refused before grpcio has received its message, so that a caller without a key costs nearly nothing.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_status import rpc_status

from allocator.errors import MalformedRequestError
from server import metrics
from server.api.authentication import Authenticator, caller
from server.api.limits import MOST_BYTES, check_bytes
from server.api.status import grpc_code, status_of_failure

_OK, _CANCELLED = grpc.StatusCode.OK.name, grpc.StatusCode.CANCELLED.name
# generic in the stubs only
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Behaviour: TypeAlias = "Callable[[Any, _Context], Awaitable[Any]]"
_Parse: TypeAlias = "Callable[[bytes], Any] | None"


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps the methods of one server's services. Health and reflection need no key.

    Each server needs an interceptor of its own, because it knows the methods of that server.
    """

    def __init__(self, authenticator: Authenticator, scopes: Mapping[str, str]) -> None:
        """`scopes` has the scope that a service's methods need, by the full name of the service."""
        self._authenticator = authenticator
        self._scopes = scopes
        self._wrapped: dict[str, tuple[_Handler, str, metrics.CallTimes]] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the wrapped handler of the method, or one that refuses the call. Each method is wrapped once."""
        method = str(handler_call_details.method)
        known = self._wrapped.get(method)
        if known is None:
            handler = await continuation(handler_call_details)
            scope = self._scopes.get(method[1:].rpartition("/")[0])
            if scope is None or handler is None:
                return handler
            times = metrics.CallTimes(method.rpartition("/")[2])
            known = self._wrapped[method] = _wrapped(handler, method, times), scope, times
        wrapped, scope, times = known
        began_at = time.perf_counter()
        try:
            key = await self._authenticator.authenticate(_authorization(handler_call_details), scope)
        except Exception as error:
            status = status_of_failure(error, method)
        else:
            caller.set(key.key_id)  # for this task, which also runs the handler
            return wrapped
        times.observe(grpc_code(status).name, time.perf_counter() - began_at)
        return _refusing(status)


def _wrapped(handler: _Handler, method: str, times: metrics.CallTimes) -> _Handler:
    """Return a handler that takes the message as bytes, and parses it itself."""
    behaviour, parse = cast("_Behaviour", handler.unary_unary), cast("_Parse", handler.request_deserializer)

    async def guarded(message: bytes, context: _Context) -> Any:
        begin = time.perf_counter()
        code = _CANCELLED
        try:
            check_bytes(message, MOST_BYTES)
            answer = await behaviour(message if parse is None else _parsed(parse, message), context)
            code = _OK
            return answer
        except Exception as error:
            status = status_of_failure(error, method)
            code = grpc_code(status).name
        finally:
            times.observe(code, time.perf_counter() - begin)
        aborting = abort(context, status)
        del message, context, status  # grpcio keeps the error and its frames: they would keep one another for long
        return await aborting

    return grpc.unary_unary_rpc_method_handler(guarded, response_serializer=handler.response_serializer)


def _refusing(status: status_pb2.Status) -> _Handler:
    """Return a handler that fails the call without its message. A unary one would receive the message first."""

    async def refuse(messages: object, context: _Context) -> None:
        aborting = abort(context, status)
        del messages, context  # as above
        await aborting

    return grpc.stream_unary_rpc_method_handler(refuse)


def abort(context: _Context, status: status_pb2.Status) -> Awaitable[Any]:
    """Return what ends a call with a status and its details, once it is awaited."""
    converted = rpc_status.to_status(status)
    return context.abort(converted.code, converted.details, converted.trailing_metadata)


def _parsed(parse: Callable[[bytes], Any], message: bytes) -> Any:
    try:
        return parse(message)
    except DecodeError:
        raise MalformedRequestError("the request is not a valid protobuf message of its type") from None


def _authorization(details: grpc.HandlerCallDetails) -> str | None:
    for key, value in details.invocation_metadata or ():
        if key == "authorization":
            return value if isinstance(value, str) else None
    return None
