"""Changes to recorded frames, most of which make them illegal."""

import random
from collections.abc import Callable, Sequence

from server.transport.http2 import frames
from tests.benchmarks.serving.frames.recordings import Frame

_NUMBERS = 0, 1, 2, 3, 5, 100, 16_384, 65_535, 2**31 - 1, 2**31, 2**32 - 1
_BYTES = 0x00, 0x01, 0x1F, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF  # where HPACK's numbers and kinds begin or end


def mutate(draw: random.Random, recorded: list[Frame]) -> None:
    """Change one of the frames, or their order."""
    if recorded:
        draw.choice(_MUTATIONS)(draw, recorded, draw.randrange(len(recorded)))


def cut(draw: random.Random, data: bytes) -> list[bytes]:
    """Return the bytes as they may come from a socket: at once, in pieces, or one by one."""
    style = draw.random()
    if style < 0.5 or not data:
        return [data]
    if style < 0.505:
        return [data[k : k + 1] for k in range(min(len(data), 500))] + [data[500:]]
    ends = sorted(draw.randrange(len(data)) for _ in range(draw.randrange(1, 20)))
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def _drop(_: random.Random, recorded: list[Frame], k: int) -> None:
    del recorded[k]


def _repeat(draw: random.Random, recorded: list[Frame], k: int) -> None:
    recorded[k:k] = [recorded[k]] * draw.choice([1, 1, 2, 40])


def _move(draw: random.Random, recorded: list[Frame], k: int) -> None:
    recorded.insert(draw.randrange(len(recorded)), recorded.pop(k))


def _change_kind(draw: random.Random, recorded: list[Frame], k: int) -> None:
    recorded[k] = recorded[k]._replace(kind=draw.randrange(12))


def _change_flags(draw: random.Random, recorded: list[Frame], k: int) -> None:
    recorded[k] = recorded[k]._replace(flags=recorded[k].flags ^ (1 << draw.randrange(8)))


def _change_stream(draw: random.Random, recorded: list[Frame], k: int) -> None:
    stream_id = draw.choice([*_NUMBERS, draw.choice(recorded).stream_id])
    recorded[k] = recorded[k]._replace(stream_id=stream_id)


def _change_number(draw: random.Random, recorded: list[Frame], k: int) -> None:
    payload = bytearray(recorded[k].payload)
    at = draw.randrange(len(payload) + 1)
    payload[at : at + 4] = frames.NUMBER.pack(draw.choice(_NUMBERS))
    recorded[k] = recorded[k]._replace(payload=bytes(payload))


def _change_bytes(draw: random.Random, recorded: list[Frame], k: int) -> None:
    payload = bytearray(recorded[k].payload)
    for _ in range(draw.choice([1, 1, 1, 4])):
        if payload:
            payload[draw.randrange(len(payload))] = draw.choice([*_BYTES, draw.randrange(256)])
    recorded[k] = recorded[k]._replace(payload=bytes(payload))


def _change_size(draw: random.Random, recorded: list[Frame], k: int) -> None:
    payload = recorded[k].payload
    if draw.random() < 0.5:
        payload = payload[: draw.randrange(len(payload) + 1)]
    else:
        payload += draw.randbytes(draw.choice([1, 4, 30]))
    recorded[k] = recorded[k]._replace(payload=payload)


def _cross(draw: random.Random, recorded: list[Frame], k: int) -> None:
    recorded[k] = recorded[k]._replace(payload=draw.choice(recorded).payload)


_MUTATIONS: Sequence[Callable[[random.Random, list[Frame], int], None]] = (
    _drop,
    _repeat,
    _move,
    _change_kind,
    _change_flags,
    _change_stream,
    _change_number,
    _change_bytes,
    _change_bytes,
    _change_size,
    _cross,
)
