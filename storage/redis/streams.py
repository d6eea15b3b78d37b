"""The event streams from the worker's side: read, delete what is committed, set aside what cannot be counted."""

from dataclasses import dataclass
from typing import cast

import msgspec
from redis.asyncio import Redis

from storage.events import Event, decode_event
from storage.redis import keys


@dataclass(frozen=True)
class StreamEntry:
    """One entry: the events that it carries, or why it cannot be read."""

    entry_id: bytes
    payloads: tuple[bytes, ...]
    events: tuple[Event, ...]
    damage: str = ""


async def read(client: Redis, shard: int, *, entries: int) -> list[StreamEntry]:
    """The oldest entries of a shard's stream."""
    rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", await client.xrange(keys.stream(shard), count=entries))
    return [_entry(entry_id, tuple(fields.values())) for entry_id, fields in rows]


async def wait(client: Redis, shard: int, *, milliseconds: int) -> None:
    """Return when the stream has entries, at the latest after `milliseconds`."""
    await client.xread({keys.stream(shard): "0-0"}, count=1, block=milliseconds)


async def delete(client: Redis, shard: int, entry_ids: list[bytes]) -> None:
    """Forget entries whose events are committed, or set aside."""
    if entry_ids:
        await client.xdel(keys.stream(shard), *entry_ids)


async def set_aside(client: Redis, shard: int, payload: bytes, reason: str) -> None:
    """Keep an event that cannot be counted, with the reason, for people to look at."""
    await client.xadd(keys.dead_letters(shard), {"reason": reason, "event": payload})


def _entry(entry_id: bytes, payloads: tuple[bytes, ...]) -> StreamEntry:
    try:
        return StreamEntry(entry_id, payloads, tuple(decode_event(payload) for payload in payloads))
    except msgspec.MsgspecError as error:
        return StreamEntry(entry_id, payloads, (), damage=str(error))
