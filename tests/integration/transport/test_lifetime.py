"""Connections from the handshake to the end: addresses, TLS, limits, age, idleness, drain."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from server.transport import Options, Server, StatusError, server_context
from server.transport.http2 import frames
from tests.integration.transport.support import ECHO, FOREVER, SLEEP, Served, serving


@asynccontextmanager
async def _channel(address: str, **options: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address, options=list(options.items())) as channel:
        yield channel


async def _frames(reader: asyncio.StreamReader) -> list[tuple[int, int, bytes]]:
    """Return kind, flags and payload of all frames until the server hangs up."""
    found = []
    while True:
        try:
            head, flags, _ = frames.HEAD.unpack(await reader.readexactly(9))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return found
        found.append((head & 0xFF, flags, await reader.readexactly(head >> 8)))


async def _open(served: Served, *, greet: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    if greet:
        writer.write(frames.PREFACE + frames.settings_frame({}))
    return reader, writer


async def _goaway(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        found = await _frames(reader)
    return [payload for kind, _, payload in found if kind == frames.GOAWAY][-1]


# Where it listens


async def test_ipv6():
    async with serving(address="[::1]:0") as served, _channel(f"[::1]:{served.port}") as channel:
        assert await channel.unary_unary(ECHO)(b"x") == b"x"


async def test_all_addresses_of_a_name_share_a_port():
    async with serving(address="localhost:0") as served, _channel(f"localhost:{served.port}") as channel:
        assert await channel.unary_unary(ECHO)(b"x") == b"x"


async def test_a_unix_socket_is_taken_over_from_a_dead_server_only(tmp_path: Path):
    address = f"unix:{tmp_path}/s"
    async with serving(address=address), _channel(address) as channel:
        assert await channel.unary_unary(ECHO)(b"x") == b"x"
        with pytest.raises(OSError, match="in use"):
            Server({}).listen(address)
    async with serving(address=address), _channel(address) as channel:
        assert await channel.unary_unary(ECHO)(b"x") == b"x"


async def test_servers_share_a_port_only_if_they_say_so():
    first, second, third = Server({}), Server({}), Server({})
    port = first.listen("127.0.0.1:0", reuse_port=True)
    assert second.listen(f"127.0.0.1:{port}", reuse_port=True) == port
    with pytest.raises(OSError, match="in use"):
        third.listen(f"127.0.0.1:{port}")
    for server in (first, second):
        await server.serve()
        await server.drain(0)


@pytest.mark.parametrize("address", ["localhost", "localhost:x", "x:1:y"])
def test_an_address_needs_a_port(address: str):
    with pytest.raises(ValueError, match="HOST:PORT"):
        asyncio.run(_listen(address))


async def _listen(address: str) -> None:
    Server({}).listen(address)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, signed by itself, and one of a client."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("localhost", "client"):
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        keys = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subprocess.run([*make, "-days", "2", *subject, *keys], check=True, capture_output=True)
    return folder


async def test_tls(certificates: Path):
    tls = server_context(certificates / "localhost.pem", certificates / "localhost.key")
    trusted = grpc.ssl_channel_credentials((certificates / "localhost.pem").read_bytes())
    async with (
        serving(Options(tls=tls)) as served,
        grpc.aio.secure_channel(f"localhost:{served.port}", trusted) as channel,
    ):
        for size in (1, 1_000_000):
            assert await channel.unary_unary(ECHO)(b"x" * size) == b"x" * size


async def test_tls_with_client_certificates(certificates: Path):
    server, client = certificates / "localhost", certificates / "client"
    tls = server_context(server.with_suffix(".pem"), server.with_suffix(".key"), client.with_suffix(".pem"))
    root = server.with_suffix(".pem").read_bytes()
    known = [client.with_suffix(suffix).read_bytes() for suffix in (".key", ".pem")]
    async with serving(Options(tls=tls)) as served:
        async with grpc.aio.secure_channel(
            f"localhost:{served.port}", grpc.ssl_channel_credentials(root, *known)
        ) as one:
            await one.unary_unary(SLEEP)(b"1")
        certificate = served.calls[0].peer.certificate
        assert certificate is not None
        assert certificate["subject"] == ((("commonName", "client"),),)
        async with grpc.aio.secure_channel(f"localhost:{served.port}", grpc.ssl_channel_credentials(root)) as other:
            with pytest.raises(grpc.aio.AioRpcError):
                await other.unary_unary(ECHO)(b"x", timeout=2)


async def test_tls_without_http2_is_refused(certificates: Path):
    tls = server_context(certificates / "localhost.pem", certificates / "localhost.key")
    context = ssl.create_default_context(cafile=str(certificates / "localhost.pem"))
    async with serving(Options(tls=tls)) as served:
        reader, writer = await asyncio.open_connection("localhost", served.port, ssl=context)
        assert b"TLS must agree" in await _goaway(reader)
        writer.close()


# Limits


async def test_connections_are_limited():
    async with serving(Options(most_connections=3)) as served:
        opened = [await _open(served) for _ in range(3)]
        for reader, _ in opened:
            await reader.readexactly(9)
        reader, writer = await _open(served)
        assert b"too many connections" in await _goaway(reader)
        opened[0][1].close()
        await asyncio.sleep(0.1)
        async with _channel(served.address) as channel:
            assert await channel.unary_unary(ECHO)(b"x") == b"x"
        for _, each in [*opened, (reader, writer)]:
            each.close()
        assert served.server.statistics.refused_connections == 1


async def test_connections_of_a_source_are_limited():
    async with serving(Options(most_connections_a_source=1)) as served:
        first, writer = await _open(served)
        await first.readexactly(9)
        second, other = await _open(served)
        assert b"too many connections" in await _goaway(second)
        writer.close()
        other.close()


async def test_a_client_that_does_not_greet_is_hung_up_on():
    async with serving(Options(handshake_seconds=0.1, sweep_seconds=0.05)) as served:
        reader, writer = await _open(served, greet=False)
        writer.write(frames.PREFACE)
        assert b"no SETTINGS" in await _goaway(reader)
        writer.close()


async def test_a_frame_that_is_not_completed_ends_the_connection():
    async with serving(Options(receive_seconds=0.2, sweep_seconds=0.05)) as served:
        reader, writer = await _open(served)
        writer.write(b"\0\0\x08\x06")
        async with asyncio.timeout(5):
            await _frames(reader)
        writer.close()


async def test_a_message_that_is_not_completed_ends_its_call_only():
    async with serving(Options(receive_seconds=0.2, sweep_seconds=0.05)) as served, _channel(served.address) as channel:
        call = channel.stream_unary(SLEEP)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert await channel.unary_unary(ECHO)(b"x") == b"x"
        assert served.server.statistics.connections == 1


async def test_a_client_that_does_not_read_is_given_up():
    async with serving(Options(stall_seconds=0.3, sweep_seconds=0.05)) as served, _channel(served.address) as channel:
        call = channel.unary_stream(FOREVER)(b"x" * 100_000)
        await call.read()
        async with asyncio.timeout(5):
            while served.cancelled != ["forever"]:
                await asyncio.sleep(0.02)
        assert await channel.unary_unary(ECHO)(b"x") == b"x"
        call.cancel()


async def test_an_idle_connection_is_ended_politely():
    async with serving(Options(idle_seconds=0.2, sweep_seconds=0.05)) as served, _channel(served.address) as channel:
        for _ in range(3):
            assert await channel.unary_unary(ECHO)(b"x") == b"x"
            await asyncio.sleep(0.6)
            assert served.server.open_connections == 0
        assert served.server.statistics.connections == 3


async def test_a_silent_client_is_asked_and_then_given_up():
    options = Options(keepalive_seconds=0.2, keepalive_timeout=0.2, sweep_seconds=0.05)
    async with serving(options) as served, _channel(served.address) as channel:
        assert await channel.unary_unary(ECHO)(b"x") == b"x"
        reader, writer = await _open(served)
        async with asyncio.timeout(5):
            found = await _frames(reader)
        assert [kind for kind, flags, _ in found if not flags].count(frames.PING) == 1
        assert served.server.open_connections == 1  # grpc answers PINGs
        writer.close()


async def test_keepalive_of_clients_is_welcome():
    options = {
        "grpc.keepalive_time_ms": 100,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
    }
    async with serving() as served, _channel(served.address, **options) as channel:
        for _ in range(3):
            assert await channel.unary_unary(ECHO)(b"x") == b"x"
            await asyncio.sleep(0.3)
        assert served.server.statistics.connections == 1
        assert served.server.statistics.faults == 0


# The end


async def test_no_call_fails_when_connections_reach_their_age():
    options = Options(connection_age=0.15, sweep_seconds=0.02)
    async with serving(options) as served, _channel(served.address) as channel:
        echo, sleep = channel.unary_unary(ECHO), channel.unary_unary(SLEEP)

        async def keep_calling() -> int:
            ends = asyncio.get_running_loop().time() + 2
            count = 0
            while asyncio.get_running_loop().time() < ends:
                assert await echo(b"x") == b"x"
                assert await sleep(b"30") == b"30"
                count += 2
            return count

        assert sum(await asyncio.gather(*(keep_calling() for _ in range(20)))) > 200
        assert served.server.statistics.connections > 3


async def test_a_stream_may_use_the_grace_of_an_old_connection():
    options = Options(connection_age=0.1, age_grace=0.4, sweep_seconds=0.02)
    async with serving(options) as served, _channel(served.address) as channel:
        call = channel.unary_stream(FOREVER)(b"x")
        begin = asyncio.get_running_loop().time()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert asyncio.get_running_loop().time() - begin >= 0.4
        assert served.cancelled == ["forever"]


async def test_a_drain_lets_calls_end_and_takes_no_more():
    async with serving() as served, _channel(served.address) as channel:
        calls = [asyncio.ensure_future(channel.unary_unary(SLEEP)(b"200")) for _ in range(10)]  # type: ignore[arg-type]
        while served.server.waiting < 10:
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(served.server.drain(5))
        assert await asyncio.gather(*calls) == [b"200"] * 10
        await draining
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(ECHO)(b"x", timeout=1)


async def test_a_drain_ends_calls_after_its_grace():
    async with serving() as served, _channel(served.address) as channel:
        call = channel.unary_unary(SLEEP)(b"10000")
        while not served.server.waiting:
            await asyncio.sleep(0.01)
        await served.server.drain(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert served.cancelled == ["sleep"]


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="message_limit"):
        Options(message_limit=100)
    with pytest.raises(ValueError, match="stream_window"):
        Options(stream_window=2**20, connection_window=2**19)
    with pytest.raises(ValueError, match="most_buffered"):
        Options(most_buffered=2**20)


def test_a_status_error_says_its_code():
    assert str(StatusError(5, "no such thing")) == "NOT_FOUND: no such thing"
