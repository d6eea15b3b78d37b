"""The load generator against real gRPC servers: what it sends arrives, what it says of the answers is so."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import allocation_service_pb2_grpc as pb_grpc

from tests.benchmarks.load import frames, messages
from tests.benchmarks.load.generator import closed_loop, connected, open_loop
from tests.benchmarks.load.http2 import Connection, Reply
from tests.benchmarks.testbed import noop
from tests.benchmarks.testbed.noop import Hold

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNAUTHENTICATED = 0, 3, 4, 16
METADATA = (("authorization", "Bearer key"),)


class Echo(pb_grpc.AllocationServiceServicer):
    """Answers the identifier, and does what some of them say."""

    def __init__(self) -> None:
        self.calls = self.under_way = self.most = 0

    async def AllocateUser(self, request: pb.AllocateUserRequest, context: grpc.aio.ServicerContext) -> object:  # noqa: N802
        self.calls += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if ("authorization", "Bearer key") not in context.invocation_metadata():
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who?")
            if request.user_identifier == "bad":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "as the test wants")
            if request.user_identifier == "slow":
                await asyncio.sleep(60)
            if request.user_identifier == "stall":
                time.sleep(0.4)  # noqa: ASYNC251 # the server answers nobody meanwhile
            await asyncio.sleep(0.001)
            return pb.AllocateUserResponse(assignment_id=request.user_identifier)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def serving(port: int = 0, **options: int) -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo()
    server = grpc.aio.server(options=[(f"grpc.{name}", value) for name, value in options.items()])
    pb_grpc.add_AllocationServiceServicer_to_server(echo, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield echo, port
    finally:
        await server.stop(0)


def request(identifier: str) -> bytes:
    return pb.AllocateUserRequest(experiment_id="e", user_identifier=identifier).SerializeToString()


async def reply_to(connection: Connection, message: bytes, seconds: float | None = 30.0) -> Reply:
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    connection.call(message, future.set_result, seconds)
    return await future


@asynccontextmanager
async def connection_to(port: int, metadata: tuple[tuple[str, str], ...] = METADATA) -> AsyncIterator[Connection]:
    async with connected("127.0.0.1", port, messages.ALLOCATE_USER, metadata, 1) as (connection,):
        yield connection


async def test_answers_have_their_statuses() -> None:
    async with serving() as (_, port):
        async with connection_to(port) as connection:
            for identifier, status in [("a", OK), ("bad", INVALID_ARGUMENT), ("b", OK), ("bad", INVALID_ARGUMENT)]:
                reply = await reply_to(connection, request(identifier))
                assert reply.status == status
                if status == OK:
                    assert pb.AllocateUserResponse.FromString(reply.message).assignment_id == identifier
            assert (await reply_to(connection, request("slow"), 0.05)).status == DEADLINE_EXCEEDED
            replies = await asyncio.gather(*(reply_to(connection, request(f"u{n}"), None) for n in range(50)))
            assert [pb.AllocateUserResponse.FromString(r.message).assignment_id for r in replies] == [
                f"u{n}" for n in range(50)
            ]
        async with connection_to(port, ()) as stranger:
            assert (await reply_to(stranger, request("a"))).status == UNAUTHENTICATED


async def test_a_call_without_an_answer_ends_at_its_deadline_and_is_cancelled() -> None:
    received, left = bytearray(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.frame(frames.SETTINGS, 0, 0, b""))
        while some := await reader.read(4096):
            received.extend(some)
        writer.close()
        left.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with connection_to(port) as connection:
        late, later = await asyncio.gather(*(reply_to(connection, request("a"), seconds) for seconds in (0.5, 1.5)))
        assert (late.status, later.status) == (DEADLINE_EXCEEDED, DEADLINE_EXCEEDED)
        assert 0.5 <= late.seconds < 1.5 <= later.seconds < 3.0
    await left.wait()
    for stream in (1, 3):
        assert frames.frame(frames.RST_STREAM, 0, stream, frames.NUMBER.pack(frames.CANCEL)) in received
    server.close()
    await server.wait_closed()


async def test_long_messages_arrive_whole() -> None:
    async with serving() as (_, port), connection_to(port) as connection:
        names = [letter * 300 * 1024 for letter in "abc"]
        replies = await asyncio.gather(*(reply_to(connection, request(name)) for name in [*names, "short"]))
        answers = [pb.AllocateUserResponse.FromString(reply.message).assignment_id for reply in replies]
        assert answers == [*names, "short"]


async def test_no_more_calls_at_once_than_the_server_wants() -> None:
    async with serving(max_concurrent_streams=4) as (echo, port), connection_to(port) as connection:
        outcome = await closed_loop([connection], messages.users("e", "u"), concurrency=32, most=200)
        assert (outcome.calls, outcome.counts, echo.most) == (200, {OK: 200}, 4)


async def test_connections_that_the_server_ends_are_made_again() -> None:
    ages = {"max_connection_age_ms": 100, "max_connection_age_grace_ms": 2000}
    async with serving(**ages) as (echo, port), connection_to(port) as connection:
        outcome = await closed_loop([connection], messages.users("e", "u"), concurrency=8, seconds=0.5)
    assert outcome.counts == {OK: outcome.calls}
    assert outcome.calls == echo.calls


async def test_a_server_that_comes_back_is_found() -> None:
    async with serving() as (_, port):
        connection = await Connection.open("127.0.0.1", port, messages.ALLOCATE_USER, METADATA)
        under_way = asyncio.create_task(reply_to(connection, request("slow")))
        await asyncio.sleep(0.05)
    assert (await under_way).status != OK
    assert (await reply_to(connection, request("a"), 0.3)).status in (frames.UNAVAILABLE, DEADLINE_EXCEEDED)
    async with serving(port):
        assert (await reply_to(connection, request("a"))).status == OK
        connection.close()


async def test_the_open_loop_keeps_its_rate_and_sees_a_stall() -> None:
    def message(number: int) -> bytes:
        return request("stall" if number == 100 else f"u{number}")

    async with serving() as (_, port), connection_to(port) as connection:
        outcome = await open_loop([connection], message, rate=100, seconds=3.0)
    assert (outcome.calls, outcome.counts) == (300, {OK: 300})
    assert 2.96 < outcome.seconds < 3.6
    assert outcome.rate == outcome.calls / outcome.seconds
    assert sum(outcome.latencies > 0.2) >= 19  # the calls due in the first half of the stall
    assert outcome.quantile(1.0) == max(outcome.latencies)


@pytest.mark.parametrize("segmented", [False, True])
def test_requests_are_what_protobuf_makes(segmented: bool) -> None:
    user = messages.users("checkout", "ünï-", segmented=segmented)
    seen = Counter()
    for number in range(1_000):
        parsed = pb.AllocateUserRequest.FromString(user(number))
        assert parsed.SerializeToString(deterministic=True) == user(number)
        assert (parsed.experiment_id, parsed.user_identifier) == ("checkout", f"ünï-{number:010d}")
        seen[parsed.web.utm_source, parsed.web.country_code, parsed.web.user_agent] += 1
    assert len(seen) == (160 if segmented else 1)
    with pytest.raises(ValueError, match="at most 117"):
        messages.users("checkout", "u" * 118)


def test_batches_are_what_protobuf_makes() -> None:
    user = messages.users("checkout", "u", segmented=True)
    parsed = pb.AllocateUsersRequest.FromString(messages.batch(user, 5, 300))
    assert [request.SerializeToString(deterministic=True) for request in parsed.requests] == [
        user(number) for number in range(5, 305)
    ]


def test_users_return_in_the_share_that_is_asked_for() -> None:
    new, known = messages.users("e", "new-"), messages.users("e", "known-")
    message = messages.mix(new, messages.returning(known, 100), 0.3)
    names = [pb.AllocateUserRequest.FromString(message(n)).user_identifier for n in range(10_000)]
    returned = Counter(name for name in names if name.startswith("known-"))
    assert 2_950 < returned.total() < 3_050
    assert set(returned) == {f"known-{n:010d}" for n in range(100)}
    assert max(returned.values()) < 60
    assert len({name for name in names if name.startswith("new-")}) == 10_000 - returned.total()


async def test_held_answers_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noop, "_MOST_SECONDS", 10.0)  # a busy machine takes its time
    hold = Hold()
    first = hold.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    others = [hold.wait() for _ in range(5)]
    await asyncio.sleep(0)
    assert not first.done()
    await asyncio.wait_for(asyncio.gather(first, *others), 10)
    many = [hold.wait() for _ in range(64)]
    await asyncio.sleep(0)
    assert all(each.done() for each in many)
