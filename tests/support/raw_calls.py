"""Calls of gRPC as frames by hand: bodies that no client library would send, many at once."""

import asyncio
import gzip
import struct
from collections import Counter
from collections.abc import Sequence

import h2.config
import h2.connection
import h2.events

_PREFIX = struct.Struct(">BI")
_RECEIVE = 65_536


def compressed(message: bytes) -> bytes:
    """A message with its prefix, compressed."""
    body = gzip.compress(message, 9)
    return _PREFIX.pack(1, len(body)) + body


def plain(message: bytes) -> bytes:
    """A message with its prefix."""
    return _PREFIX.pack(0, len(message)) + message


class RawConnection:
    """One connection of HTTP/2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `open`."""
        self._reader, self._writer = reader, writer
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self._http.initiate_connection()
        self._statuses: dict[int, str] = {}
        self._bodies: dict[int, bytes] = {}  # what is still to be sent
        self._open: set[int] = set()

    @classmethod
    async def open(cls, port: int) -> "RawConnection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def calls(
        self, path: str, body: bytes, count: int, headers: Sequence[tuple[str, str]] = (), at_once: int = 50
    ) -> Counter[str]:
        """Send so many calls, and count them by grpc-status ("" without one)."""
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *headers,
        ]
        sent, ended = 0, Counter[str]()
        while sent < count or self._open:
            while sent < count and len(self._open) < at_once:
                stream = self._http.get_next_available_stream_id()
                self._http.send_headers(stream, fields)
                self._bodies[stream] = body
                self._open.add(stream)
                sent += 1
            self._send()
            await self._receive(ended)
        return ended

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def _send(self) -> None:
        for stream, rest in list(self._bodies.items()):
            room = min(self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size)
            while rest and room > 0:
                self._http.send_data(stream, rest[:room], end_stream=len(rest) <= room)
                rest = rest[room:]
                room = min(self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size)
            if rest:
                self._bodies[stream] = rest
            else:
                del self._bodies[stream]
        self._writer.write(self._http.data_to_send())

    async def _receive(self, ended: Counter[str]) -> None:
        data = await self._reader.read(_RECEIVE)
        if not data:
            raise ConnectionResetError("the server hung up")
        for event in self._http.receive_data(data):
            match event:
                case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                    for name, value in event.headers:
                        if name == b"grpc-status":
                            self._statuses[event.stream_id] = value.decode()
                case h2.events.DataReceived():
                    self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self._bodies.pop(event.stream_id, None)
                    if event.stream_id in self._open:
                        self._open.discard(event.stream_id)
                        ended[self._statuses.pop(event.stream_id, "")] += 1
        self._writer.write(self._http.data_to_send())
