"""A proxy between a server and its Redis that can be slow, silent, or gone."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self

_CHUNK = 65_536


class Proxy:
    """Forwards between its own unix socket and another. Changed attributes apply to later messages.

    `delay` holds back every answer, in seconds. `is_silent` drops every message. See also `hold_at`.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.delay = 0.0
        self.is_silent = False
        self._target = target
        self._marker = b""
        self._markers_left = 0
        self.is_holding = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, path: Path, target: Path) -> Self:
        proxy = cls(path, target)
        await proxy.come_back()
        return proxy

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def is_away(self) -> bool:
        """Return whether connections are refused."""
        return self._server is None

    async def come_back(self) -> None:
        """Accept connections."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def go_away(self) -> None:
        """Refuse connections, and cut the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        self.cut()

    def hold_at(self, marker: bytes, count: int) -> None:
        """Forward messages of clients until the `count`th that contains the marker. Hold that and all later ones."""
        self._marker, self._markers_left = marker, count

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._open:
            writer.transport.abort()

    def half_close(self) -> None:
        """Close the sending side of every connection. Clients can still send."""
        for writer in self._open:
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()

    async def stop(self) -> None:
        await self.go_away()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        for source, sink, is_answer in ((reader, back, False), (there, writer, True)):
            task = asyncio.create_task(self._forward(source, sink, is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._marker and not is_answer and self._marker in data:
                    self._markers_left -= 1
                    if self._markers_left == 0:
                        self.is_holding.set()
                if self.is_silent or (self.is_holding.is_set() and not is_answer):
                    continue
                if is_answer and self.delay:
                    await asyncio.sleep(self.delay)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
        self._open.discard(sink)
