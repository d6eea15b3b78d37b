"""The connection of the hot path: every call is answered, whatever happens to the connection."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.exceptions
from redis.asyncio import Redis

from server.tasks import end
from storage.engines.embedded import StoreUrls
from storage.redis import function_library, keys
from storage.redis.function_connection import Call, FunctionConnection
from tests.support.proxy import Proxy
from tests.support.waiting import PATIENCE_SECONDS

CALL = Call.of(function_library.function("allocate"), keys.record_prefix(0), keys.stream(0), keys.epoch(0))
ARGUMENTS = (b"", b"10", b"")
TIMEOUT = 0.3


@pytest.fixture
async def proxy(engines: StoreUrls, redis: Redis, short_directory: Path) -> AsyncIterator[Proxy]:
    proxy = await Proxy.start(short_directory / "calls.sock", Path(urlsplit(engines.redis_url).path))
    yield proxy
    await proxy.stop()


@pytest.fixture
async def connection(proxy: Proxy) -> AsyncIterator[FunctionConnection]:
    client = Redis.from_url(proxy.url)
    connection = FunctionConnection(client, TIMEOUT)
    running = asyncio.create_task(connection.run())
    await connection.connected()
    yield connection
    await end(running)
    await client.aclose()


async def test_whoever_asks_again_when_told_of_the_loss_is_answered(
    connection: FunctionConnection, proxy: Proxy
) -> None:
    answers: list[bytes | Exception | None] = []
    over = asyncio.Event()

    def again(answer: bytes | Exception | None) -> None:
        answers.append(answer)
        if len(answers) < 3:
            connection.call(CALL, ARGUMENTS, again)
        else:
            over.set()

    proxy.is_silent = True
    connection.call(CALL, ARGUMENTS, again)
    proxy.cut()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await over.wait()
    assert {type(answer) for answer in answers} == {redis.exceptions.ConnectionError}


@pytest.mark.parametrize("trouble", ["cut", "half_close", "silence"])
async def test_a_call_under_way_ends_and_the_connection_comes_back(
    connection: FunctionConnection, proxy: Proxy, trouble: str
) -> None:
    proxy.is_silent = True
    answer: asyncio.Future[bytes | Exception | None] = asyncio.get_running_loop().create_future()
    connection.call(CALL, ARGUMENTS, answer.set_result)
    connection.spin_for_reply()
    if trouble != "silence":
        getattr(proxy, trouble)()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert isinstance(await answer, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError))
        proxy.is_silent = False
        while True:
            reply: asyncio.Future[bytes | Exception | None] = asyncio.get_running_loop().create_future()
            connection.call(CALL, ARGUMENTS, reply.set_result)
            if not isinstance(await reply, Exception):
                break
            await asyncio.sleep(0.02)
