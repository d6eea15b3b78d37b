"""A client that may do anything that is legal, with the package h2 as the judge of what we answer.

`HYPOTHESIS_EXAMPLES=100000 pytest tests/unit/transport/test_fuzz_legal.py` runs it longer.
"""

import asyncio
import os
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.transport import Call, Code, Options, StatusError, bidirectional, immediate, unary
from server.transport.rpc import messages
from tests.unit.transport.support import HEADERS, Client

_EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "60"))
_PATHS = ("/t.T/Now", "/t.T/Later", "/t.T/Task", "/t.T/Stream", "/t.T/Fail", "/t.T/None")
_BODIES = st.one_of(st.binary(max_size=40), st.integers(0, 100_000).map(lambda size: b"z" * size))


class LegalClient(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.open: dict[int, tuple[str, bytes, bytes]] = {}  # by stream: path, message, and what of it must be sent
        self.expected: dict[int, tuple[str, bytes]] = {}
        self.got: dict[int, tuple[dict[bytes, bytes], bytes]] = {}
        self.reset: set[int] = set()
        self.unacknowledged = 1
        self.later: list[tuple[Call, bytes]] = []
        self.runner.run(self.set_up())

    async def set_up(self) -> None:
        def later(call: Call, message: bytes) -> None:
            self.later.append((call, message))

        async def task(_: Call, message: bytes) -> bytes:
            await asyncio.sleep(0)
            return message

        async def stream(_: Call, received: Any) -> Any:
            async for message in received:
                yield message
                yield b"and"

        async def fail(_: Call, message: bytes) -> bytes:
            raise StatusError(Code.ABORTED, "Grüße % 100", b"details")

        methods = [immediate(lambda _, message: message), immediate(later), unary(task), bidirectional(stream)]
        made = dict(zip(_PATHS, [*methods, unary(fail)], strict=False))
        self.client = Client(made, Options(control_burst=100_000, reset_burst=100_000, most_pending_ever=64 << 20))
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=False))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**20)

    def flush(self) -> None:
        self.runner.run(self.exchange())

    async def exchange(self) -> None:
        while data := self.h2.data_to_send():
            self.client.send(data)
            await asyncio.sleep(0)
            self.take()
        for _ in range(4):
            await asyncio.sleep(0)
        self.take()

    def take(self) -> None:
        data, self.client.transport.written = self.client.transport.written, b""
        for event in self.h2.receive_data(data):
            assert not isinstance(event, events.ConnectionTerminated), event
            self.unacknowledged -= isinstance(event, events.SettingsAcknowledged)
            stream_id = getattr(event, "stream_id", None)
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                self.got.setdefault(stream_id, ({}, b""))[0].update(event.headers)
            elif isinstance(event, events.DataReceived):
                fields, body = self.got[stream_id]
                self.got[stream_id] = fields, body + event.data
            elif isinstance(event, events.StreamReset):
                assert event.error_code in (ErrorCodes.NO_ERROR, ErrorCodes.REFUSED_STREAM)
                self.open.pop(stream_id, None)
                self.reset.add(stream_id)

    @initialize()
    def greet(self) -> None:
        self.flush()

    @precondition(lambda self: len(self.open) < 20)
    @rule(path=st.sampled_from(_PATHS), body=_BODIES, extra=st.sampled_from(["", "same", "vary"]), pad=st.booleans())
    def begin(self, path: str, body: bytes, extra: str, pad: bool) -> None:
        stream_id = self.h2.get_next_available_stream_id()
        headers = [(name, path if name == ":path" else value) for name, value in HEADERS]
        if extra:
            headers.append(("grpc-timeout", "1H" if extra == "same" else f"{stream_id + 1000}S"))
        self.h2.send_headers(stream_id, headers)
        self.open[stream_id] = path, body, messages.pack(body)
        self.flush()

    @precondition(lambda self: self.open)
    @rule(
        choice=st.integers(0, 100), size=st.sampled_from([1, 4, 5, 100, 16_384, 10**6]), pad=st.sampled_from([None, 3])
    )
    def send(self, choice: int, size: int, pad: int | None) -> None:
        """Send some, or the rest, of a call's body, as the windows allow."""
        stream_id = sorted(self.open)[choice % len(self.open)]
        path, body, rest = self.open[stream_id]
        overhead = 0 if pad is None else pad + 1
        room = self.h2.local_flow_control_window(stream_id) - overhead
        size = min(size, room, self.h2.max_outbound_frame_size - overhead, len(rest))
        if size <= 0:
            return
        ends = size == len(rest)
        self.h2.send_data(stream_id, rest[:size], end_stream=ends, pad_length=pad)
        if ends:
            del self.open[stream_id]
            self.expected[stream_id] = path, body
        else:
            self.open[stream_id] = path, body, rest[size:]
        self.flush()

    @precondition(lambda self: self.open)
    @rule(choice=st.integers(0, 100))
    def cancel(self, choice: int) -> None:
        stream_id = sorted(self.open)[choice % len(self.open)]
        del self.open[stream_id]
        self.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        self.reset.add(stream_id)
        self.flush()

    @precondition(lambda self: self.later)
    @rule(choice=st.integers(0, 100))
    def answer_later(self, choice: int) -> None:
        call, message = self.later.pop(choice % len(self.later))
        call.reply(message)
        self.flush()

    @precondition(lambda self: not self.unacknowledged)  # h2 takes one acknowledgement for all that is outstanding
    @rule(
        name=st.sampled_from([SettingCodes.INITIAL_WINDOW_SIZE, SettingCodes.HEADER_TABLE_SIZE]),
        value=st.sampled_from([0, 1, 100, 200, 4096, 65_535, 1_000_000]),
    )
    def change(self, name: SettingCodes, value: int) -> None:
        self.h2.update_settings({name: value})
        self.unacknowledged += 1
        self.flush()

    @rule(increment=st.sampled_from([1, 1000, 100_000]))
    def widen(self, increment: int) -> None:
        self.h2.increment_flow_control_window(increment)
        self.flush()

    @rule()
    def ping(self) -> None:
        self.h2.ping(b"12345678")
        self.flush()

    @rule(full=st.booleans())
    def transport_fills_or_empties(self, full: bool) -> None:
        connection = self.client.connection

        async def change() -> None:
            if full and not connection.sender.is_paused:
                connection.pause_writing()
            elif not full and connection.sender.is_paused:
                connection.resume_writing()

        self.runner.run(change())
        self.flush()

    @invariant()
    def nothing_failed(self) -> None:
        assert not self.client.failures
        assert not self.client.connection.is_closing

    def teardown(self) -> None:
        """Let everything end; then every call must have been answered, and nothing may be kept."""
        self.transport_fills_or_empties(full=False)
        self.change(SettingCodes.INITIAL_WINDOW_SIZE, 2**24)
        self.h2.increment_flow_control_window(2**25)
        self.flush()
        while self.later:
            self.answer_later(0)
        while self.open:
            before = [len(rest) for _, _, rest in self.open.values()]
            for choice in range(len(self.open)):
                self.send(choice, 10**6, None)
            while self.later:
                self.answer_later(0)
            assert before != [len(rest) for _, _, rest in self.open.values()]
        for _ in range(3):
            self.flush()
        for stream_id, (path, body) in self.expected.items():
            if stream_id not in self.reset:
                self.check(path, body, *self.got[stream_id])
        connection = self.client.connection
        assert not connection.calls.open
        assert connection.shared.waiting == connection.shared.buffered == connection.sender.pending_bytes == 0
        assert not connection.shared.timed
        self.runner.run(self.lose())
        self.runner.close()

    async def lose(self) -> None:
        self.client.connection.connection_lost(None)
        await asyncio.sleep(0)

    def check(self, path: str, body: bytes, fields: dict[bytes, bytes], answer: bytes) -> None:
        status = int(fields[b"grpc-status"])
        if path == "/t.T/Fail":
            assert (status, fields[b"grpc-message"]) == (Code.ABORTED, b"Gr%C3%BC%C3%9Fe %25 100")
        elif path == "/t.T/None":
            assert status == Code.UNIMPLEMENTED
        else:
            again = messages.pack(b"and") if path == "/t.T/Stream" else b""
            assert (status, answer) == (0, messages.pack(body) + again)


LegalClient.TestCase.settings = settings(max_examples=_EXAMPLES, stateful_step_count=40, deadline=None)
TestLegalClient = LegalClient.TestCase
