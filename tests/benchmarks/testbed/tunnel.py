"""A tunnel for the load generator, which speaks no TLS: what comes on a port goes on to a server, over TLS or as it is.

Run `python -m tests.benchmarks.testbed.tunnel PORT [CERTIFICATES]`: the port of the server, and the file of the
certificates to trust, without which the tunnel is plaintext. It prints "ready PORT", and ends on SIGTERM.
"""

import asyncio
import ssl
import sys

import uvloop


class Pipe(asyncio.Protocol):
    """One direction: what arrives here goes to `other`."""

    def __init__(self) -> None:
        self.other: Pipe | None = None
        self.early: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def join(self, other: "Pipe") -> None:
        self.other, other.other = other, self
        for pipe in (self, other):
            for data in pipe.early:
                pipe.data_received(data)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # is one, if not by class
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def serve(port: int, certificates: str | None) -> None:
    """Until cancelled."""
    context = None
    if certificates is not None:
        context = ssl.create_default_context(cafile=certificates)
        context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()

    async def connect(near: Pipe) -> None:
        _, far = await loop.create_connection(Pipe, "127.0.0.1", port, ssl=context)
        near.join(far)

    def accept() -> Pipe:
        near = Pipe()
        task = loop.create_task(connect(near))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return near

    server = await loop.create_server(accept, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
