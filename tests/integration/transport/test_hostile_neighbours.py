"""A well-behaved client is answered while hostile ones do what they can."""

import asyncio
from contextlib import suppress

import grpc
import pytest

from server.transport import Options
from server.transport.http2 import frames
from tests.integration.transport.support import COUNT, ECHO, Served, serving
from tests.unit.transport.attacks import ATTACKS, Attack

_SECONDS = 0.5
_ATTACKERS = 3
_WORST_SECONDS = 1.0  # generous: client, attackers and server share one process and one loop


async def _attack(served: Served, attack: Attack) -> None:
    """Attack again and again: whenever the server hangs up, on another connection."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        reading = asyncio.ensure_future(reader.read(-1))
        try:
            with suppress(ConnectionError):
                writer.write(frames.PREFACE + frames.settings_frame({}))
                for chunk in attack():
                    writer.write(chunk)
                    async with asyncio.timeout(10):
                        await writer.drain()
                    await asyncio.sleep(0)
                    if reading.done():
                        break
        finally:
            reading.cancel()
            writer.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_a_neighbour_is_answered(attack: Attack):
    loop = asyncio.get_running_loop()
    async with serving(Options(sweep_seconds=0.1)) as served, grpc.aio.insecure_channel(served.address) as channel:
        await channel.unary_unary(ECHO)(b"x")
        attackers = [asyncio.create_task(_attack(served, attack)) for _ in range(_ATTACKERS)]
        ends, worst = loop.time() + _SECONDS, 0.0
        while loop.time() < ends:
            begin = loop.time()
            assert await channel.unary_unary(ECHO)(b"x" * 100) == b"x" * 100
            worst = max(worst, loop.time() - begin)
        assert [answer async for answer in channel.unary_stream(COUNT)(b"3")] == [b"0", b"1", b"2"]
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)
        assert worst < _WORST_SECONDS
        assert served.failures == []
