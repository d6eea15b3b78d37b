"""What gRPC itself costs, where nothing is decided.

Run `python -m tests.benchmarks.testbed.noop [--hold] [--sleep SECONDS]`. The loop and the messages are those of a
server process, and the key is checked by its hash; every answer is the same. With --hold the answers wait for each
other for a moment, as ours do for a round trip to the store, and leave together. With --sleep each answer is so many
seconds late.
Says "ready PORT" on stdout; ends on SIGTERM, or when stdin does.
"""

import argparse
import asyncio
import gc
import hashlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias

import grpc
import uvloop
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import allocation_service_pb2_grpc as pb_grpc

KEY = "noop"
_OPTIONS = [("grpc.so_reuseport", 1), ("grpc.max_connection_age_ms", 60_000)]
_MOST_TICKS, _MOST_HELD, _MOST_SECONDS = 16, 64, 0.001
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class OneKey(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Checks a key as our server does: by its hash, in memory."""

    def __init__(self, text: str) -> None:
        self._known = {_hash(text)}
        self._refuses = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        for name, value in handler_call_details.invocation_metadata or ():
            if name == "authorization" and _hash(str(value).removeprefix("Bearer ")) in self._known:
                return await continuation(handler_call_details)
        return self._refuses


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def _refuse(_: bytes, context: _Context) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this API key is unknown or revoked")


class Hold:
    """Releases answers together: after 16 loop ticks without a new one, or once 64 wait, or after 1 ms."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held: list[asyncio.Future[None]] = []
        self._ticks = 0
        self._until = 0.0

    def wait(self) -> asyncio.Future[None]:
        future = self._loop.create_future()
        self._held.append(future)
        self._ticks = 0
        if len(self._held) == 1:
            self._until = perf_counter() + _MOST_SECONDS
            self._loop.call_soon(self._tick)
        return future

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks <= _MOST_TICKS and len(self._held) < _MOST_HELD and perf_counter() < self._until:
            self._loop.call_soon(self._tick)
            return
        held, self._held = self._held, []
        for future in held:
            if not future.done():
                future.set_result(None)


class Servicer(pb_grpc.AllocationServiceServicer):
    """One answer for everybody."""

    def __init__(self, hold: Hold | None = None, sleep: float = 0.0) -> None:
        self._hold = hold
        self._sleep = sleep
        self._answer = answer()

    async def AllocateUser(self, request: pb.AllocateUserRequest, context: _Context) -> pb.AllocateUserResponse:  # noqa: N802
        if self._hold is not None:
            await self._hold.wait()
        if self._sleep:
            await asyncio.sleep(self._sleep)
        return self._answer


def answer() -> pb.AllocateUserResponse:
    """As long as ours are."""
    content = Struct()
    content.update({"text": "Start now"})
    return pb.AllocateUserResponse(
        assignment_id="AAAAAQAAAAC1mZQ2Zb6m5xQe3kYyq8oV",
        variant_id="variant-a",
        variant=pb.Variant(variant_id="variant-a", name="Variant A", content=content),
        segment_key="global",
        segment_display_name="Everyone",
        reason=pb.REASON_SAMPLED,
        assignment_state=pb.ASSIGNMENT_STATE_NEW,
        assigned_at=Timestamp(seconds=1_790_000_000),
    )


async def _serve(key: str, hold: bool, sleep: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = grpc.aio.server(interceptors=[OneKey(key)], options=_OPTIONS)
    pb_grpc.add_AllocationServiceServicer_to_server(Servicer(Hold() if hold else None, sleep), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.collect()
    gc.freeze()  # as server.runtime.process does
    print(f"ready {port}", flush=True)  # noqa: T201
    threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    await stop.wait()
    await server.stop(1)


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """In a thread, because stdin may be anything."""
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server like ours that decides nothing.")
    parser.add_argument("--key", default=KEY, help="the one that opens it")
    parser.add_argument("--hold", action="store_true", help="let answers leave together")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds by which answers are late")
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments.key, arguments.hold, arguments.sleep))
