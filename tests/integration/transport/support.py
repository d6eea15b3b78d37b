"""A served transport with methods of each kind."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from server.transport import (
    Authorise,
    Call,
    Code,
    Method,
    Options,
    Server,
    StatusError,
    bidirectional,
    immediate,
    server_streaming,
    unary,
)

ECHO, SLEEP, FAIL, BREAK, METADATA, COUNT, CHAT, FOREVER = (
    f"/test.Test/{name}" for name in ("Echo", "Sleep", "Fail", "Break", "Metadata", "Count", "Chat", "Forever")
)


class Served:
    """What the methods saw."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.cancelled: list[str] = []
        self.failures: list[tuple[str, Exception]] = []
        self.calls: list[Call] = []


def methods(served: list[Served]) -> Mapping[str, Method]:
    async def sleep(call: Call, message: bytes) -> bytes:
        """Sleep for as many milliseconds as the message says."""
        served[0].calls.append(call)
        try:
            await asyncio.sleep(int(message) / 1000)
        except asyncio.CancelledError:
            served[0].cancelled.append("sleep")
            raise
        return message

    async def fail(_: Call, message: bytes) -> bytes:
        raise StatusError(Code.FAILED_PRECONDITION, message.decode(), b"\x08\x09", [("x-trailer", "t")])

    async def broken(_: Call, __: bytes) -> bytes:
        raise KeyError("a secret of ours")

    async def metadata(call: Call, _: bytes) -> bytes:
        call.send_with_headers([("x-initial", "i"), ("x-initial-bin", b"\0\xff")])
        call.send_with_status([("x-final", "f"), ("x-final-bin", b"\1")])
        return "\n".join(f"{name}={call.metadata.all(name)!r}" for name in sorted(call.metadata)).encode()

    async def count(_: Call, message: bytes) -> AsyncIterator[bytes]:
        for number in range(int(message)):
            yield b"%d" % number

    async def chat(_: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for message in messages:
            yield message.upper()

    async def forever(_: Call, message: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield message
                await asyncio.sleep(0.001)
        finally:
            served[0].cancelled.append("forever")

    return {
        ECHO: immediate(lambda _, message: message),
        SLEEP: unary(sleep),
        FAIL: unary(fail),
        BREAK: unary(broken),
        METADATA: unary(metadata),
        COUNT: server_streaming(count),
        CHAT: bidirectional(chat),
        FOREVER: server_streaming(forever),
    }


@asynccontextmanager
async def serving(
    options: Options | None = None,
    authorise: Authorise | None = None,
    address: str = "127.0.0.1:0",
    grace: float = 1.0,
    **more: Any,
) -> AsyncIterator[Served]:
    served: list[Served] = []
    failures: list[tuple[str, Exception]] = []

    def report(path: str, error: Exception) -> None:
        failures.append((path, error))

    server = Server(more.get("methods") or methods(served), options, authorise, report)
    served.append(Served(server, server.listen(address)))
    served[0].failures = failures
    await server.serve()
    try:
        yield served[0]
    finally:
        await server.drain(grace)
        assert server.waiting == server.open_connections == 0
