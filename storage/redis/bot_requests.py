"""Counts of allocation requests of bots, on their way from the servers to Postgres."""

from collections.abc import Mapping
from datetime import date, timedelta

from storage.redis import function_library, keys
from storage.redis.client import Client

_EPOCH = date(1970, 1, 1)


async def add(client: Client, requests: Mapping[tuple[int, int], int]) -> None:
    """Add requests, by experiment number and day since 1970."""
    async with client.pipeline(transaction=False) as pipe:
        for (number, day), count in requests.items():
            pipe.hincrby(keys.BOTS, f"{number} {day}", count)
        await pipe.execute()


async def take(client: Client) -> dict[tuple[int, date], int]:
    """Return what was added since the last call, by experiment number and day, and delete it."""
    fields_and_counts: list[bytes] = await function_library.call(client, "take", [keys.BOTS])
    found = {}
    alternating = iter(fields_and_counts)
    for field, count in zip(alternating, alternating, strict=True):
        number, day = field.decode().split(" ")
        found[int(number), _EPOCH + timedelta(days=int(day))] = int(count)
    return found
