"""What happens to a connection with time: it is idle, silent, slow, too old, or told to end."""

import random
from typing import TYPE_CHECKING

from server.transport.http2 import frames
from server.transport.http2.frames import ErrorCode
from server.transport.rpc.call import Call
from server.transport.rpc.status import Code, StatusError

if TYPE_CHECKING:
    from server.transport.connection import Connection

_KEEPALIVE, _DRAIN = b"keepaliv", b"draining"  # what our PINGs carry
_AGE_SPREAD = 0.1  # connections of the same age end this share earlier or later
_DRAIN_PING_SECONDS = 2.0  # a client that answers no PING gets the last GOAWAY after so long


class Upkeep:
    """Looks at one connection now and then. `look` is called at every sweep of the server."""

    def __init__(self, connection: "Connection") -> None:
        options = connection.options
        now = connection.shared.clock()
        self.is_draining = False
        self._connection = connection
        self._options = options
        self._clock = connection.shared.clock
        self._made_at = now
        spread = random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)  # noqa: S311 # no secret
        self._ends_at = float("inf") if options.connection_age is None else now + options.connection_age * spread
        self._idle_since = now
        self._heard_at = now
        self._turns = 0
        self._last_id = 0
        self._ping_sent_at: float | None = None
        self._paused_since: float | None = None
        self._written = -1
        self._drain_began_at = now
        self._closes_at = float("inf")

    def note_idle(self) -> None:
        """Note that the last call has ended."""
        self._idle_since = self._clock()
        if self.is_draining:
            self._connection.flush_soon()

    def look(self, now: float) -> None:
        """End what is late."""
        connection = self._connection
        if connection.is_closing:
            return
        if not connection.is_greeted:
            if now - self._made_at > self._options.handshake_seconds:
                connection.fail(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came")
            return
        if self._is_stuck(now):
            connection.transport.abort()
            return
        self._look_at_calls(now)
        if self.is_draining:
            self._look_at_drain(now)
        elif now >= self._ends_at or self._is_idle(now):
            self.drain(self._options.age_grace)

    # Silence

    def take_pong(self, payload: bytes) -> None:
        """Take the client's answer to a PING."""
        self._ping_sent_at = None
        if payload == _DRAIN and self.is_draining:
            self._say_last()

    def _is_stuck(self, now: float) -> bool:
        """Return whether the client has stopped reading, sending or answering; ask one that is silent."""
        connection = self._connection
        if connection.turns != self._turns:
            self._turns = connection.turns
            self._heard_at = now
            self._ping_sent_at = None
        silent = now - self._heard_at
        if connection.has_partial_frame and silent > self._options.receive_seconds:
            return True
        if not connection.sender.is_paused:
            self._paused_since = None
        elif self._paused_since is None or connection.transport.get_write_buffer_size() != self._written:
            self._paused_since = now
            self._written = connection.transport.get_write_buffer_size()
        elif now - self._paused_since > self._options.stall_seconds:
            return True
        if self._ping_sent_at is not None:
            return now - self._ping_sent_at > self._options.keepalive_timeout
        if silent > self._options.keepalive_seconds and not connection.sender.is_paused:
            self._ping_sent_at = now
            connection.send_control(frames.ping_frame(_KEEPALIVE, ack=False))
        return False

    def _is_idle(self, now: float) -> bool:
        calls = self._connection.calls
        if calls.open or calls.last_id != self._last_id:
            self._last_id = calls.last_id
            self._idle_since = now
        return now - self._idle_since > self._options.idle_seconds

    # Calls

    def _look_at_calls(self, now: float) -> None:
        for call in list(self._connection.calls.open.values()):
            if not call.is_complete and self._is_sent_too_slowly(call, now):
                slow = "the message took too long to arrive"
                call.cancel()
                self._connection.calls.answer_error(call, StatusError(Code.CANCELLED, slow))
            elif call.pending and self._is_read_too_slowly(call, now):
                self._connection.calls.reset(call.stream_id, ErrorCode.CANCEL)

    def _is_sent_too_slowly(self, call: Call, now: float) -> bool:
        method = call.request.route.method
        if method is not None and method.streams_requests and not (call.reader and call.reader.buffer):
            return False  # between two messages, a client may wait as long as it wants
        if call.incomplete_since is None:
            call.incomplete_since = now
        return now - call.incomplete_since > self._options.receive_seconds

    def _is_read_too_slowly(self, call: Call, now: float) -> bool:
        sent, since = call.stalled
        if sent != call.sent:
            call.stalled = call.sent, now
            return False
        return now - since > self._options.stall_seconds

    # The end

    def drain(self, grace: float) -> None:
        """End the connection without failing a call: those under way have `grace` seconds.

        The first GOAWAY names no stream yet, since calls may be on their way to us. Once the client has answered a
        PING, it knows that GOAWAY, and a second one names the last stream (RFC 9113 §6.8).
        """
        connection = self._connection
        if self.is_draining or connection.is_closing:
            return
        self.is_draining = True
        self._drain_began_at = self._clock()
        self._closes_at = self._drain_began_at + grace
        if not connection.is_greeted:
            connection.close()
            return
        goaway = frames.goaway_frame(frames.LARGEST_STREAM, ErrorCode.NO_ERROR)
        connection.send_control(goaway + frames.ping_frame(_DRAIN, ack=False))
        for call in list(connection.calls.open.values()):
            method = call.request.route.method
            if method is not None and method.ends_at_drain and call.is_active:
                self._end(call)

    def close_if_done(self) -> None:
        """Close once the client knows the last stream, and no call is left."""
        connection = self._connection
        if connection.calls.refuses and not connection.calls.open:
            connection.close()

    def end_calls(self) -> None:
        """End all calls and the connection."""
        for call in list(self._connection.calls.open.values()):
            if call.is_active:
                self._end(call)
        self._connection.close()

    def _look_at_drain(self, now: float) -> None:
        connection = self._connection
        if not connection.calls.refuses and now - self._drain_began_at > _DRAIN_PING_SECONDS:
            self._say_last()
        if connection.calls.refuses and now >= self._closes_at:
            self.end_calls()

    def _say_last(self) -> None:
        connection = self._connection
        if not connection.calls.refuses:
            connection.stop_taking_calls()
            connection.send_control(frames.goaway_frame(connection.calls.last_id, ErrorCode.NO_ERROR))

    def _end(self, call: Call) -> None:
        call.cancel()
        ends = StatusError(Code.UNAVAILABLE, "the server ends this connection: call again")
        self._connection.calls.answer_error(call, ends)
