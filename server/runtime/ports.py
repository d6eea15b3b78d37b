"""Ports that several processes share, and noticing when somebody else has them."""

import socket
from dataclasses import dataclass


class PortInUseError(Exception):
    """Another program listens there."""


@dataclass(frozen=True)
class ReservedPort:
    """A port held for this server's processes: bound by the supervisor, which never listens on it."""

    number: int
    _socket: socket.socket

    def release(self) -> None:
        """Give it up, once the processes have stopped."""
        self._socket.close()


def reserve(host: str, port: int) -> ReservedPort:
    """Make sure that a port is free, and hold it; 0 takes one that is. Raises PortInUseError.

    SO_REUSEPORT would let us share a port with a stranger, so it is first bound without.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return ReservedPort(held.getsockname()[1], held)
