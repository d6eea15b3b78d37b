"""The segment registry: which segment keys have a number of their own. It is the same for all servers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from storage.redis import change_notices, function_library
from storage.redis.client import Client, EmptyError, read_hash

_VERSION = b"#version"


@dataclass(frozen=True)
class Segments:
    """Numbers by key: of active segments, and of retired ones, which only earlier users have."""

    version: int = 0
    active: Mapping[str, int] = field(default_factory=dict)
    retired: Mapping[str, int] = field(default_factory=dict)


async def register(client: Client, registry: str, segment_key: str, most: int) -> int:
    """Return the number of a segment key.

    A new key gets a new number while fewer than `most` segments are active, and the number of "other" after that.
    Raises EmptyError if there is no registry.
    """
    number: int = await function_library.call(client, "register_segment", [registry], segment_key, most)
    if number == 0:
        raise EmptyError("Redis has lost the registry of segments, and it is not restored yet")
    return number


async def load(client: Client, registry: str) -> Segments:
    """Return all segments of a registry."""
    fields = await read_hash(client, registry)
    numbers = {key.decode(): int(number) for key, number in fields.items() if not key.startswith(b"#")}
    return Segments(
        int(fields.get(_VERSION, 0)),
        {key: number for key, number in numbers.items() if number > 0},
        {key: -number for key, number in numbers.items() if number < 0},
    )


async def versions(client: Client, registries: Iterable[str]) -> list[int]:
    """Return the version of each registry; every revision raises it."""
    async with client.pipeline(transaction=False) as pipe:
        for registry in registries:
            pipe.hget(registry, _VERSION)
        return [int(version or 0) for version in await pipe.execute()]


async def revise(client: Client, registry: str, experiment_id: str, retire: list[str], admit: list[str]) -> None:
    """Retire some segments and admit or readmit others, in one step, and tell the servers."""
    await function_library.call(client, "revise_segments", [registry], len(retire), *retire, *admit)
    await change_notices.send(client, "segments", experiment_id)


async def restore(client: Client, registry: str, numbers: Mapping[str, int]) -> None:
    """Fill a registry that is missing. A number is negative if its segment is retired."""
    pairs = [item for pair in numbers.items() for item in pair]
    await function_library.call(client, "restore_segments", [registry], *pairs)
