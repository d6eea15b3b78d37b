"""Composes one server process: stores, catalog, use cases, servicers, gRPC servers for both planes."""

import asyncio
from typing import Any, Self

import asyncpg
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from samplit.admin.v1 import (
    alert_service_pb2,
    alert_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    clustering_service_pb2,
    clustering_service_pb2_grpc,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
    recommendation_service_pb2,
    recommendation_service_pb2_grpc,
    segmentation_service_pb2,
    segmentation_service_pb2_grpc,
)

from allocator.context import load_tables
from allocator.kernels import warm_up
from server import metrics
from server.allocation.allocate import Allocate
from server.allocation.bot_counter import BotCounter
from server.allocation.catalog import Catalog
from server.allocation.convert import Convert
from server.allocation.postgres_fallback import Postgres
from server.allocation.records import Records
from server.allocation.returning_users import ReturningUsers
from server.api.admin.alerts.servicer import AlertServicer
from server.api.admin.audit.servicer import AuditServicer
from server.api.admin.clustering.commands import ClusteringCommands
from server.api.admin.clustering.servicer import ClusteringServicer
from server.api.admin.clustering.training_queue import Trainings
from server.api.admin.experiments.commands import ExperimentCommands
from server.api.admin.experiments.servicer import ExperimentServicer
from server.api.admin.recommendations.commands import RecommendationCommands
from server.api.admin.recommendations.servicer import RecommendationServicer
from server.api.admin.segmentation.commands import SegmentationCommands
from server.api.admin.segmentation.servicer import SegmentationServicer
from server.api.admin.writes import Writes
from server.api.allocation.servicer import SERVICE, AllocationServicer
from server.api.authentication import Authenticator
from server.api.health import HealthReporter
from server.api.interceptor import AuthInterceptor
from server.clock import Clock
from server.recommendations.checker import Checker
from server.runtime import listeners
from server.settings import Settings
from server.tasks import end, run_together
from storage.encryption import load_secrets
from storage.postgres.pool import close_pool, create_pool
from storage.redis.client import Client, create_client
from storage.redis.function_connection import create_function_connections
from storage.redis.function_library import prepare

_POOL_SIZE = 8
_LOOK_SECONDS = 0.25
_ADMIN = tuple(
    service.full_name
    for file in (
        experiment_service_pb2,
        segmentation_service_pb2,
        clustering_service_pb2,
        recommendation_service_pb2,
        alert_service_pb2,
        audit_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)
_SCOPES = {SERVICE: "allocate", **dict.fromkeys(_ADMIN, "admin")}
_OPTIONS = [
    ("grpc.so_reuseport", 1),
    # A queue of calls is cut where it is some 200 ms long: gRPC answers CANCELLED beyond, at a fifth of the cost of an
    # answer of ours. Longer queues answer calls that nobody waits for any more.
    ("grpc.server.max_pending_requests", 192),
    ("grpc.server.max_pending_requests_hard_limit", 256),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
]


def server_options(connection_age: float) -> list[tuple[str, int]]:
    """Of a gRPC server whose connections end after so many seconds, some a tenth earlier or later.

    SO_REUSEPORT spreads connections, not calls: connections that end now and then are spread anew.
    """
    return [*_OPTIONS, ("grpc.max_connection_age_ms", round(connection_age * 1000))]


class Application:
    """A server process, from `start` to `stop`. Needs DSN and URL in the settings."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, redis: Client, clock: Clock) -> None:
        """Use `start`."""
        self._pool = pool
        self._redis = redis
        secrets = load_secrets(settings.secrets_directory)
        self._authenticator = Authenticator(redis)
        self._postgres = Postgres(pool, secrets)
        self._catalog = Catalog(redis, secrets, self._authenticator, self._postgres, settings.poll_interval)
        self._bots = BotCounter(redis)
        self._links = create_function_connections(redis, settings.redis_timeout, settings.shards)
        self._returning = ReturningUsers()
        self._records = Records(self._links, self._returning)
        self._health_reporter = HealthReporter(
            redis,
            self._links,
            pool,
            self._catalog,
            self._records,
            settings.poll_interval,
            self._tell,
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined] # the stubs lack it
        gate = AuthInterceptor(self._authenticator, _SCOPES)
        options = server_options(settings.connection_age)
        self._allocation = grpc.aio.server(interceptors=[gate], options=options)
        self._admin = grpc.aio.server(interceptors=[gate], options=options)
        self._allocation_servicer(secrets.identity, clock).add_to(self._allocation)
        writes = Writes(pool, redis, self._catalog, clock)
        commands = ExperimentCommands(writes, secrets, clock)
        experiment_service_pb2_grpc.add_ExperimentServiceServicer_to_server(
            ExperimentServicer(pool, commands, self._catalog, secrets.identity, clock), self._admin
        )
        self._trainings = Trainings(settings.stores[0], pool)
        segmentation = SegmentationCommands(writes, self._trainings, clock)
        segmentation_service_pb2_grpc.add_SegmentationServiceServicer_to_server(
            SegmentationServicer(pool, segmentation, self._catalog, clock), self._admin
        )
        clustering = ClusteringCommands(pool, writes, self._trainings, secrets, clock)
        clustering_service_pb2_grpc.add_ClusteringServiceServicer_to_server(
            ClusteringServicer(pool, clustering, secrets, clock), self._admin
        )
        recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server(
            RecommendationServicer(
                pool,
                redis,
                settings.shards,
                Checker(pool, redis, secrets, clock),
                RecommendationCommands(writes, self._trainings, clock),
                self._trainings,
                clock,
            ),
            self._admin,
        )
        alert_service_pb2_grpc.add_AlertServiceServicer_to_server(AlertServicer(pool, clock), self._admin)
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(pool), self._admin)
        self.port = self._listen(self._allocation, (SERVICE,), settings, settings.port)
        self.admin_port = self._listen(self._admin, _ADMIN, settings, settings.admin_port)

    @classmethod
    async def start(cls, settings: Settings, clock: Clock) -> Self:
        """Connect, compile kernels, listen, and say SERVING.

        Raises StoreUnavailableError, SecretsUnusableError, or RuntimeError if a port cannot be had.
        """
        warm_up()
        load_tables()
        dsn, url = settings.stores
        redis = create_client(url, settings.redis_timeout)
        await prepare(redis)
        application = cls(settings, await create_pool(dsn, size=_POOL_SIZE), redis, clock)
        await application._authenticator.reload()
        await application._catalog.load_index()
        application.background = asyncio.create_task(
            run_together(
                *(link.run() for link in dict.fromkeys(application._links)),
                application._catalog.run(),
                application._bots.run(),
                application._health_reporter.run(),
                metrics.watch(application._is_connected, lambda: application._catalog.current_at),
            )
        )
        for link in application._links:
            await link.connected()
        await application._health_reporter.look()
        await application._allocation.start()
        await application._admin.start()
        await application._say(health_pb2.HealthCheckResponse.SERVING)
        return application

    background: asyncio.Task[None]  # what must go on until `stop`

    async def leave(self) -> None:
        """Take no more connections, and wait until those that there are have reached their age.

        gRPC's own stop would end calls that have reached the process, and that no handler has taken up.
        """
        own = {self.port, self.admin_port}
        listeners.close(own)
        while listeners.are_connected(own):  # noqa: ASYNC110 (the kernel tells nobody)
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those in flight `grace` seconds, and let go of everything."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.gather(self._allocation.stop(grace), self._admin.stop(grace))
        await end(self.background)
        await self.flush()
        await self._redis.aclose()
        await self._trainings.close()
        await close_pool(self._pool)

    def _is_connected(self) -> bool:
        return all(link.is_connected for link in self._links)

    async def flush(self) -> None:
        """Pass on what is counted in memory."""
        await self._bots.flush()

    def _allocation_servicer(self, identity: bytes, clock: Clock) -> AllocationServicer:
        records = self._records
        postgres = self._postgres
        allocate = Allocate(self._catalog, identity, records, self._returning, postgres, self._bots)
        return AllocationServicer(allocate, Convert(self._catalog, identity, records), clock)

    def _listen(self, server: Any, services: tuple[str, ...], settings: Settings, port: int) -> int:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        address = f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"
        if settings.tls_certificate_file and settings.tls_private_key_file:
            pair = settings.tls_private_key_file.read_bytes(), settings.tls_certificate_file.read_bytes()
            bound: int = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            bound = server.add_insecure_port(address)
        return bound

    async def _tell(self, service: str, serves: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self._health.set(service, status.SERVING if serves else status.NOT_SERVING)

    async def _say(self, status: Any) -> None:
        for service in ("", *_SCOPES):
            await self._health.set(service, status)
