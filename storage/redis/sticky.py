"""Sticky records, and the coalesced calls that read and write them with their events."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from redis.asyncio import Redis

from allocator.experiment import Reason
from storage.events import AssignmentEvent, ConversionEvent, encode_event
from storage.redis import keys

_RECORD = struct.Struct("<IHBHH")
_FULL = b"F"
_DEDUPE_SECONDS = 86_400
STREAM_LIMIT = 1_000_000  # entries of a shard's stream, each up to a batch of events


@dataclass(frozen=True)
class StickyRecord:
    """What identifies an assignment. `assigned_at` is in Unix seconds."""

    assigned_at: int
    variant: int
    reason: Reason
    segmentation_version: int
    segment: int


class StreamFull:
    """The answer for a user who could not be recorded since the stream is full."""


@dataclass(frozen=True)
class Lookup:
    """One user of a batch; without an event nothing is stored."""

    experiment: int
    user_key: bytes
    event: AssignmentEvent | None


@dataclass(frozen=True)
class ConversionAnswer:
    """`code` is R, D, N, F or B as in functions.lua; `assigned_at` (Unix seconds) comes with B."""

    code: str
    assigned_at: int | None = None


def pack(event: AssignmentEvent) -> bytes:
    """The record of a new assignment, 11 bytes."""
    return _RECORD.pack(event.assigned_at, event.variant, event.reason, event.segmentation_version, event.segment)


def unpack(record: bytes) -> StickyRecord:
    """The inverse of `pack`."""
    assigned_at, variant, reason, segmentation_version, segment = _RECORD.unpack(record)
    return StickyRecord(assigned_at, variant, Reason(reason), segmentation_version, segment)


async def allocate(client: Redis, shard: int, lookups: Sequence[Lookup]) -> list[StickyRecord | StreamFull | None]:
    """Find or store the assignments of a batch of users of one shard, atomically with their events.

    Answers the record that was there, None where there was none (and the event's is stored), or StreamFull.
    """
    arguments: list[bytes | int] = [STREAM_LIMIT]
    for lookup in lookups:
        arguments += keys.bucket_and_field(lookup.experiment, lookup.user_key)
        arguments += (b"", b"") if lookup.event is None else (pack(lookup.event), encode_event(lookup.event))
    answers = await client.fcall("samplit_allocate", 2, keys.record_prefix(shard), keys.stream(shard), *arguments)
    return [_answer(answer) for answer in answers]


async def convert(client: Redis, shard: int, events: Sequence[ConversionEvent]) -> list[ConversionAnswer]:
    """Accept conversions of one shard's users, each once, atomically with their events."""
    arguments: list[bytes | int] = [STREAM_LIMIT, _DEDUPE_SECONDS]
    for event in events:
        arguments += keys.bucket_and_field(event.experiment, event.user_key)
        arguments += (event.occurred_at, _dedupe_mark(event), encode_event(event))
    answers = await client.fcall(
        "samplit_convert",
        3,
        keys.record_prefix(shard),
        keys.stream(shard),
        keys.dedupe_prefix(shard),
        *arguments,
    )
    return [
        ConversionAnswer(
            chr(answer[0]),
            unpack(answer[1:]).assigned_at if answer[:1] == b"B" else None,
        )
        for answer in answers
    ]


def _answer(answer: bytes | None) -> StickyRecord | StreamFull | None:
    if answer is None:
        return None
    return StreamFull() if answer == _FULL else unpack(answer)


def _dedupe_mark(event: ConversionEvent) -> bytes:
    name = f"{event.experiment}\0{event.metric}\0{event.event_id}".encode()
    return blake2b(event.user_key + name, digest_size=16).digest()
