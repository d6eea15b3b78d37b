"""The sockets on which gRPC listens and serves in this process. gRPC itself cannot stop listening alone."""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress

import psutil


def close(ports: Collection[int]) -> None:
    """Stop listening on these ports. Open connections stay open. It does nothing on macOS, which has no such call."""
    for descriptor in _sockets(ports, psutil.CONN_LISTEN):
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listener:
            listener.shutdown(socket.SHUT_RDWR)


def are_connected(ports: Collection[int]) -> bool:
    """Return whether any client is connected to these ports."""
    return any(_sockets(ports, psutil.CONN_ESTABLISHED))


def _sockets(ports: Collection[int], status: str) -> Iterator[int]:
    """Yield the file descriptors of the sockets."""
    for each in psutil.Process().net_connections("tcp"):
        if each.status == status and each.laddr.port in ports:
            yield each.fd
