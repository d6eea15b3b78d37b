"""A connection without a socket, with methods of all kinds, and what must hold of it whatever it gets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from server.transport import (
    Call,
    Code,
    Metadata,
    Method,
    Options,
    Peer,
    StatusError,
    bidirectional,
    immediate,
    server_streaming,
    unary,
)
from server.transport.connection import Connection
from server.transport.shared import Shared
from tests.unit.transport.support import FakeTransport

PATHS = ("/t.T/Now", "/t.T/Later", "/t.T/Task", "/t.T/Long", "/t.T/Many", "/t.T/Chat", "/t.T/Fail", "/t.T/None")


class _Transport(FakeTransport):
    """Ignores what is written after it was aborted, as transports do until they have told the connection."""

    is_aborted = False

    def write(self, data: bytes) -> None:
        if not self.is_aborted:
            super().write(data)

    def abort(self) -> None:
        self.is_aborted = True
        super().abort()


class Target:
    """Connections one after the other, which share what those of a server share."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()  # exceptions that left the transport or a handler
        self._later: list[Call] = []
        options = Options(control_burst=200, reset_burst=100, most_buffered=4 << 20, most_streams=64)
        self.shared = Shared(self._methods(), options, _authorise, lambda path, error: self._note(error))

    def connect(self) -> "Connection":
        """Return a connection that nobody has sent anything on."""
        connection = Connection(self.shared, lambda _: True, lambda _: None)
        connection.connection_made(_Transport())  # type: ignore[arg-type]
        return connection

    def is_over(self, connection: Connection) -> bool:
        """Return whether nothing more comes from the client."""
        return connection.is_closing or connection.transport.is_closing()

    async def send(self, connection: Connection, data: bytes) -> None:
        """Hand bytes to a connection, and let handlers go on."""
        try:
            connection.data_received(data)
        except Exception as error:
            self._note(error)
        await asyncio.sleep(0)

    async def disturb(self, connection: Connection, chance: float) -> None:
        """Let time pass, the client stop and begin to read, or a handler answer at last."""
        try:
            if chance < 0.2:
                connection.upkeep.look(self.shared.clock() + 2_000 * chance)
            elif chance < 0.6:
                if connection.sender.is_paused:
                    connection.resume_writing()
                else:
                    connection.pause_writing()
            elif chance < 0.65:
                connection.upkeep.drain(5.0)
            else:
                while self._later:
                    self._later.pop().reply(b"at last")
        except Exception as error:
            self._note(error)
        await asyncio.sleep(0)

    async def end(self, connection: Connection) -> None:
        """Lose a connection. Whatever it kept must be gone."""
        try:
            connection.connection_lost(None)
        except Exception as error:
            self._note(error)
        for _ in range(3):
            await asyncio.sleep(0)
        self._later.clear()
        shared = self.shared
        kept = (len(connection.calls.open), shared.waiting, shared.buffered, len(shared.timed))
        if any(kept):
            self.failures[f"kept after the end: {kept}"] += 1
            connection.calls.open.clear()
            shared.waiting = shared.buffered = 0
            shared.timed.clear()

    def _note(self, error: Exception) -> None:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        self.failures[f"{error!r} {where}"] += 1

    def _methods(self) -> dict[str, Method]:
        async def task(_: Call, message: bytes) -> bytes:
            await asyncio.sleep(0)
            return message

        async def long(_: Call, message: bytes) -> bytes:
            await asyncio.sleep(3600)
            return message

        async def many(_: Call, message: bytes) -> AsyncIterator[bytes]:
            for _ in range(20):
                yield message * 100

        async def chat(call: Call, received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            call.send_with_status([("x-final-bin", b"\1")])
            async for message in received:
                yield message

        async def fail(_: Call, message: bytes) -> bytes:
            raise StatusError(Code.ABORTED, "Grüße % 100", b"details")

        def later(call: Call, _: bytes) -> None:
            self._later.append(call)

        made = (
            immediate(lambda _, message: message),
            immediate(later),
            unary(task),
            unary(long),
            server_streaming(many),
            bidirectional(chat, ends_at_drain=True),
            unary(fail),
        )
        return dict(zip(PATHS, made, strict=False))


def _authorise(_: str, metadata: Metadata, __: Peer) -> Any:
    key = metadata.get("authorization")
    if key == "bad":
        raise StatusError(Code.UNAUTHENTICATED, "no such key")
    return _decide() if key == "slow" else key


async def _decide() -> str:
    await asyncio.sleep(0)
    return "slow"
