"""Composes one server process: stores, use cases, and a gRPC server for each plane."""

import asyncio
from functools import partial
from typing import Self

import grpc
import structlog

from allocator.context import load_tables
from allocator.kernels import warm_up
from server import metrics
from server.api.admin.clustering.training_queue import TrainingQueue
from server.api.allocation.servicer import SERVICE, AllocationServicer
from server.api.authentication import Authenticator
from server.api.health import HealthReporter
from server.api.interceptor import AuthInterceptor
from server.clock import Clock
from server.publishing.api_keys import publish_api_keys
from server.runtime import control_plane
from server.runtime.control_plane import ControlPlane
from server.runtime.data_plane import compose_data_plane
from server.runtime.data_servers import DATA_SERVERS, leave_grpcio
from server.runtime.grpc_servers import Health, listen, server_options
from server.settings import Settings
from server.tasks import end, run_together
from storage.encryption import load_secrets
from storage.engines.disk import look_for_room
from storage.engines.embedded import is_embedded
from storage.postgres import pool as postgres_pool
from storage.postgres.pool import Pool, close_pool, create_pool
from storage.redis import client as redis_client
from storage.redis.client import Client, create_client
from storage.redis.function_library import prepare

log = structlog.get_logger()
_POOL_SIZE = 8
_PUBLISH_SECONDS = 2.0


class Application:
    """A server process, from `start` to `stop`. The settings must have the DSN and the URL of the stores."""

    def __init__(self, settings: Settings, pool: Pool, redis: Client, clock: Clock) -> None:
        """Compose everything and bind the ports. Use `start` instead."""
        self._pool = pool
        self._redis = redis
        secrets = self._secrets = load_secrets(settings.secrets_directory)
        self.data_plane = compose_data_plane(settings, secrets, pool, redis)
        self._authenticator = Authenticator(redis, secrets, self.data_plane.changes, settings.poll_interval, clock)
        self._training_queue = TrainingQueue(settings.stores[0], pool)
        self._health = Health((SERVICE, *control_plane.SERVICES))
        self._health_reporter = self._compose_health_reporter(settings)
        servicer = AllocationServicer(self.data_plane.allocate, self.data_plane.convert, clock)
        make_server = DATA_SERVERS[settings.transport]
        self._allocation = make_server(servicer, self._authenticator, self._health, settings)
        interceptor = AuthInterceptor(self._authenticator, control_plane.SCOPES)
        self._admin = grpc.aio.server(interceptors=[interceptor], options=server_options(settings.connection_age))
        ControlPlane(
            pool, redis, settings.shards, self.data_plane.catalog, secrets, self._training_queue, clock
        ).add_to(self._admin)
        self.port = self._allocation.port
        self.admin_port = listen(self._admin, control_plane.SERVICES, self._health, settings, settings.admin_port)
        self._background: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, settings: Settings, clock: Clock) -> Self:
        """Connect, compile kernels, listen, and report SERVING.

        Raises StoreUnavailableError, SecretsUnusableError, or RuntimeError if a port cannot be had.
        """
        warm_up()
        load_tables()
        dsn, url = settings.stores
        redis = create_client(url, settings.redis_timeout)
        await prepare(redis, allow_volatile=settings.allow_volatile_redis)
        application = cls(settings, await create_pool(dsn, size=_POOL_SIZE), redis, clock)
        await application._serve()
        return application

    @property
    def background(self) -> asyncio.Task[None]:
        """What runs from `start` to `stop`. If it ends earlier, the process cannot serve any more."""
        if self._background is None:
            raise RuntimeError("the application has not started")
        return self._background

    async def leave(self) -> None:
        """Accept no more connections, and wait until the open ones have ended without a failed call."""
        await asyncio.gather(self._allocation.leave(), leave_grpcio(self.admin_port))

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those in flight `grace` seconds, and release everything."""
        await self._health.set_all(serving=False)
        await asyncio.gather(self._allocation.stop(grace), self._admin.stop(grace))
        await end(self.background)
        await self.flush()
        await self._redis.aclose()
        await self._training_queue.close()
        await close_pool(self._pool)

    async def flush(self) -> None:
        """Pass on what is counted in memory."""
        await self.data_plane.bots.flush()

    def _compose_health_reporter(self, settings: Settings) -> HealthReporter:
        data_plane = self.data_plane
        return HealthReporter(
            data_plane.connections,
            self._pool,
            data_plane.catalog,
            data_plane.epochs,
            settings.poll_interval,
            self._health.set,
            partial(_has_room, settings),
        )

    async def _publish_keys(self) -> None:
        """Publish the API keys where only workers of the release before run, which cannot encrypt them."""
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS), self._pool.acquire() as connection:
                await publish_api_keys(connection, self._redis, self._secrets)
        except (*redis_client.UNREACHABLE, *postgres_pool.UNREACHABLE) as error:
            log.warning("API keys are not published: the reconciler will", error=repr(error))

    async def _serve(self) -> None:
        data_plane = self.data_plane
        await self._publish_keys()
        await self._authenticator.reload()
        await data_plane.catalog.load_index()
        self._background = asyncio.create_task(
            run_together(
                *(connection.run() for connection in dict.fromkeys(data_plane.connections)),
                data_plane.changes.run(),
                data_plane.catalog.run(),
                data_plane.epochs.run(),
                data_plane.bots.run(),
                self._authenticator.run(),
                self._health_reporter.run(),
                metrics.report_server_state(lambda: data_plane.is_connected, lambda: data_plane.catalog.current_at),
            )
        )
        for connection in data_plane.connections:
            await connection.connected()
        await data_plane.epochs.look()
        await self._health_reporter.look()
        await self._allocation.start()
        await self._admin.start()
        await self._health.set_all(serving=True)


def _has_room(settings: Settings) -> bool:
    """Return whether there is room on the disk of embedded engines. Of other stores nothing is known."""
    _, url = settings.stores
    try:
        return not is_embedded(url, settings.data_dir) or look_for_room(settings.data_dir).is_enough
    except OSError:
        return False
