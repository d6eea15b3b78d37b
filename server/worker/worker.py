"""Composes a worker: one code path whether it runs beside the server or on another machine."""

import asyncio

from allocator.kernels import warm_up
from server.adaptation.check import Checker
from server.alerts.watch import Watch
from server.clock import Clock
from server.notify.recipients import Recipients
from server.notify.sender import Sender
from server.settings import Settings
from server.tasks import run_together
from server.worker.admit import Admission
from server.worker.cluster import ClusterTrainer
from server.worker.drain import Drain
from server.worker.jobs import Jobs
from server.worker.mature import MaturityFinder
from server.worker.publish import Publisher
from server.worker.reconcile import Reconciler
from server.worker.resegment import Resegmenter
from server.worker.share import Share
from server.worker.sweep import Sweep
from storage.encryption import load_secrets
from storage.postgres.labels import Labeller
from storage.postgres.pool import close_pool, create_pool
from storage.redis.client import create_client
from storage.redis.library import prepare

_POOL_SIZE = 8


async def run_worker(settings: Settings, clock: Clock, ready: asyncio.Event) -> None:
    """Work until cancelled; `ready` is set once it does. Needs DSN and URL in the settings.

    Raises StoreUnavailableError or SecretsUnusableError if it cannot start.
    """
    warm_up()
    dsn, url = settings.stores
    secrets = load_secrets(settings.secrets_directory)
    redis = create_client(url)
    pool = await create_pool(dsn, size=_POOL_SIZE)
    try:
        await prepare(redis)
        publisher = Publisher(pool, redis, secrets, clock, settings.publish_interval)
        reconciler = Reconciler(pool, redis, clock, publisher.changed)
        await reconciler.once()
        share = Share(dsn, settings.shards)
        labeller = Labeller(secrets)
        sweep = Sweep(pool, Checker(pool, redis, secrets, clock), clock)
        drains = [
            Drain(dsn, redis, shard, settings, share=share, labeller=labeller, counted=publisher.changed)
            for shard in range(settings.shards)
        ]
        ready.set()
        await run_together(
            share.run(),
            publisher.run(),
            reconciler.run(),
            Resegmenter(pool, redis, secrets, labeller, clock).run(),
            Admission(pool, redis, clock).run(),
            MaturityFinder(pool, clock, publisher.changed).run(),
            Jobs(dsn, ClusterTrainer(pool, secrets, clock), sweep).run(),
            Watch(pool, redis, settings.shards, clock).run(),
            Sender(pool, Recipients.of(settings), clock).run(),
            *(drain.run() for drain in drains),
        )
    finally:
        await redis.aclose()
        await close_pool(pool)
