"""The batched calls that read and write sticky records with their events. functions.lua describes the formats."""

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple, TypeVar

from storage.events import ConversionEvent, encode_event
from storage.records import Found, Lookup, PackedRecord
from storage.redis import function_library, keys
from storage.redis.client import Client, EmptyError
from storage.redis.function_connection import Call, FunctionConnection

_HEAD = struct.Struct("<IHBHH")  # of a record: without the day
_LOOKUP = struct.Struct("<IH16sH")
_CONVERSION = struct.Struct("<II16s16sH")
_RESTORED = struct.Struct("<I16s")
_FOUND = struct.Struct("<BIHBHHH")  # a code, and the record
_CONVERTED = struct.Struct("<cI")
_DEDUPE_SECONDS = b"86400"
MOST_EVENTS = b"1000000"  # in a shard's stream; when it is full, nobody new is assigned


class ConversionAnswer(NamedTuple):
    """`code` is R, D, N, F or B as in functions.lua; `assigned_at` in Unix seconds, 0 where there is no assignment."""

    code: bytes
    assigned_at: int


_Answer = TypeVar("_Answer")
Done = Callable[[Sequence[_Answer] | Exception], None]


def allocate(
    connection: FunctionConnection, shard: int, epoch: bytes, lookups: Sequence[Lookup], done: Done[Found]
) -> None:
    """Find or store the assignments of users of one shard, atomically with their events.

    `epoch` is the shard's, as the caller knows it. `done` gets a Found for each lookup, or EmptyError, or an error of
    the connection.
    """
    items: list[bytes] = []
    for lookup in lookups:
        event = lookup.event
        if event is None:
            items.append(_LOOKUP.pack(lookup.experiment, lookup.day, lookup.user_key, 0))
            continue
        payload = encode_event(event)
        items += (
            _LOOKUP.pack(lookup.experiment, lookup.day, lookup.user_key, len(payload)),
            _HEAD.pack(event.assigned_at, event.variant, event.reason, event.segmentation_version, event.segment),
            payload,
        )
    connection.call(_allocate(shard), (epoch, MOST_EVENTS, b"".join(items)), _opened(_found, done))


def convert(
    connection: FunctionConnection,
    shard: int,
    epoch: bytes,
    events: Sequence[ConversionEvent],
    done: Done[ConversionAnswer],
) -> None:
    """Accept conversions of one shard's users, each once, atomically with their events.

    `epoch` is the shard's, as the caller knows it. `done` gets a ConversionAnswer for each event, or EmptyError, or an
    error of the connection.
    """
    items: list[bytes] = []
    for event in events:
        payload = encode_event(event)
        items += (
            _CONVERSION.pack(event.experiment, event.occurred_at, event.user_key, _dedupe_mark(event), len(payload)),
            payload,
        )
    arguments = epoch, MOST_EVENTS, _DEDUPE_SECONDS, b"".join(items)
    connection.call(_convert(shard), arguments, _opened(_converted, done))


def find_experiments(
    connection: FunctionConnection,
    shard: int,
    epoch: bytes,
    experiments: Sequence[int],
    user_keys: Sequence[bytes],
    done: Done[Sequence[int]],
) -> None:
    """Find which of these experiments the users of one shard are in.

    Redis looks each user up in each experiment, so the caller bounds how many users it asks for at once. `done` gets
    the numbers of the experiments for each user, or EmptyError, or an error of the connection.
    """
    arguments = epoch, struct.pack(f"<{len(experiments)}I", *experiments), b"".join(user_keys)
    connection.call(_find_experiments(shard), arguments, _opened(_experiments, done))


async def restore(client: Client, shard: int, records: Iterable[PackedRecord]) -> None:
    """Write records of one shard's users, in place of the ones that are there."""
    items = b"".join(_RESTORED.pack(each.experiment, each.user_key) + each.record for each in records)
    await function_library.call(client, "restore", [keys.record_prefix(shard)], items)


@cache
def _allocate(shard: int) -> Call:
    return Call.of(function_library.function("allocate"), *_keys(shard))


@cache
def _convert(shard: int) -> Call:
    return Call.of(function_library.function("convert"), *_keys(shard), keys.dedupe_prefix(shard))


@cache
def _find_experiments(shard: int) -> Call:
    return Call.of(function_library.function("find_experiments"), keys.record_prefix(shard), keys.epoch(shard))


def _keys(shard: int) -> tuple[str, ...]:
    return keys.record_prefix(shard), keys.stream(shard), keys.epoch(shard), keys.waiting(shard)


def _opened(
    read: Callable[[bytes], Sequence[_Answer]], done: Done[_Answer]
) -> Callable[[bytes | Exception | None], None]:
    def opened(reply: bytes | Exception | None) -> None:
        if isinstance(reply, Exception):
            done(reply)
        elif reply is None:
            done(EmptyError("the records of users are being made anew, or were since the caller learned their epoch"))
        else:
            done(read(reply))

    return opened


def _found(reply: bytes) -> list[Found]:
    # By position, since keywords take twice as long: a test compares the order with pack_record.
    return [Found(*values) for values in _FOUND.iter_unpack(reply)]


def _converted(reply: bytes) -> list[ConversionAnswer]:
    return [ConversionAnswer(code, assigned_at) for code, assigned_at in _CONVERTED.iter_unpack(reply)]


def _experiments(reply: bytes) -> list[Sequence[int]]:
    numbers = iter([number for (number,) in struct.iter_unpack("<I", reply)])
    return [list(islice(numbers, count)) for count in numbers]


def _dedupe_mark(event: ConversionEvent) -> bytes:
    name = f"{event.experiment}\0{event.metric}\0{event.event_id}".encode()
    return blake2b(event.user_key + name, digest_size=16).digest()
