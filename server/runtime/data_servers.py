"""Serves the data plane: on the transport of our own, or on grpcio. Both serve the same servicer on the same port."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import grpc

from server.api.allocation.grpcio_service import add_to_grpcio
from server.api.allocation.servicer import SERVICE, AllocationServicer
from server.api.allocation.transport_service import allocation_methods, observe_refusal
from server.api.authentication import Authenticator
from server.api.interceptor import AuthInterceptor
from server.api.limits import MOST_BYTES
from server.api.transport import Authorisation, describe
from server.api.wire_services.reflection import Reflection
from server.runtime import listeners
from server.runtime.grpc_servers import Health, listen, server_options
from server.runtime.supervision.endpoints import join_host
from server.settings import Settings
from server.transport import Options, Server, server_context
from server.transport.rpc.methods import Method

SCOPES: Mapping[str, str] = {SERVICE: "allocate"}
_BUFFERED = 2 * MOST_BYTES  # bytes of requests that are still on their way, of one connection
_LOOK_SECONDS = 0.25


class DataServer(Protocol):
    """A server of the data plane, bound to its port."""

    port: int

    async def start(self) -> None:
        """Accept connections."""

    async def leave(self) -> None:
        """Accept no more connections, and wait until the open ones have ended without a failed call."""

    async def stop(self, grace: float) -> None:
        """Refuse new calls, and give those in flight `grace` seconds."""


class TransportServer:
    """The data plane on the transport of our own."""

    def __init__(
        self, servicer: AllocationServicer, authenticator: Authenticator, health: Health, settings: Settings
    ) -> None:
        """Bind the port. Raises OSError."""
        methods: dict[str, Method] = {
            **allocation_methods(servicer),
            **health.methods(),
            **Reflection((SERVICE, health.name)).methods(),
        }
        tls = None
        if settings.tls_certificate_file and settings.tls_private_key_file:
            tls = server_context(settings.tls_certificate_file, settings.tls_private_key_file)
        self._age = settings.connection_age
        options = Options(
            connection_age=settings.connection_age,
            message_limit=MOST_BYTES,
            most_buffered=_BUFFERED,
            describe=describe,
            observe_refusal=observe_refusal,
            tls=tls,
        )
        self._server = Server(methods, options, Authorisation(authenticator, SCOPES))
        authenticator.on_change(self._server.forget_authorisations)
        self.port = self._server.listen(join_host(settings.host, settings.port), reuse_port=True)

    async def start(self) -> None:
        """Accept connections."""
        await self._server.serve()

    async def leave(self) -> None:
        """Accept no more connections, and let the open ones end when their calls have."""
        await self._server.drain(self._age)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, and give those in flight `grace` seconds."""
        await self._server.drain(grace)


class GrpcioServer:
    """The data plane on grpcio."""

    def __init__(
        self, servicer: AllocationServicer, authenticator: Authenticator, health: Health, settings: Settings
    ) -> None:
        """Bind the port. Raises RuntimeError."""
        interceptor = AuthInterceptor(authenticator, SCOPES)
        self._server = grpc.aio.server(interceptors=[interceptor], options=server_options(settings.connection_age))
        add_to_grpcio(servicer, self._server)
        self.port = listen(self._server, (SERVICE,), health, settings, settings.port)

    async def start(self) -> None:
        """Accept connections."""
        await self._server.start()

    async def leave(self) -> None:
        """Accept no more connections, and wait until the open ones have reached their age."""
        await leave_grpcio(self.port)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, and give those in flight `grace` seconds."""
        await self._server.stop(grace)


DATA_SERVERS: Mapping[str, Callable[[AllocationServicer, Authenticator, Health, Settings], DataServer]] = {
    "samplit": TransportServer,
    "grpcio": GrpcioServer,
}


async def leave_grpcio(port: int) -> None:
    """Accept no more connections on a port of grpcio, and wait until the open ones have reached their age.

    grpcio's own stop would end calls that have reached the process and that no handler has taken up.
    """
    listeners.close({port})
    while listeners.are_connected({port}):  # noqa: ASYNC110 (the kernel tells nobody)
        await asyncio.sleep(_LOOK_SECONDS)
