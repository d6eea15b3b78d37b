"""The event streams as workers use them: read events, delete committed ones, set aside those that cannot be counted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import msgspec

from storage.events import Event, decode_event
from storage.redis import function_library, keys
from storage.redis.client import Client

_EPOCH_BYTES = 8


@dataclass(frozen=True)
class Damaged:
    """An event that cannot be decoded, and why."""

    payload: bytes
    reason: str


@dataclass(frozen=True)
class StreamEntry:
    """One entry of a stream: its events, and those that cannot be decoded."""

    entry_id: bytes
    events: tuple[Event, ...]
    damaged: tuple[Damaged, ...]


@dataclass(frozen=True)
class Backlog:
    """How many events a stream has, and the age of the oldest one in seconds, 0 if there is none."""

    events: int
    age: float


async def open_shards(client: Client, shards: int) -> None:
    """Open all shards of a new installation, which has no records yet."""
    for shard in range(shards):
        await open_shard(client, shard)


async def open_shard(client: Client, shard: int) -> None:
    """Mark the records of a shard as complete. It gets a new epoch, unless it has one."""
    await client.set(keys.epoch(shard), os.urandom(_EPOCH_BYTES), nx=True)


async def epochs(client: Client, shards: int) -> list[bytes | None]:
    """Return the epoch of each shard; None where the records are not complete."""
    return [cast("bytes | None", await client.get(keys.epoch(shard))) for shard in range(shards)]


async def close_shard(client: Client, shard: int) -> None:
    """Mark the records of a shard as not complete. Nobody is assigned until it is opened again."""
    await client.delete(keys.epoch(shard))


async def is_open(client: Client, shard: int) -> bool:
    """Return whether the records of a shard are complete."""
    return bool(await client.exists(keys.epoch(shard)))


async def read(client: Client, shard: int, *, entries: int) -> list[StreamEntry]:
    """Return the oldest entries of a shard's stream."""
    rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", await client.xrange(keys.stream(shard), count=entries))
    return [_entry(entry_id, tuple(fields.values())) for entry_id, fields in rows]


async def wait(client: Client, shard: int, *, milliseconds: int) -> None:
    """Wait until the stream has entries, at most for `milliseconds`."""
    await client.xread({keys.stream(shard): "0-0"}, count=1, block=milliseconds)


async def backlog(client: Client, shard: int) -> Backlog:
    """Return what is not drained yet. The age is by the clock of Redis, from which the ids of entries come."""
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.get(keys.waiting(shard))
        pipeline.xrange(keys.stream(shard), count=1)
        pipeline.time()
        events, oldest, (seconds, microseconds) = await pipeline.execute()
    if not oldest:
        return Backlog(0, 0.0)
    ((entry_id, _),) = oldest
    milliseconds, _, _ = entry_id.partition(b"-")
    return Backlog(int(events or 0), max(0.0, seconds + microseconds / 1e6 - int(milliseconds) / 1e3))


async def forget(client: Client, shard: int, entries: Sequence[StreamEntry]) -> None:
    """Delete entries whose events are committed or set aside."""
    counted = [each for entry in entries for each in (entry.entry_id, len(entry.events) + len(entry.damaged))]
    await function_library.call(client, "forget", (keys.stream(shard), keys.waiting(shard)), *counted)


async def set_aside(client: Client, shard: int, payload: bytes, reason: str) -> None:
    """Move an event that cannot be counted to the dead letters, with the reason, for people to examine."""
    await client.xadd(keys.dead_letters(shard), {"reason": reason, "event": payload})


def _entry(entry_id: bytes, payloads: tuple[bytes, ...]) -> StreamEntry:
    decoded = [_decode(payload) for payload in payloads]
    return StreamEntry(
        entry_id,
        tuple(each for each in decoded if not isinstance(each, Damaged)),
        tuple(each for each in decoded if isinstance(each, Damaged)),
    )


def _decode(payload: bytes) -> Event | Damaged:
    try:
        event: Event = decode_event(payload)
    except msgspec.MsgspecError as error:
        return Damaged(payload, str(error))
    return event
