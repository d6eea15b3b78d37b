"""gRPC servers of this process: their options, where they listen, and the health and reflection services on each."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server.api.wire_services.health import Health as TransportHealth
from server.settings import Settings
from server.transport import Method

_OPTIONS = [
    ("grpc.so_reuseport", 1),
    # gRPC answers CANCELLED to calls beyond this queue, at a fifth of the cost of an answer of ours. The queue takes
    # some 200 ms to answer; in a longer one, calls would be answered that nobody waits for any more.
    ("grpc.server.max_pending_requests", 192),
    ("grpc.server.max_pending_requests_hard_limit", 256),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
]


def server_options(connection_age: float) -> list[tuple[str, int]]:
    """Return the options of a server whose connections end after so many seconds, give or take a tenth.

    SO_REUSEPORT spreads connections, not calls: a connection that ends now and then is spread anew.
    """
    return [*_OPTIONS, ("grpc.max_connection_age_ms", round(connection_age * 1000))]


def listen(server: Any, services: Sequence[str], health_servicer: Any, settings: Settings, port: int) -> int:
    """Add health and reflection to a server, and return the port on which it will listen.

    services: full names for reflection. port: 0 takes a free one. Raises RuntimeError if the port cannot be had.
    """
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"
    if settings.tls_certificate_file and settings.tls_private_key_file:
        pair = settings.tls_private_key_file.read_bytes(), settings.tls_certificate_file.read_bytes()
        bound: int = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        bound = server.add_insecure_port(address)
    return bound


class Health:
    """The health service on grpcio and on the transport of our own: the overall status, and one for each service."""

    name = health.SERVICE_NAME

    def __init__(self, services: Sequence[str]) -> None:
        self._services = ("", *services)
        self._transport = TransportHealth()
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined] # the stubs lack it

    def methods(self) -> Mapping[str, Method]:
        """Return the methods for the transport of our own."""
        return self._transport.methods()

    async def set_all(self, *, serving: bool) -> None:
        """Set the overall status and the status of every service."""
        for service in self._services:
            await self.set(service, serving)

    async def set(self, service: str, serving: bool) -> None:
        """Set the status of one service."""
        status = health_pb2.HealthCheckResponse
        await self.servicer.set(service, status.SERVING if serving else status.NOT_SERVING)
        self._transport.set(service, serves=serving)
