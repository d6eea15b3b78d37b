"""What hostile peers cost: the memory of one connection, and the work until it ends."""

import asyncio
import tracemalloc

import pytest

from server.transport import Call, Method, Options, immediate
from server.transport.http2 import frames
from server.transport.rpc import messages
from tests.unit.transport.attacks import ATTACKS, FLOODS, LARGE, LATER, Attack
from tests.unit.transport.support import ECHO, Client, turn

_MIB = 1024 * 1024


def _methods() -> dict[str, Method]:
    def later(_: Call, __: bytes) -> None:
        return None

    return {
        ECHO: immediate(lambda _, message: message),
        LATER: immediate(later),
        LARGE: immediate(lambda _, message: b"x" * int(message)),
    }


async def _attack(client: Client, attack: Attack) -> int:
    """Return the most bytes that were kept at once."""
    tracemalloc.start()
    try:
        client.greet()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for chunk in attack():
            client.send(chunk)
            client.transport.written = b""
            await asyncio.sleep(0)
            if client.connection.is_closing:
                break
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_a_connection_keeps_less_than_a_mebibyte(attack: Attack):
    client = Client(_methods())
    assert await _attack(client, attack) < _MIB
    assert not client.failures
    client.connection.connection_lost(None)
    assert client.shared.waiting == client.shared.buffered == 0


@pytest.mark.parametrize("attack", FLOODS, ids=lambda attack: attack.__name__)
async def test_a_flood_ends_the_connection(attack: Attack):
    client = Client(_methods())
    client.greet()
    written = b""
    for chunk in attack():
        client.send(chunk)
        written += client.transport.written[-100:]
        client.transport.written = b""
        await asyncio.sleep(0)
        if client.connection.is_closing:
            break
    assert client.connection.is_closing
    client.transport.written = written[written.rindex(b"\x07\0\0\0\0\0") - 3 :]
    (goaway,) = client.read()
    assert frames.NUMBER.unpack_from(goaway.payload, 4)[0] == frames.ErrorCode.ENHANCE_YOUR_CALM


async def test_nobody_reads_and_the_transport_is_full():
    client = Client()
    client.greet()
    client.call(b"x")
    assert len(client.answers()) == 1
    client.connection.pause_writing()
    assert not client.transport.reads
    for _ in range(50):
        client.call(b"x" * 1000)
    assert client.transport.written == b""
    client.connection.resume_writing()
    await turn()
    assert client.transport.reads
    assert len(client.answers()) == 50


async def test_bodies_of_all_streams_are_bounded_together():
    options = Options(most_buffered=4 * _MIB, receive_seconds=0)
    client = Client(options=options)
    client.greet()
    streams = [client.begin() for _ in range(50)]
    prefix = messages.PREFIX.pack(0, 4 * _MIB)
    for stream_id in streams:
        client.data(stream_id, prefix, ends=False)
    tracemalloc.start()
    for _ in range(10):
        for stream_id in streams:
            if stream_id in client.connection.calls.open:
                client.data(stream_id, b"x" * 16_000, ends=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * _MIB
    ends = [frame for frame in client.read() if frame.kind == frames.HEADERS]
    assert ends
    assert "grpc-status', '8'" in str(client.decoder.decode(ends[0].payload))


async def test_late_cancellations_are_not_held_against_a_client():
    client = Client(_methods(), Options(reset_burst=10, reset_per_second=0))
    client.greet()
    now = client.shared.clock()
    client.shared.clock = lambda: now
    client.connection.reader._connection.shared.clock = lambda: now
    later = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", LATER),
        ("content-type", "application/grpc"),
    ]
    for _ in range(100):
        stream_id = client.begin(("grpc-timeout", "1S"), headers=later)
        client.data(stream_id, messages.pack(b""))
        now += 2
        client.send(frames.reset_frame(stream_id, frames.ErrorCode.CANCEL))
    assert not client.connection.is_closing
