"""The event streams as workers use them: read events, delete committed ones, set aside those that cannot be counted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import msgspec
import redis.exceptions
from redis.asyncio import RedisCluster

from storage.events import EntryId, Event, decode_event
from storage.redis import function_library, keys
from storage.redis.client import Client

_EPOCH_BYTES = 8
_LARGEST_ENTRY = 256  # events: a call to Redis has so many users at most
_READ_AHEAD = 4  # times the events that are asked for, at most, are read in vain where entries are large


class Generation(NamedTuple):
    """What tells the state of a shard from an older copy of it.

    epoch: None where the records are not complete. run_id: of the process of Redis. last_entry: the last entry that the
    stream ever had.
    """

    epoch: bytes | None
    run_id: str
    last_entry: EntryId


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


async def open_shard(client: Client, shard: int, epoch: bytes) -> None:
    """Mark the records of a shard as complete. It gets this epoch, unless it has one."""
    await client.set(keys.epoch(shard), epoch, nx=True)


async def renew_epoch(client: Client, shard: int, epoch: bytes) -> None:
    """Give a shard another epoch, if it has one. Servers then forget what they remember of its records."""
    await client.set(keys.epoch(shard), epoch, xx=True)


def new_epoch() -> bytes:
    """Return an epoch that no shard has had."""
    return os.urandom(_EPOCH_BYTES)


async def generation(client: Client, shard: int) -> Generation:
    """Return what tells this state of a shard from an older copy of it."""
    where = {"target_nodes": client.get_node_from_key(keys.epoch(shard))} if isinstance(client, RedisCluster) else {}
    server = await client.info("server", **where)
    epoch = cast("bytes | None", await client.get(keys.epoch(shard)))
    try:
        last_entry = entry_id((await client.xinfo_stream(keys.stream(shard)))["last-generated-id"])
    except redis.exceptions.ResponseError:  # there is no stream
        last_entry = EntryId(0, 0)
    return Generation(epoch, server["run_id"], last_entry)


def entry_id(text: bytes) -> EntryId:
    """Return the id of an entry as numbers, which can be compared."""
    milliseconds, _, sequence = text.partition(b"-")
    return EntryId(int(milliseconds), int(sequence))


async def epochs(client: Client, shards: int) -> list[bytes | None]:
    """Return the epoch of each shard; None where the records are not complete."""
    return [cast("bytes | None", await client.get(keys.epoch(shard))) for shard in range(shards)]


async def close_shard(client: Client, shard: int) -> None:
    """Mark the records of a shard as not complete. Nobody is assigned until it is opened again."""
    await client.delete(keys.epoch(shard))


async def read(client: Client, shard: int, *, events: int) -> list[StreamEntry]:
    """Return the oldest entries of a shard's stream: as many as have so many events, but at least one entry.

    An entry has from one event to as many as a call has users, so entries say little of how many events there are.
    """
    entries: list[StreamEntry] = []
    found, ask, after = 0, max(1, _READ_AHEAD * events // _LARGEST_ENTRY), "-"
    while True:
        rows = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]", await client.xrange(keys.stream(shard), min=after, count=ask)
        )
        for entry_id, fields in rows:
            if entries and found + len(fields) > events:
                return entries
            found += len(fields)
            entries.append(_entry(entry_id, tuple(fields.values())))
        if len(rows) < ask or found >= events:
            return entries
        after = f"({entries[-1].entry_id.decode()}"


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


async def newest_entry(client: Client, shard: int) -> bytes | None:
    """Return the id of the newest entry of a shard's stream, or None if the stream is empty."""
    rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", await client.xrevrange(keys.stream(shard), count=1))
    return next((entry_id for entry_id, _ in rows), None)


async def oldest_entry(client: Client, shard: int, *, up_to: bytes) -> bytes | None:
    """Return the id of the oldest entry that is no newer than `up_to`, or None if there is none any more."""
    rows = await client.xrange(keys.stream(shard), max=up_to, count=1)
    return next((entry_id for entry_id, _ in cast("list[tuple[bytes, dict[bytes, bytes]]]", rows)), None)


async def dead_letters(client: Client, shard: int) -> list[Damaged]:
    """Return the events of a shard that could not be counted, the oldest first."""
    rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", await client.xrange(keys.dead_letters(shard)))
    return [Damaged(fields[b"event"], fields[b"reason"].decode(errors="replace")) for _, fields in rows]


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
