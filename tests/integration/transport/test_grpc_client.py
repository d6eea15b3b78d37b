"""What gRPC's own client gets from the transport."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from server.transport import Code, Metadata, Options, Peer, StatusError
from tests.integration.transport.support import (
    BREAK,
    CHAT,
    COUNT,
    ECHO,
    FAIL,
    FOREVER,
    METADATA,
    SLEEP,
    Served,
    serving,
)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as one:
        yield one


@pytest.fixture
async def channel(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(served.address, options=[("grpc.max_receive_message_length", -1)]) as one:
        yield one


async def _error(call: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_535, 1_000_000, 4 * 1024 * 1024])
async def test_messages_of_all_sizes(channel: grpc.aio.Channel, size: int):
    message = b"m" * size
    assert await channel.unary_unary(ECHO)(message) == message


async def test_many_concurrent_calls(channel: grpc.aio.Channel):
    answers = await asyncio.gather(*(channel.unary_unary(SLEEP)(b"%d" % (k % 20)) for k in range(1000)))
    assert answers == [b"%d" % (k % 20) for k in range(1000)]


async def test_big_messages_at_the_same_time(channel: grpc.aio.Channel):
    messages = [bytes([k]) * 1_000_000 for k in range(6)]
    assert await asyncio.gather(*map(channel.unary_unary(ECHO), messages)) == messages


async def test_a_message_beyond_the_limit_is_refused(channel: grpc.aio.Channel):
    error = await _error(channel.unary_unary(ECHO)(b"m" * (4 * 1024 * 1024 + 1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194305 bytes" in str(error.details())
    assert await channel.unary_unary(ECHO)(b"again") == b"again"


async def test_statuses_with_details_and_metadata(channel: grpc.aio.Channel):
    text = 'Grüße: 100 %\nund "mehr" 漢'
    error = await _error(channel.unary_unary(FAIL)(text.encode()))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, text)
    trailers = dict(error.trailing_metadata())
    assert trailers == {"grpc-status-details-bin": b"\x08\x09", "x-trailer": "t"}


async def test_defects_are_told_without_our_words(served: Served, channel: grpc.aio.Channel):
    error = await _error(channel.unary_unary(BREAK)(b""))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error)
    assert [(path, repr(cause)) for path, cause in served.failures] == [(BREAK, "KeyError('a secret of ours')")]


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel):
    assert (await _error(channel.unary_unary("/test.Test/Other")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_metadata_both_ways(channel: grpc.aio.Channel):
    sent = (("x-text", "a"), ("x-text", "b"), ("x-data-bin", b"\0\1\xff"), ("x-data-bin", b""))
    call = channel.unary_unary(METADATA)(b"", metadata=sent)
    answer = await call
    assert b"x-text=['a', 'b']" in answer
    assert b"x-data-bin=[b'\\x00\\x01\\xff', b'']" in answer
    initial, final = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    assert initial["x-initial"] == "i"
    assert initial["x-initial-bin"] == b"\0\xff"
    assert (final["x-final"], final["x-final-bin"]) == ("f", b"\1")


async def test_a_deadline_cancels_the_handler(served: Served, channel: grpc.aio.Channel):
    error = await _error(channel.unary_unary(SLEEP)(b"5000", timeout=0.1))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await _until(lambda: served.cancelled == ["sleep"])
    assert served.server.waiting == 0


async def test_a_handler_knows_how_much_time_is_left(served: Served, channel: grpc.aio.Channel):
    await channel.unary_unary(SLEEP)(b"1", timeout=30)
    left = served.calls[0].time_left()
    assert left is not None
    assert 25 < left < 31  # gRPC sends it rounded up


async def test_cancellation_cancels_the_handler(served: Served, channel: grpc.aio.Channel):
    call = channel.unary_unary(SLEEP)(b"5000")
    await _until(lambda: served.server.waiting == 1)
    call.cancel()
    await _until(lambda: served.cancelled == ["sleep"])
    assert served.server.waiting == 0


async def test_a_lost_connection_cancels_the_handler(served: Served):
    channel = grpc.aio.insecure_channel(served.address)
    channel.unary_unary(SLEEP)(b"5000")
    await _until(lambda: served.server.waiting == 1)
    await channel.close()
    await _until(lambda: served.cancelled == ["sleep"])


async def test_server_streaming(channel: grpc.aio.Channel):
    assert [answer async for answer in channel.unary_stream(COUNT)(b"300")] == [b"%d" % k for k in range(300)]


async def test_a_stream_of_nothing(channel: grpc.aio.Channel):
    assert [answer async for answer in channel.unary_stream(COUNT)(b"0")] == []


async def test_a_cancelled_stream_ends_its_handler(served: Served, channel: grpc.aio.Channel):
    call = channel.unary_stream(FOREVER)(b"x")
    assert await call.read() == b"x"
    call.cancel()
    await _until(lambda: served.cancelled == ["forever"])


async def test_a_stream_whose_deadline_passes(served: Served, channel: grpc.aio.Channel):
    call = channel.unary_stream(FOREVER)(b"x" * 10_000, timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await _until(lambda: served.cancelled == ["forever"])


async def test_a_slow_reader_of_a_stream_holds_its_handler_back(served: Served, channel: grpc.aio.Channel):
    call = channel.unary_stream(FOREVER)(b"x" * 100_000)
    await call.read()
    await asyncio.sleep(0.3)
    connections = served.server._connections
    assert max(connection.sender.pending_bytes for connection in connections) <= 200_000
    call.cancel()


async def test_a_conversation(channel: grpc.aio.Channel):
    call = channel.stream_stream(CHAT)()
    for size in (1, 10, 100_000, 1_000_000):
        await call.write(b"a" * size)
        assert await call.read() == b"A" * size
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_compressed_both_ways(served: Served):
    message = b"abc" * 100_000
    async with grpc.aio.insecure_channel(served.address, compression=grpc.Compression.Gzip) as channel:
        assert await channel.unary_unary(ECHO)(message) == message
        assert await channel.unary_unary(ECHO)(b"small") == b"small"
        assert [answer async for answer in channel.unary_stream(COUNT)(b"3")] == [b"0", b"1", b"2"]


async def test_an_unknown_compression_is_refused_with_what_is_accepted(served: Served):
    async with grpc.aio.insecure_channel(served.address, compression=grpc.Compression.Deflate) as channel:
        call = channel.unary_unary(ECHO)(b"abc" * 100_000)
        error = await _error(call)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "identity,gzip" in str(error.details())


async def test_a_bomb_is_not_inflated(served: Served):
    async with grpc.aio.insecure_channel(served.address, compression=grpc.Compression.Gzip) as channel:
        error = await _error(channel.unary_unary(ECHO)(bytes(5 * 1024 * 1024)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_headers_beyond_the_limit_are_refused():
    async with serving(Options(header_list_limit=4096)) as served:
        options = [("grpc.max_metadata_size", 100_000)]
        async with grpc.aio.insecure_channel(served.address, options=options) as channel:
            error = await _error(channel.unary_unary(ECHO)(b"", metadata=[("x", "a" * 3900)]))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await channel.unary_unary(ECHO)(b"fits") == b"fits"


async def test_calls_beyond_the_limit_are_refused_but_not_those_of_streams_that_never_end():
    async with serving(Options(most_waiting=10)) as served, grpc.aio.insecure_channel(served.address) as channel:
        calls = [channel.unary_unary(SLEEP)(b"300") for _ in range(30)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        codes = [end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)]
        assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 20
        assert served.server.statistics.overloads == 20


async def test_keys_are_checked_once_for_headers_that_repeat():
    asked = []

    def authorise(path: str, metadata: Metadata, peer: Peer) -> str:
        asked.append((path, dict(metadata), peer.address))
        if metadata.get("authorization") != "Bearer good":
            raise StatusError(Code.UNAUTHENTICATED, "no such key")
        return "somebody"

    async with serving(authorise=authorise) as served, grpc.aio.insecure_channel(served.address) as channel:
        for k in range(20):
            good = [("authorization", "Bearer good"), ("traceparent", f"{k}")]
            assert await channel.unary_unary(ECHO)(b"x", metadata=good, timeout=k + 10) == b"x"
        assert len(asked) <= 3
        assert asked[0] == (ECHO, {"authorization": "Bearer good"}, "127.0.0.1")
        asked.clear()
        for k in range(20):
            error = await _error(channel.unary_unary(ECHO)(b"x", metadata=[("authorization", "bad"), ("t", f"{k}")]))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(asked) <= 4
        served.server.forget_authorisations()
        asked.clear()
        await channel.unary_unary(SLEEP)(b"1", metadata=[("authorization", "Bearer good")])
        assert served.calls[0].caller == "somebody"
        assert len(asked) == 1


async def test_a_hook_may_take_its_time():
    asked = []

    async def find(key: str) -> str:
        await asyncio.sleep(0.01)
        if key == "bad":
            raise StatusError(Code.PERMISSION_DENIED, "no")
        return key

    def authorise(_: str, metadata: Metadata, __: Peer) -> object:
        asked.append(metadata.get("authorization"))
        return find(str(metadata.get("authorization")))

    async with serving(authorise=authorise) as served, grpc.aio.insecure_channel(served.address) as channel:
        assert await channel.unary_unary(SLEEP)(b"1", metadata=[("authorization", "good")]) == b"1"
        assert await channel.unary_unary(ECHO)(b"1", metadata=[("authorization", "good")]) == b"1"
        assert served.calls[0].caller == "good"
        error = await _error(channel.unary_unary(ECHO)(b"1", metadata=[("authorization", "bad")]))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert asked == ["good", "good", "bad"]


async def _until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
