"""Calls on the level of frames: what reaches a handler, and what each way to end looks like."""

import asyncio

import pytest

from server.transport import Call, Code, Metadata, Options, Peer, StatusError, immediate, unary
from server.transport.http2 import frames
from server.transport.rpc import messages
from tests.unit.transport.support import ECHO, HEADERS, Client, turn

_GRPC = dict(HEADERS)


async def test_usual_calls_of_one_turn_are_one_write():
    client = Client()
    client.greet()
    client.call(b"warm up")
    client.answers()
    block = client.encoder.encode(HEADERS)
    calls = b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block)
        + frames.frame(frames.DATA, frames.END_STREAM, stream_id, messages.pack(b"%d" % stream_id))
        for stream_id in (3, 5, 7)
    )
    writes: list[bytes] = []
    client.connection.sender.write = writes.append
    client.send(calls)
    assert len(writes) == 1
    client.transport.written = writes[0]
    assert {k: body for k, (_, body) in client.answers().items()} == {k: messages.pack(b"%d" % k) for k in (3, 5, 7)}


async def test_a_call_may_be_answered_later_and_only_once():
    calls: list[Call] = []
    client = Client({ECHO: immediate(lambda call, _: calls.append(call))})
    client.greet()
    client.call()
    assert client.read() == []
    assert client.shared.waiting == 1
    calls[0].reply(b"answer")
    calls[0].reply(b"again")
    calls[0].fail(Code.INTERNAL)
    await turn()
    ((fields, body),) = client.answers().values()
    assert (fields["grpc-status"], body) == ("0", messages.pack(b"answer"))
    assert client.shared.waiting == 0


async def test_a_message_that_comes_again_starts_no_second_handler():
    started: list[bytes] = []
    client = Client({ECHO: immediate(lambda _, message: started.append(message))})
    client.greet()
    stream_id = client.begin()
    client.data(stream_id, messages.pack(b"first"))
    client.data(stream_id, messages.pack(b"second"))
    assert started == [b"first"]
    (reset,) = client.read()
    assert (reset.kind, frames.NUMBER.unpack(reset.payload)[0]) == (frames.RST_STREAM, frames.ErrorCode.STREAM_CLOSED)
    assert client.shared.waiting == 0


async def test_a_cancelled_call_tells_its_handler_and_needs_no_answer():
    calls: list[Call] = []
    told: list[str] = []

    def handler(call: Call, _: bytes) -> None:
        calls.append(call)
        call.on_cancel(lambda: told.append("cancelled"))

    client = Client({ECHO: immediate(handler)})
    client.greet()
    client.send(frames.reset_frame(client.call(), frames.ErrorCode.CANCEL))
    assert told == ["cancelled"]
    assert not calls[0].is_active
    calls[0].reply(b"late")
    await turn()
    assert client.read() == []
    assert client.shared.waiting == 0


async def test_a_call_whose_time_is_up_costs_nothing():
    asked: list[bytes] = []
    client = Client({ECHO: immediate(lambda _, message: asked.append(message) or message)})
    client.greet()
    now = client.shared.clock()
    for late in (False, True):
        client.shared.clock = lambda: now
        stream_id = client.begin(("grpc-timeout", "100m"))
        client.shared.clock = lambda late=late: now + (0.2 if late else 0.05)
        client.data(stream_id, messages.pack(b"x"))
        assert client.status() == ("4" if late else "0")
    assert asked == [b"x"]
    assert client.shared.statistics.late == 1


async def test_a_deadline_ends_a_call_that_waits():
    told: list[bool] = []
    client = Client({ECHO: immediate(lambda call, _: call.on_cancel(lambda: told.append(True)))})
    client.greet()
    client.call(b"x", ("grpc-timeout", "30m"))
    await asyncio.sleep(0.1)
    assert client.status() == "4"
    assert told == [True]
    assert client.shared.waiting == len(client.shared.timed) == 0


@pytest.mark.parametrize("text", ["", "S", "5", "5s", "-1S", "123456789S", "1.5S"])
async def test_malformed_timeouts_are_refused(text: str):
    client = Client()
    client.greet()
    client.call(b"x", ("grpc-timeout", text))
    assert client.status() == "13"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpc-web"}, "415"),
        ({"content-type": "application/grpc+json"}, "415"),
        ({":method": "GET"}, "405"),
        ({"content-type": "application/grpc+proto"}, "200"),
        ({"content-type": "application/grpc;charset=x"}, "200"),
    ],
)
async def test_only_grpc_is_spoken(changed: dict[str, str], status: str):
    client = Client()
    client.greet()
    client.data(client.begin(headers=list((_GRPC | changed).items())), messages.pack(b"x"))
    ((fields, _),) = client.answers().values()
    assert fields[":status"] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", "13"),
        (b"\0", "13"),
        (messages.pack(b"x")[:-1], "13"),
        (messages.pack(b"x") * 2, "13"),
        (b"\1" + messages.pack(b"x")[1:], "13"),
        (b"\2" + messages.pack(b"x")[1:], "13"),
        (b"\0\xff\xff\xff\xff", "8"),
    ],
)
async def test_bodies_that_are_not_one_message(body: bytes, status: str):
    client = Client()
    client.greet()
    client.data(client.begin(), body)
    assert client.status() == status


async def test_a_large_refused_request_is_stopped_and_what_follows_is_ignored():
    client = Client()
    client.greet()
    stream_id = client.begin()
    client.data(stream_id, b"\0\xff\xff\xff\xff", ends=False)
    fields, _ = client.answers()[stream_id]
    assert (fields["grpc-status"], fields["reset"]) == ("8", "0")
    client.data(stream_id, b"leftover", ends=True)
    assert client.read() == []


async def test_keys_are_checked_before_a_message_is_read():
    seen: list[bytes] = []

    def authorise(path: str, metadata: Metadata, _: Peer) -> str:
        if "authorization" not in metadata:
            raise StatusError(Code.UNAUTHENTICATED, "send a key", b"details")
        return f"{metadata['authorization']} for {path}"

    def handler(call: Call, message: bytes) -> bytes:
        seen.append(message)
        return str(call.caller).encode()

    client = Client({ECHO: immediate(handler)}, Options(message_limit=16_384), authorise)
    client.greet()
    for _ in range(3):
        client.data(client.begin(), b"\0\xff\xff\xff\xff")
        ((fields, _),) = client.answers().values()
        assert (fields["grpc-status"], fields["grpc-message"]) == ("16", "send a key")
        assert fields["grpc-status-details-bin"] == "ZGV0YWlscw"
    assert seen == []
    client.call(b"x", ("authorization", "me"))
    ((_, body),) = client.answers().values()
    assert body[5:] == b"me for /test.Test/Echo"


async def test_a_refusal_stands_for_a_second():
    allowed: list[bool] = []

    def authorise(*_: object) -> None:
        if not allowed:
            raise StatusError(Code.UNAUTHENTICATED)

    client = Client(authorise=authorise)
    client.greet()
    for _ in range(3):
        client.call()
        assert client.status() == "16"
    allowed.append(True)
    client.call()
    assert client.status() == "16"
    await asyncio.sleep(1.1)
    client.call()
    assert client.status() == "0"


async def test_nobody_asks_who_opens_too_many_streams():
    asked: list[str] = []

    async def find() -> None:
        """Take time, as a hook does that asks a store."""

    def authorise(path: str, *_: object) -> object:
        asked.append(path)
        return find()

    client = Client(options=Options(most_streams=1), authorise=authorise)
    client.greet()
    client.begin()
    client.begin(("x-new", "1"))
    (refused,) = client.read()
    assert (refused.kind, frames.NUMBER.unpack(refused.payload)[0]) == (frames.RST_STREAM, 7)
    assert asked == [ECHO]
    client.data(1, messages.pack(b"x"))
    await turn()
    assert client.status() == "0"
    client.call(b"x", ("x-new", "1"))  # the refused block is in the table of headers
    await turn()
    assert client.status() == "0"


async def test_defects_of_handlers_and_hooks_are_contained():
    async def bad_metadata(_: Call, __: bytes) -> bytes:
        raise StatusError(Code.INTERNAL, "", b"", [("Upper", "x")])

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    methods = {ECHO: immediate(broken), "/test.Test/Bad": unary(bad_metadata)}
    for authorise in (None, broken):
        client = Client(methods, authorise=authorise)
        client.greet()
        for path in methods:
            client.data(client.begin(headers=list((_GRPC | {":path": path}).items())), messages.pack(b"x"))
            await turn()
            assert client.status() == "13"
        assert len(client.failures) >= 1
        assert not client.connection.is_closing


async def test_drain_names_the_last_stream_once_the_client_has_answered():
    client = Client()
    client.greet()
    client.call()
    client.answers()
    client.connection.upkeep.drain(10)
    await turn()
    first, ping = client.read()
    assert (first.kind, frames.NUMBER.unpack_from(first.payload)[0]) == (frames.GOAWAY, 2**31 - 1)
    stream_id = client.begin()  # on its way before the client knew
    client.send(frames.ping_frame(ping.payload, ack=True))
    (last,) = client.read()
    assert frames.NUMBER.unpack_from(last.payload)[0] == stream_id
    client.begin()
    client.data(stream_id + 2, messages.pack(b"too late"))
    assert client.read() == []
    client.data(stream_id, messages.pack(b"in time"))
    assert client.status() == "0"
    assert client.connection.is_closing
