"""A server: it listens, counts connections, sweeps them for what is late, and drains."""

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_network

from server.transport import listeners
from server.transport.connection import Connection
from server.transport.options import Options
from server.transport.rpc.methods import Method
from server.transport.rpc.request import Authorise
from server.transport.shared import Report, Shared, Statistics, log_failure

_SOURCE_BITS_V6 = 64  # a client of IPv6 has a network of that size to itself


class Server:
    """A gRPC server. Made and used inside a running event loop: `listen`, `serve`, and `drain` at the end."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: Options | None = None,
        authorise: Authorise | None = None,
        report: Report = log_failure,
    ) -> None:
        """`methods` are by path, "/package.Service/Method"; `report` is told of handlers' defects."""
        self._options = options or Options()
        self._shared = Shared(methods, self._options, authorise, report)
        self._connections: set[Connection] = set()
        self._sources: Counter[str] = Counter()
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._is_draining = False
        self._all_lost = asyncio.Event()
        self._all_lost.set()

    @property
    def statistics(self) -> Statistics:
        """Counts since the start."""
        return self._shared.statistics

    @property
    def open_connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    @property
    def waiting(self) -> int:
        """How many calls wait for their handlers now."""
        return self._shared.waiting

    def listen(self, address: str, *, reuse_port: bool = False) -> int:
        """Listen on "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", and return the port (0 for a unix socket).

        Connections are accepted from `serve` on. Raises OSError and ValueError.
        """
        sockets = listeners.bind(address, reuse_port=reuse_port)
        self._sockets += sockets
        return 0 if sockets[0].family == socket.AF_UNIX else int(sockets[0].getsockname()[1])

    async def serve(self) -> None:
        """Accept connections. Returns once all listen."""
        loop = asyncio.get_running_loop()
        tls = self._options.tls
        timeout = self._options.handshake_seconds if tls is not None else None
        sockets, self._sockets = self._sockets, []
        for bound in sockets:
            serving = loop.create_server(self._connect, sock=bound, ssl=tls, ssl_handshake_timeout=timeout)
            self._servers.append(await serving)
        if self._sweep is None:
            self._sweep = loop.call_later(self._options.sweep_seconds, self._look)

    def forget_authorisations(self) -> None:
        """Ask the authorisation hook again for all further calls: keys have been added, changed or revoked."""
        for connection in self._connections:
            connection.requests.forget()

    async def drain(self, grace: float) -> None:
        """Accept no more, let calls under way end within `grace` seconds, and close all connections."""
        self._is_draining = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.upkeep.drain(grace)
        try:
            async with asyncio.timeout(grace):
                await self._all_lost.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.upkeep.end_calls()
            await self._abort_rest()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _abort_rest(self) -> None:
        """Hang up on clients that do not."""
        try:
            async with asyncio.timeout(1.0):
                await self._all_lost.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.transport.abort()
            await self._all_lost.wait()

    def _connect(self) -> Connection:
        return Connection(self._shared, self._admit, self._forget)

    def _admit(self, connection: Connection) -> bool:
        """Count a connection, and return whether there is room for it."""
        self.statistics.connections += 1
        source = _source(connection.peer.address)
        self._connections.add(connection)
        self._sources[source] += 1
        self._all_lost.clear()
        options = self._options
        fits = len(self._connections) <= options.most_connections
        if fits and self._sources[source] <= options.most_connections_a_source and not self._is_draining:
            return True
        self.statistics.refused_connections += 1
        return False

    def _forget(self, connection: Connection) -> None:
        source = _source(connection.peer.address)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        self._connections.discard(connection)
        if not self._connections:
            self._all_lost.set()

    def _look(self) -> None:
        now = self._shared.clock()
        for connection in list(self._connections):
            connection.upkeep.look(now)
        self._sweep = self._shared.loop.call_later(self._options.sweep_seconds, self._look)


def _source(address: str) -> str:
    if ":" not in address:
        return address
    return str(ip_network(f"{address.partition('%')[0]}/{_SOURCE_BITS_V6}", strict=False))
