"""The load generator against real gRPC servers: its requests arrive, and it reports the answers correctly."""

import asyncio
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import allocation_service_pb2_grpc as pb_grpc

from tests.benchmarks.load import frames, messages, program
from tests.benchmarks.load.generator import closed_loop, connected, open_loop
from tests.benchmarks.load.http2 import Connection, Reply
from tests.benchmarks.load.program import Load, LoadError, send
from tests.benchmarks.testbed import noop
from tests.benchmarks.testbed.noop import Hold

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNAUTHENTICATED = 0, 3, 4, 16
METADATA = (("authorization", "Bearer key"),)


class Echo(pb_grpc.AllocationServiceServicer):
    """Answers with the identifier. Some identifiers ask for an error or a delay."""

    def __init__(self) -> None:
        self.calls = self.under_way = self.most = self.stalls_at = 0
        self.requests: list[bytes] = []
        self.traces: set[str] = set()
        self.times_left: list[float | None] = []

    async def AllocateUser(self, request: pb.AllocateUserRequest, context: grpc.aio.ServicerContext) -> object:  # noqa: N802
        self.calls += 1
        self.requests.append(request.SerializeToString(deterministic=True))
        self.traces |= {value for name, value in context.invocation_metadata() if name == "traceparent"}
        self.times_left.append(context.time_remaining())
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if ("authorization", "Bearer key") not in context.invocation_metadata():
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who?")
            if request.user_identifier == "bad":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "as the test wants")
            if request.user_identifier == "slow":
                await asyncio.sleep(60)
            if request.user_identifier == "stall" or self.calls == self.stalls_at:
                time.sleep(0.4)  # noqa: ASYNC251 # the server answers nobody meanwhile
            await asyncio.sleep(0.001)
            return pb.AllocateUserResponse(assignment_id=request.user_identifier)
        finally:
            self.under_way -= 1

    async def AllocateUsers(self, request: pb.AllocateUsersRequest, context: grpc.aio.ServicerContext) -> object:  # noqa: N802
        self.requests.append(request.SerializeToString(deterministic=True))
        return pb.AllocateUsersResponse()


@asynccontextmanager
async def serving(port: int = 0, address: str = "", **options: int) -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo()
    server = grpc.aio.server(options=[(f"grpc.{name}", value) for name, value in options.items()])
    pb_grpc.add_AllocationServiceServicer_to_server(echo, server)
    port = server.add_insecure_port(address or f"127.0.0.1:{port}")
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


def on_loopback(port: int, **options: object) -> Load:
    given = {"heads": (messages.head("e"),), "connections": 2, "concurrency": 8, "calls": 400, "seconds": 30.0}
    return Load(**({"address": f"127.0.0.1:{port}", "key": "key", "prefix": "u"} | given | options))


@pytest.fixture
def compiled() -> None:
    if not any(map(shutil.which, program._COMPILERS)):
        pytest.skip("there is no C compiler")


@pytest.fixture(params=["compiled", "interpreted"])
def each_program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "interpreted":
        monkeypatch.setattr(program, "_COMPILERS", ())
    else:
        request.getfixturevalue("compiled")
    program.program.cache_clear()
    yield
    program.program.cache_clear()


@pytest.mark.usefixtures("each_program")
async def test_a_program_sends_what_messages_makes_and_counts_the_statuses() -> None:
    async with serving() as (echo, port):
        tails = tuple(messages.contexts())
        report = await send(on_loopback(port, tails=tails, prefix="ünï-", first=100))
        user = messages.users("e", "ünï-", segmented=True)
        assert sorted(echo.requests) == sorted(user(number) for number in range(100, 500))
        assert (report.calls, report.total, report.statuses) == (400, 400, {OK: 400})
        assert report.rate == 400 / report.seconds
        assert 0.001 < report.ok_times.quantile(0.5) <= report.all_times.quantile(0.99) <= report.seconds
        bad = await send(on_loopback(port, body=request("bad"), calls=20))
        assert bad.statuses == {INVALID_ARGUMENT: 20}
        assert np.isnan(bad.ok_times.quantile(0.5))
        assert (await send(on_loopback(port, key=None, calls=20))).statuses == {UNAUTHENTICATED: 20}
        slow = await send(on_loopback(port, body=request("slow"), calls=8, timeout=0.1))
        assert slow.statuses == {DEADLINE_EXCEEDED: 8}


@pytest.mark.usefixtures("each_program")
async def test_a_program_sends_users_who_return_and_batches() -> None:
    async with serving() as (echo, port):
        heads = tuple(messages.head(each) for each in "abc")
        shares = {"returning": 0.3, "pool": 20, "known_prefix": "known-"}
        await send(on_loopback(port, heads=heads, **shares))
        new, known = messages.joined(heads, "u", []), messages.joined(heads, "known-", [])
        expected = messages.mix(new, messages.returning(known, 20), 0.3)
        assert sorted(echo.requests) == sorted(expected(number) for number in range(400))
        echo.requests.clear()
        await send(on_loopback(port, path=messages.ALLOCATE_USERS, batch=3_000, calls=5))
        user = messages.users("e", "u")
        assert sorted(echo.requests) == sorted(messages.batch(user, first, 3_000) for first in range(0, 15_000, 3_000))


@pytest.mark.usefixtures("each_program")
async def test_a_program_survives_the_age_of_connections() -> None:
    ages = {"max_connection_age_ms": 100, "max_connection_age_grace_ms": 2000}
    async with serving(**ages) as (echo, port):
        report = await send(on_loopback(port, calls=None, seconds=0.5))
    assert report.statuses == {OK: report.calls}
    assert report.total == echo.calls


@pytest.mark.usefixtures("each_program")
async def test_a_program_keeps_its_rate_and_sees_a_stall() -> None:
    async with serving() as (echo, port):
        echo.stalls_at = 50
        report = await send(on_loopback(port, rate=200.0, seconds=0.75, calls=None))
    assert (report.calls, report.statuses) == (150, {OK: 150})
    assert 0.74 < report.seconds < 3
    assert report.all_times.quantile(0.88) > 0.1  # of 19 calls: due while nothing moved, and early enough


async def test_the_load_is_shared_by_processes() -> None:
    async with serving() as (echo, port):
        report = await send(on_loopback(port, calls=300), processes=3)
    assert (report.calls, report.statuses, len(set(echo.requests))) == (300, {OK: 300}, 300)


@pytest.mark.usefixtures("each_program")
async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(LoadError, match=r"127\.0\.0\.1:1\b"):
        await send(on_loopback(1))


@pytest.mark.usefixtures("compiled")
async def test_calls_that_do_not_fit_wait_and_headers_vary() -> None:
    async with serving(max_concurrent_streams=4) as (echo, port):
        report = await send(on_loopback(port, connections=1, concurrency=32, varying=True))
    assert (report.statuses, echo.most) == ({OK: 400}, 4)
    assert all(7 < left < 11 for left in echo.times_left)
    assert len(echo.traces) == 400
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace) for trace in echo.traces)


@pytest.mark.usefixtures("compiled")
async def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    async with serving(address=address) as (_, _):
        assert (await send(on_loopback(0, address=address))).statuses == {OK: 400}


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
    monkeypatch.setattr(noop, "_MOST_SECONDS", 10.0)  # so that a busy machine does not reach it
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
