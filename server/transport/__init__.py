"""gRPC over HTTP/2 on asyncio: unary calls and streams, `bytes` in and `bytes` out.

Nothing here knows what is served: handlers are found by path, and messages are parsed by whoever wrote them.

    server = Server({"/echo.v1.Echo/Say": unary(say)})
    server.listen("localhost:50051")
    await server.serve()
    …
    await server.drain(grace=20)
"""

from server.transport.options import Options
from server.transport.rpc.call import Call
from server.transport.rpc.metadata import Metadata
from server.transport.rpc.methods import Method, bidirectional, immediate, server_streaming, unary
from server.transport.rpc.request import Authorise, Peer
from server.transport.rpc.status import Code, StatusError, TooLargeError
from server.transport.server import Server
from server.transport.shared import Statistics
from server.transport.tls import server_context

__all__ = [
    "Authorise",
    "Call",
    "Code",
    "Metadata",
    "Method",
    "Options",
    "Peer",
    "Server",
    "Statistics",
    "StatusError",
    "TooLargeError",
    "bidirectional",
    "immediate",
    "server_context",
    "server_streaming",
    "unary",
]
