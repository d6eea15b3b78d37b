"""gRPC servers of this process: their options, where they listen, and the health and reflection services on each."""

from collections.abc import Mapping, Sequence

import grpc

from server.api.limits import MOST_BYTES
from server.api.wire_services import grpcio
from server.api.wire_services import health as health_service
from server.api.wire_services.reflection import Reflection
from server.runtime.supervision.endpoints import join_host
from server.settings import Settings
from server.transport import Method

_OPTIONS = [
    ("grpc.so_reuseport", 1),
    # gRPC answers CANCELLED to calls beyond this queue, at a fifth of the cost of an answer of ours. The queue takes
    # some 200 ms to answer; in a longer one, calls would be answered that nobody waits for any more.
    ("grpc.server.max_pending_requests", 192),
    ("grpc.server.max_pending_requests_hard_limit", 256),
    # Beyond it, gRPC refuses a request by itself, without a reason for programs. Ours is refused first, with one.
    ("grpc.max_receive_message_length", 2 * MOST_BYTES),
    # Clients may send a PING every 10 s, also without a call, as they do behind balancers that drop idle connections.
    # Half of that is refused only, since a network may delay one PING and not the next.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]


def server_options(connection_age: float) -> list[tuple[str, int]]:
    """Return the options of a server whose connections end after so many seconds, give or take a tenth.

    SO_REUSEPORT spreads connections, not calls: a connection that ends now and then is spread anew.
    """
    return [*_OPTIONS, ("grpc.max_connection_age_ms", round(connection_age * 1000))]


def listen(server: grpc.aio.Server, services: Sequence[str], health: "Health", settings: Settings, port: int) -> int:
    """Add health and reflection to a server, and return the port on which it will listen.

    services: full names for reflection. port: 0 takes a free one. Raises RuntimeError if the port cannot be had.
    """
    grpcio.add_health(server, health.service)
    grpcio.add_reflection(server, Reflection((*services, health.name)))
    address = join_host(settings.host, port)
    if settings.tls_certificate_file and settings.tls_private_key_file:
        pair = settings.tls_private_key_file.read_bytes(), settings.tls_certificate_file.read_bytes()
        bound: int = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        bound = server.add_insecure_port(address)
    return bound


class Health:
    """The health service on both planes: the overall status, and one for each service."""

    name = health_service.NAME

    def __init__(self, services: Sequence[str]) -> None:
        self._services = (health_service.OVERALL, *services)
        self.service = health_service.Health()

    def methods(self) -> Mapping[str, Method]:
        """Return the methods for the transport of our own."""
        return self.service.methods()

    async def set_all(self, *, serving: bool) -> None:
        """Set the overall status and the status of every service."""
        for service in self._services:
            await self.set(service, serving)

    async def set(self, service: str, serving: bool) -> None:
        """Set the status of one service."""
        self.service.set(service, serves=serving)
