"""Repeats calls while a server restarts. Only for calls that may be repeated, as all calls of a replay may."""

import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from server.cli.replay.errors import RefusedError

T = TypeVar("T")
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # the event streams are full
    grpc.StatusCode.CANCELLED,  # a server that stops answers this to calls in flight
}
_PASSING_NUMBERS = {code.value[0] for code in _PASSING}
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0


def with_retries(call: Callable[[], T], give_up_after: float = 60.0) -> T:
    """Return what the call returns. While it fails for a passing reason, try again after delays that double.

    Raises:
        grpc.RpcError, RefusedError: for a lasting reason, or after `give_up_after` seconds.
    """
    deadline = time.monotonic() + give_up_after
    delay = _FIRST_DELAY
    while True:
        try:
            return call()
        except (grpc.RpcError, RefusedError) as error:
            if not _passes(error) or time.monotonic() + delay > deadline:
                raise
        time.sleep(delay)
        delay = min(2 * delay, _LONGEST_DELAY)


def _passes(error: Exception) -> bool:
    if isinstance(error, RefusedError):
        return error.status.code in _PASSING_NUMBERS
    return isinstance(error, grpc.Call) and error.code() in _PASSING
