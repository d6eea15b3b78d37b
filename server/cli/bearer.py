"""Sends the API key with every call, escapes what is answered, and gives a deadline to each call that has none."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from server.cli.escaping import escape_message

_TIMEOUT_SECONDS = 10.0


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class BearerKey(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg] # generic in its stubs only
    """Adds the metadata "authorization: Bearer KEY" to calls."""

    def __init__(self, key: str) -> None:
        self._metadata = (("authorization", f"Bearer {key}"),)

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Pass the call on, with the key and a deadline. What comes back is escaped: it has texts of other people."""
        details = client_call_details
        timeout = _TIMEOUT_SECONDS if details.timeout is None else details.timeout
        named = _Details(details.method, timeout, self._metadata, details.credentials, None, None)
        call = continuation(named, request)  # type: ignore[arg-type] # the stubs want the class, not its shape
        if call.exception() is None:
            escape_message(call.result())
        return call
