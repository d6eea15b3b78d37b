"""Serves AllocationService on the transport of our own."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial

from server import metrics
from server.api.allocation.servicer import SERVICE, AllocationServicer
from server.api.status import grpc_code, status_of_failure
from server.api.transport import status_error
from server.transport import Call, Code, Method, immediate, unary

_OK, _CANCELLED = "OK", "CANCELLED"
_METHODS = frozenset({"AllocateUser", "AllocateUsers", "RecordConversion", "RecordConversions"})


def allocation_methods(servicer: AllocationServicer) -> Mapping[str, Method]:
    """Return the methods of AllocationService by path."""
    return {
        _path("AllocateUser"): immediate(_AllocateUser(servicer).begin),
        _path("AllocateUsers"): unary(_observed("AllocateUsers", servicer.allocate_users)),
        _path("RecordConversion"): unary(_observed("RecordConversion", servicer.record_conversion)),
        _path("RecordConversions"): unary(_observed("RecordConversions", servicer.record_conversions)),
    }


def observe_refusal(path: str, code: Code) -> None:
    """Count a call of AllocationService that the transport refused. Other paths are not counted."""
    service, _, method = path[1:].rpartition("/")
    if service == SERVICE and method in _METHODS:
        _times(method).observe(code.name, 0.0)


@cache
def _times(method: str) -> metrics.CallTimes:
    return metrics.CallTimes(method)


class _AllocateUser:
    """AllocateUser without a task: it is answered at once, or by a callback."""

    def __init__(self, servicer: AllocationServicer) -> None:
        self._begin = servicer.begin_allocate_user
        self._observe = _times("AllocateUser").observe

    def begin(self, call: Call, message: bytes) -> bytes | None:
        began_at = time.perf_counter()
        try:
            begun = self._begin(message, partial(self._answer, call, began_at))
        except Exception as error:
            self._fail(call, began_at, error)
            return None
        if isinstance(begun, bytes):
            self._observe(_OK, time.perf_counter() - began_at)
            return begun
        call.on_cancel(partial(self._cancel, began_at, begun.cancel))
        return None

    def _answer(self, call: Call, began_at: float, answer: bytes | Exception) -> None:
        if isinstance(answer, Exception):
            self._fail(call, began_at, answer)
        else:
            self._observe(_OK, time.perf_counter() - began_at)
            call.reply(answer)

    def _fail(self, call: Call, began_at: float, error: Exception) -> None:
        status = status_of_failure(error, call.path)
        self._observe(grpc_code(status).name, time.perf_counter() - began_at)
        call.fail_with(status_error(status))

    def _cancel(self, began_at: float, cancel: Callable[[], object]) -> None:
        self._observe(_CANCELLED, time.perf_counter() - began_at)
        cancel()


def _observed(name: str, handle: Callable[[bytes], Awaitable[bytes]]) -> Callable[[Call, bytes], Awaitable[bytes]]:
    times = _times(name)

    async def observed(call: Call, message: bytes) -> bytes:
        began_at = time.perf_counter()
        code = _CANCELLED
        try:
            answer = await handle(message)
            code = _OK
            return answer
        except Exception as error:
            status = status_of_failure(error, call.path)
            code = grpc_code(status).name
            raise status_error(status) from None
        finally:
            times.observe(code, time.perf_counter() - began_at)

    return observed


def _path(method: str) -> str:
    return f"/{SERVICE}/{method}"
