"""Composes a worker. It is the same beside a server and on another machine."""

import asyncio

from allocator.kernels import warm_up
from server.alerts.faults import Faults
from server.alerts.watch import AlertWatch
from server.clock import Clock
from server.notifications.recipients import Recipients
from server.notifications.sender import Sender
from server.recommendations.checker import Checker
from server.settings import Settings
from server.tasks import run_together
from server.worker.drain import Drain
from server.worker.eligibility_sweep import EligibilitySweep
from server.worker.jobs import Jobs
from server.worker.maturity_finder import MaturityFinder
from server.worker.posterior_publisher import PosteriorPublisher
from server.worker.reconciler import Reconciler
from server.worker.reencryption import Reencryption
from server.worker.resegmenter import Resegmenter
from server.worker.segment_admission import SegmentAdmission
from server.worker.shard_balance import ShardBalance
from server.worker.training.cluster_trainer import ClusterTrainer
from storage.encryption import load_secrets
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import close_pool, create_pool, time_limits
from storage.redis.client import create_client
from storage.redis.function_library import prepare

_POOL_SIZE = 12  # each part of the worker holds one connection, and none may wait for another part
# Nothing that the worker asks takes minutes: a statement that does would keep its part of the worker for ever.
_SESSION = time_limits(statement_seconds=300, lock_seconds=60)


async def run_worker(settings: Settings, clock: Clock, ready: asyncio.Event) -> None:
    """Work until cancelled. `ready` is set once the worker works.

    The settings must have the DSN and the URL of the stores.

    Raises StoreUnavailableError or SecretsUnusableError if it cannot start.
    """
    warm_up()
    dsn, url = settings.stores
    secrets = load_secrets(settings.secrets_directory)
    redis = create_client(url)
    pool = await create_pool(dsn, size=_POOL_SIZE, settings=_SESSION)
    try:
        await prepare(redis, allow_volatile=settings.allow_volatile_redis)
        faults = Faults(clock)
        publisher = PosteriorPublisher(pool, redis, secrets, clock, settings.publish_interval, faults)
        reconciler = Reconciler(pool, redis, secrets, clock, publisher.mark_changed, faults)
        await reconciler.run_once()
        shard_balance = ShardBalance(dsn, settings.shards)
        labeller = Labeller(secrets)
        sweep = EligibilitySweep(pool, Checker(pool, redis, secrets, clock), clock, faults)
        drains = [
            Drain(
                dsn,
                redis,
                shard,
                settings,
                shard_balance=shard_balance,
                labeller=labeller,
                on_counts_changed=publisher.mark_changed,
            )
            for shard in range(settings.shards)
        ]
        ready.set()
        await run_together(
            shard_balance.run(),
            publisher.run(),
            reconciler.run(),
            Reencryption(pool, redis, secrets).run(),
            Resegmenter(pool, redis, secrets, labeller, clock, faults).run(),
            SegmentAdmission(pool, redis, clock, faults).run(),
            MaturityFinder(pool, clock, publisher.mark_changed, faults).run(),
            Jobs(dsn, ClusterTrainer(pool, secrets, clock), sweep).run(),
            AlertWatch(pool, redis, settings.shards, clock, faults).run(),
            Sender(pool, Recipients.of(settings), clock).run(),
            *(drain.run() for drain in drains),
        )
    finally:
        await redis.aclose()
        await close_pool(pool)
