"""Methods: handlers of four kinds, made alike. Each takes `bytes` and gives `bytes`; none knows of frames."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.transport.rpc.call import Call

# Called with a message; returns the answer, or nothing if the call is answered later.
Start = Callable[["Call", bytes], bytes | None]


@dataclass(frozen=True)
class Method:
    """How calls of one path are answered. Made by the functions below."""

    start: Start
    streams_requests: bool = False  # `start` is called before any message came, with b""
    is_limited: bool = True  # whether its calls count among those that wait, and are refused when too many do
    message_limit: int | None = None  # bytes, where that is less than the server's limit
    ends_at_drain: bool = False  # whether a drain ends its calls at once, because they never end by themselves


def immediate(handler: Start, *, is_limited: bool = True, message_limit: int | None = None) -> Method:
    """Make a method of `def handler(call, message) -> bytes | None`.

    It answers at once, without a task, or returns nothing and calls `call.reply` or `call.fail` later. It must not
    block. Exceptions end the call like those of the other kinds.
    """
    return Method(handler, is_limited=is_limited, message_limit=message_limit)


def unary(handler: "Callable[[Call, bytes], Awaitable[bytes]]", *, is_limited: bool = True) -> Method:
    """Make a method of `async def handler(call, message) -> bytes`. It is cancelled when its call is."""

    async def run(call: "Call", message: bytes) -> None:
        call.reply(await handler(call, message))

    return Method(_as_task(run), is_limited=is_limited)


def server_streaming(
    handler: "Callable[[Call, bytes], AsyncIterator[bytes]]",
    *,
    is_limited: bool = True,
    ends_at_drain: bool = False,
    message_limit: int | None = None,
) -> Method:
    """Make a method of `async def handler(call, message)` that yields messages."""

    async def run(call: "Call", message: bytes) -> None:
        await _send_all(call, handler(call, message))

    return Method(_as_task(run), is_limited=is_limited, message_limit=message_limit, ends_at_drain=ends_at_drain)


def bidirectional(
    handler: "Callable[[Call, AsyncIterator[bytes]], AsyncIterator[bytes]]",
    *,
    is_limited: bool = True,
    ends_at_drain: bool = False,
    message_limit: int | None = None,
) -> Method:
    """Make a method of `async def handler(call, messages)` that reads an async iterator, and yields messages."""

    async def run(call: "Call", _: bytes) -> None:
        await _send_all(call, handler(call, call.messages()))

    return Method(
        _as_task(run),
        streams_requests=True,
        is_limited=is_limited,
        message_limit=message_limit,
        ends_at_drain=ends_at_drain,
    )


async def _send_all(call: "Call", answers: AsyncIterator[bytes]) -> None:
    async with aclosing(answers) as opened:  # type: ignore[type-var]
        async for answer in opened:
            await call.send(answer)
    call.finish()


def _as_task(run: "Callable[[Call, bytes], Coroutine[Any, Any, None]]") -> Start:
    def start(call: "Call", message: bytes) -> None:
        call.run(run, message)

    return start


async def contain(call: "Call", run: "Callable[[Call, bytes], Coroutine[Any, Any, None]]", message: bytes) -> None:
    """Run a handler, and end its call with whatever it raises."""
    try:
        await run(call, message)
    except asyncio.CancelledError:
        call.abandon()
        raise
    except Exception as error:
        call.fail_with(error)
