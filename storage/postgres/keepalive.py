"""TCP keepalive: both sides of a connection notice within half a minute that the other machine has vanished.

Then a worker stops waiting for PostgreSQL, and PostgreSQL frees the leases of a worker.
"""

import socket
import sys
from typing import Any, cast

_IDLE_SECONDS, _INTERVAL_SECONDS, _PROBES = 10, 5, 3
_GONE_MILLISECONDS = 1_000 * (_IDLE_SECONDS + _INTERVAL_SECONDS * _PROBES)
SERVER_SETTINGS = {
    "tcp_keepalives_idle": str(_IDLE_SECONDS),
    "tcp_keepalives_interval": str(_INTERVAL_SECONDS),
    "tcp_keepalives_count": str(_PROBES),
}


async def keep_alive(connection: object) -> None:
    """Set keepalive for our side of an asyncpg connection: asyncpg has no option for it."""
    transport = cast("Any", connection)._transport
    found = transport.get_extra_info("socket")
    if found.family == socket.AF_UNIX:
        return
    with socket.fromfd(found.fileno(), found.family, found.type, found.proto) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_SECONDS)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_MILLISECONDS)
