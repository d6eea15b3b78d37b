"""The registry of segments: which keys have a number of their own, the same for all servers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from storage.redis import change_notices, function_library
from storage.redis.client import Client, EmptyError, read_hash

_VERSION = b"#version"


@dataclass(frozen=True)
class Segments:
    """Numbers by key: of segments that are answered, and of those that only earlier users have."""

    version: int = 0
    active: Mapping[str, int] = field(default_factory=dict)
    retired: Mapping[str, int] = field(default_factory=dict)


async def register(client: Client, registry: str, segment_key: str, most: int) -> int:
    """The number of a segment key, a new one while there are fewer than `most`, else that of "other".

    Raises EmptyError if the registry is not there.
    """
    number: int = await function_library.call(client, "register_segment", [registry], segment_key, most)
    if number == 0:
        raise EmptyError("the registry of segments is lost, and not restored yet")
    return number


async def load(client: Client, registry: str) -> Segments:
    """All that is registered."""
    rows = await read_hash(client, registry)
    numbers = {key.decode(): int(number) for key, number in rows.items() if not key.startswith(b"#")}
    return Segments(
        int(rows.get(_VERSION, 0)),
        {key: number for key, number in numbers.items() if number > 0},
        {key: -number for key, number in numbers.items() if number < 0},
    )


async def versions(client: Client, registries: Iterable[str]) -> list[int]:
    """How often each registry was revised."""
    async with client.pipeline(transaction=False) as pipe:
        for registry in registries:
            pipe.hget(registry, _VERSION)
        return [int(version or 0) for version in await pipe.execute()]


async def revise(client: Client, registry: str, experiment_id: str, retire: list[str], admit: list[str]) -> None:
    """Retire segments and bring others in or back, at once, and tell the servers."""
    await function_library.call(client, "revise_segments", [registry], len(retire), *retire, *admit)
    await change_notices.send(client, "segments", experiment_id)


async def restore(client: Client, registry: str, numbers: Mapping[str, int]) -> None:
    """Fill a registry that is missing; numbers are negative where the segment is retired."""
    pairs = [item for pair in numbers.items() for item in pair]
    await function_library.call(client, "restore_segments", [registry], *pairs)
