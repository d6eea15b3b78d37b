"""A client that sends frames of all kinds, legal or not, with the package h2 as the judge of what may be refused.

Whatever comes, no exception leaves the connection, what it writes is well-formed, and what it keeps is bounded. It ends
the connection only where h2 objects too, or where one of our own limits says so.
`HYPOTHESIS_EXAMPLES=1000000 pytest tests/unit/transport/test_fuzz_illegal.py` runs it longer.
"""

import asyncio
import os

from h2.errors import ErrorCodes
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from server.transport import Options
from server.transport.http2 import frames
from server.transport.rpc import messages
from tests.unit.transport.judge import Judge
from tests.unit.transport.support import HEADERS, Client, Frame

_EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "120"))
_STREAMS = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 7, 2**31 - 1, 2**31 + 1])
_FIELDS = st.one_of(
    st.sampled_from(HEADERS),
    st.tuples(
        st.sampled_from(
            [":path", ":status", "te", "connection", "X", "content-length", "grpc-timeout", "x", "x-bin", ""]
        ),
        st.sampled_from(["", "1", "5S", "trailers", "/test.Test/Echo", "\0", " x", "a" * 5000]),
    ),
)
_HEADER_LISTS = st.one_of(
    st.just(list(HEADERS)),
    st.lists(_FIELDS, max_size=12),
    st.lists(_FIELDS, max_size=3).map(lambda extra: [*HEADERS, *extra]),
)
_BODIES = st.one_of(
    st.just(messages.pack(b"hello")),
    st.just(b""),
    st.just(b"\1" + messages.pack(b"x")[1:]),
    st.just(b"\0\xff\xff\xff\xff"),
    st.binary(max_size=30),
)
_NUMBERS = st.sampled_from([0, 1, 100, 65_535, 2**31 - 1, 2**31, 2**32 - 1]).map(frames.NUMBER.pack)
_SETTINGS = st.dictionaries(st.integers(0, 10), st.sampled_from([0, 1, 2, 16_383, 16_384, 65_535, 2**31]), max_size=3)
_PAYLOADS = st.one_of(st.binary(max_size=20), _NUMBERS, _SETTINGS.map(lambda some: frames.settings_frame(some)[9:]))
_FLAGS = st.sampled_from([0, 1, 4, 5, 5, 8, 0x20, 0x25, 0xFF])
# Most steps are legal, since a connection that ended finds no more faults.
_NEW, _LAST, _EARLIER = -1, -2, -3  # streams
_LEGAL = st.one_of(
    st.just([("headers", 4, _NEW, list(HEADERS)), ("data", 1, _LAST, messages.pack(b"hello"))]),
    st.just([("headers", 4, _NEW, list(HEADERS))]),
    st.tuples(st.just("data"), st.sampled_from([0, 1, 1]), st.sampled_from([_LAST, _EARLIER]), _BODIES).map(
        lambda s: [s]
    ),
    st.tuples(st.just("headers"), st.sampled_from([4, 5]), st.just(_NEW), _HEADER_LISTS).map(lambda s: [s]),
    st.tuples(st.just("headers"), st.just(5), st.just(_LAST), st.just([("x-trailer", "1")])).map(lambda s: [s]),
    st.just([("headers", 0, _NEW, list(HEADERS)), (frames.CONTINUATION, 4, _LAST, b"")]),
    st.just([(frames.PING, 0, 0, b"12345678")]),
    st.tuples(st.just(frames.RST_STREAM), st.just(0), st.sampled_from([_LAST, _EARLIER]), _NUMBERS).map(lambda s: [s]),
    st.tuples(st.just(frames.WINDOW_UPDATE), st.just(0), st.sampled_from([0, _LAST, _EARLIER]), _NUMBERS).map(
        lambda s: [s]
    ),
    _SETTINGS.map(lambda some: [(frames.SETTINGS, 0, 0, frames.settings_frame(some)[9:])]),
)
_WILD = st.one_of(
    st.tuples(st.just("headers"), _FLAGS, st.one_of(st.just(_NEW), _STREAMS), _HEADER_LISTS),
    st.tuples(st.just("data"), _FLAGS, st.one_of(st.just(_LAST), _STREAMS), _BODIES),
    st.tuples(st.integers(0, 12), _FLAGS, st.one_of(st.just(_LAST), _STREAMS), _PAYLOADS),
)
_STEPS = st.lists(st.one_of(*[_LEGAL] * 12, _WILD.map(lambda step: [step])), max_size=25).map(
    lambda groups: [step for group in groups for step in group]
)


class _Writer:
    """Turns steps into frames."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.last = -1

    def write(self, step: tuple[object, int, int, object]) -> bytes:
        kind, flags, stream_id, content = step
        if stream_id == _NEW:
            stream_id = self.last = self.last + 2
        elif stream_id < 0:
            stream_id = max(1, self.last if stream_id == _LAST else self.last - 2)
        if kind == "headers":
            return frames.frame(frames.HEADERS, flags, stream_id, self.encoder.encode(content))
        if kind == "data":
            return frames.frame(frames.DATA, flags, stream_id, content)  # type: ignore[arg-type]
        return frames.frame(kind, flags, stream_id, content)  # type: ignore[arg-type]


async def _run(steps: list[tuple[object, int, int, object]]) -> tuple[Client, list[Frame], bool]:
    client, judge, writer = Client(options=Options(control_burst=50)), Judge(), _Writer()
    greeting = frames.PREFACE + frames.settings_frame({})
    client.send(greeting)
    judge.take(greeting)
    for step in steps:
        data = writer.write(step)
        client.send(data)
        judge.take(data)
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    written = client.read()
    client.connection.connection_lost(None)
    await asyncio.sleep(0)
    return client, written, judge.objected or judge.is_undecided


@given(_STEPS)
@settings(max_examples=_EXAMPLES, deadline=None)
def test_any_frames(steps: list[tuple[object, int, int, object]]) -> None:
    client, written, objected = asyncio.run(_run(steps))
    assert not client.failures
    assert not client.connection.calls.open
    assert client.shared.waiting == client.shared.buffered == 0
    ends = [frame for frame in written if frame.kind == frames.GOAWAY]
    for frame in written:
        assert frame.kind in (0, 1, 3, 4, 6, 7, 8)
        if frame.kind == frames.HEADERS:
            client.decoder.decode(frame.payload)
    if ends and not objected:
        code = ErrorCodes(frames.NUMBER.unpack_from(ends[0].payload, 4)[0])
        assert code == ErrorCodes.ENHANCE_YOUR_CALM, (code, ends[0].payload[8:])


@given(st.lists(st.binary(max_size=100), max_size=10))
@settings(max_examples=_EXAMPLES, deadline=None)
def test_any_bytes(chunks: list[bytes]) -> None:
    async def run() -> Client:
        client = Client()
        client.send(frames.PREFACE + frames.settings_frame({}))
        for chunk in chunks:
            client.send(chunk)
        client.connection.connection_lost(None)
        return client

    assert not asyncio.run(run()).failures


@given(_STEPS, st.lists(st.integers(1, 40), min_size=1, max_size=20))
@settings(max_examples=_EXAMPLES // 4, deadline=None)
def test_it_does_not_matter_how_bytes_are_cut(steps: list[tuple[object, int, int, object]], sizes: list[int]) -> None:
    async def run(*, cut: bool) -> bytes:
        client, writer = Client(), _Writer()
        data = frames.PREFACE + frames.settings_frame({}) + b"".join(writer.write(step) for step in steps)
        size = len(data)
        for k in range(10**6):
            size = sizes[k % len(sizes)] if cut else len(data)
            if not data or client.connection.is_closing:
                break
            client.send(data[:size])
            data = data[size:]
        await asyncio.sleep(0)
        written = client.transport.written
        client.connection.connection_lost(None)
        return written

    assert asyncio.run(run(cut=True)) == asyncio.run(run(cut=False))
