"""The server that the clients call: tests/interop/interop.proto on server/transport."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_tools import protoc

from server.transport import Call, Method, Options, Server, StatusError, bidirectional, server_streaming, unary

DESCRIPTORS = Path("build/interop/interop.binpb").absolute()
_PROTO = Path(__file__).with_name("interop.proto")


class Served:
    """A served test server, and what its handlers saw."""

    def __init__(self, options: Options, address: str, *, reuse_port: bool) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self.running = self.cancelled = 0  # handlers
        self.compressed = 0  # requests
        self.server = Server(self._methods(), options, report=lambda path, error: self.failures.append((path, error)))
        self.port = self.server.listen(address, reuse_port=reuse_port)
        self.target = address if address.startswith("unix:") else f"localhost:{self.port}"

    def _methods(self) -> dict[str, Method]:
        return {
            "/interop.Interop/Echo": unary(self._echo),
            "/interop.Interop/Sizes": server_streaming(self._sizes),
            "/interop.Interop/Chat": bidirectional(self._chat),
        }

    async def _echo(self, call: Call, data: bytes) -> bytes:
        _send_metadata(call)
        self.compressed += call.request.route.zips
        with self._counted():
            return await _answer(data)

    async def _sizes(self, _: Call, data: bytes) -> AsyncIterator[bytes]:
        for size in _message("SizesRequest").FromString(data).sizes:
            yield _message("EchoResponse")(payload=bytes(size)).SerializeToString()

    async def _chat(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        _send_metadata(call)
        with self._counted():
            async for data in messages:
                yield await _answer(data)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a handler that runs, and whether it is cancelled."""
        self.running += 1
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@asynccontextmanager
async def serving(
    options: Options | None = None, address: str = "localhost:0", *, reuse_port: bool = False
) -> AsyncIterator[Served]:
    """Serve until the end of the block."""
    served = Served(options or Options(), address, reuse_port=reuse_port)
    await served.server.serve()
    try:
        yield served
    finally:
        await served.server.drain(1.0)
    assert served.failures == []
    assert served.server.waiting == served.server.open_connections == 0


def write_descriptors() -> None:
    """Compile the proto to a file of descriptors, which all clients read. Raises SystemExit where it cannot be."""
    DESCRIPTORS.parent.mkdir(parents=True, exist_ok=True)
    written = DESCRIPTORS.with_suffix(f".{os.getpid()}")
    status = protoc.main(["protoc", f"-I{_PROTO.parent}", f"--descriptor_set_out={written}", str(_PROTO)])
    if status:
        sys.exit(status)
    written.replace(DESCRIPTORS)  # another process of pytest may be reading it


def _send_metadata(call: Call) -> None:
    call.send_with_headers([("x-interop", value) for value in call.metadata.all("x-interop")])
    call.send_with_status([("x-interop-bin", value) for value in call.metadata.all("x-interop-bin")])


async def _answer(data: bytes) -> bytes:
    request = _message("EchoRequest").FromString(data)
    if request.wait_milliseconds:
        await asyncio.sleep(request.wait_milliseconds / 1000)
    if request.code:
        info = AnyMessage()
        info.Pack(ErrorInfo(reason=request.reason))
        status = Status(code=request.code, message=request.status_message, details=[info])
        raise StatusError(request.code, request.status_message, status.SerializeToString())
    response: bytes = _message("EchoResponse")(payload=request.payload).SerializeToString()
    return response


@cache
def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"interop.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool
