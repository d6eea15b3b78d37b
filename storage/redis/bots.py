"""How many allocation requests of bots there were, on their way from the servers to Postgres."""

from collections.abc import Mapping
from datetime import date
from typing import cast

from redis.asyncio import Redis

from storage.redis import keys


async def add(client: Redis, requests: Mapping[tuple[int, date], int]) -> None:
    """Add requests, by experiment number and day."""
    async with client.pipeline(transaction=False) as pipe:
        for (number, day), count in requests.items():
            pipe.hincrby(keys.BOTS, f"{number} {day.isoformat()}", count)
        await pipe.execute()


async def take(client: Redis) -> dict[tuple[int, date], int]:
    """All that was added since the last time."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.BOTS)
        pipe.delete(keys.BOTS)
        rows, _ = await pipe.execute()
    found = {}
    for field, count in cast("dict[bytes, bytes]", rows).items():
        number, day = field.decode().split(" ")
        found[int(number), date.fromisoformat(day)] = int(count)
    return found
