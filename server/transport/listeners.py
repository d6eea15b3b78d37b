"""Sockets that a server listens on: TCP over IPv4 and IPv6, and unix sockets."""

import socket
import stat
from contextlib import suppress
from pathlib import Path

_BACKLOG = 1024
_UNIX = "unix:"


def bind(address: str, *, reuse_port: bool = False) -> list[socket.socket]:
    """Return listening sockets for "HOST:PORT", "[IPV6]:PORT", or "unix:PATH". Raises OSError and ValueError.

    Port 0 takes a free port, the same for all addresses of the host. With `reuse_port`, other processes may listen on
    the same port, and the kernel spreads connections over them.
    """
    if address.startswith(_UNIX):
        return [_bind_unix(address.removeprefix(_UNIX))]
    host, port = split(address)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, found in _resolve(host, port):
            if sockets and not port:
                found = (found[0], sockets[0].getsockname()[1], *found[2:])
            sockets.append(_bind_tcp(family, found, reuse_port=reuse_port))
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def split(address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "[IPV6]:PORT". Raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError(f"an address is HOST:PORT or unix:PATH, not {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _resolve(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _bind_tcp(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_unix(path: str) -> socket.socket:
    """Take over the path of a socket that nobody listens on any more."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(Path(path).stat().st_mode) and not _is_served(path):
                Path(path).unlink()
        bound.bind(path)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
