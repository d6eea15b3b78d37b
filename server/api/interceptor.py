"""Wraps every call: checks the key, turns an error into a status, and observes the time that the call took."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import grpc
from grpc_status import rpc_status

from server import metrics
from server.api.authentication import Authenticator, caller
from server.api.status import grpc_code, status_of_failure

_OK, _CANCELLED = grpc.StatusCode.OK.name, grpc.StatusCode.CANCELLED.name
# generic in the stubs only
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Behaviour: TypeAlias = "Callable[[Any, _Context], Awaitable[Any]]"


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps the methods of our services. Health and reflection need no key."""

    def __init__(self, authenticator: Authenticator, scopes: Mapping[str, str]) -> None:
        """`scopes` has the scope that a service's methods need, by the full name of the service."""
        self._authenticator = authenticator
        self._scopes = scopes
        self._wrapped: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the wrapped handler of the method. Each method is wrapped once."""
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        scope = self._scopes.get(method.split("/")[1])
        if scope is None or handler is None:
            return handler
        wrapped = grpc.unary_unary_rpc_method_handler(
            self._guard(cast("_Behaviour", handler.unary_unary), scope, method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        self._wrapped[method] = wrapped
        return wrapped

    def _guard(self, behaviour: _Behaviour, scope: str, method: str) -> _Behaviour:
        times = metrics.CallTimes(method.rpartition("/")[2])

        async def guarded(request: Any, context: _Context) -> Any:
            begin = time.perf_counter()
            code = _CANCELLED
            try:
                key = await self._authenticator.authenticate(_authorization(context), scope)
                caller.set(key.key_id)
                answer = await behaviour(request, context)
                code = _OK
                return answer
            except Exception as error:
                status = status_of_failure(error, method)
                code = grpc_code(status).name
            finally:
                times.observe(code, time.perf_counter() - begin)
            converted = rpc_status.to_status(status)
            return await context.abort(converted.code, converted.details, converted.trailing_metadata)

        return guarded


def _authorization(context: _Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return str(value)
    return None
