"""Ports that several processes share. A port that another program has is noticed."""

import socket
from dataclasses import dataclass


class PortInUseError(Exception):
    """Another program listens on the port."""


@dataclass(frozen=True)
class ReservedPort:
    """A port held for the processes of this server. The supervisor binds it and never listens on it."""

    number: int
    _socket: socket.socket

    def release(self) -> None:
        """Release the port, after the processes have stopped."""
        self._socket.close()


def reserve(host: str, port: int) -> ReservedPort:
    """Hold a port; 0 takes a free one. Raises PortInUseError.

    With SO_REUSEPORT we would share a port with another program, so the port is first bound without it.
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
