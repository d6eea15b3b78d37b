"""The sockets of this process that gRPC listens and serves on; gRPC has no way to end the listening alone."""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress

import psutil


def close(ports: Collection[int]) -> None:
    """Listen on them no more; connections that there are stay. Does nothing where the system cannot (macOS)."""
    for descriptor in _sockets(ports, psutil.CONN_LISTEN):
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listener:
            listener.shutdown(socket.SHUT_RDWR)


def are_connected(ports: Collection[int]) -> bool:
    """Whether anybody is connected to them."""
    return any(_sockets(ports, psutil.CONN_ESTABLISHED))


def _sockets(ports: Collection[int], status: str) -> Iterator[int]:
    """Descriptors."""
    for each in psutil.Process().net_connections("tcp"):
        if each.status == status and each.laddr.port in ports:
            yield each.fd
