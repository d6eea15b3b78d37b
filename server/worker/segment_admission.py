"""Admits segments: an experiment with more segments than it may have keeps those with the most users."""

from datetime import timedelta

import structlog

from allocator.experiment import Experiment
from allocator.segmentation.admission import plan_admission
from server.alerts.faults import Faults
from server.clock import Clock
from server.tasks import repeat
from storage.postgres.counts import traffic
from storage.postgres.experiments import experiments
from storage.postgres.pool import Connection, Pool
from storage.redis import keys, segment_registry
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 10.0
_LONGEST_WINDOW, _SHORTEST_WINDOW = timedelta(hours=24), timedelta(minutes=10)
_ENOUGH_USERS = 50_000  # in a window, to tell which segments are the largest
_MOST_READ = 250_000  # users, even if all users of two days came in the window; PostgreSQL takes two seconds for them


class SegmentAdmission:
    """Revises the segment registries that are full, every ten seconds."""

    def __init__(self, pool: Pool, redis: Client, clock: Clock, faults: Faults) -> None:
        self._faults = faults
        self._pool = pool
        self._redis = redis
        self._clock = clock

    async def run(self) -> None:
        """Revise until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "admitting segments")

    async def run_once(self) -> None:
        """Revise the registry of every running experiment that is segmented by dimensions."""
        async with self._pool.acquire() as connection:
            for experiment_id in await traffic.segmented(connection):
                async with self._faults.isolate(connection, experiment_id, "revise its segments"):
                    experiment = await experiments.get(connection, experiment_id)
                    if experiment is not None:
                        await self._revise(connection, experiment)

    async def _revise(self, connection: Connection, experiment: Experiment) -> None:
        registry = keys.segments(experiment.number, experiment.segmentation_version)
        max_segments = experiment.segmentation.max_segments
        active = (await segment_registry.load(self._redis, registry)).active
        if len(active) < max_segments:
            return
        now = self._clock()
        users_of_two_days = await traffic.users_since(connection, experiment, (now - _LONGEST_WINDOW).date())
        users = await traffic.recent_segments(
            connection,
            experiment,
            now - _window(users_of_two_days),
            limit=2 * max_segments,
            share=min(1.0, _MOST_READ / max(1, users_of_two_days)),
        )
        retire, admit = plan_admission(active.keys(), users, max_segments)
        if retire or admit:
            await segment_registry.revise(self._redis, registry, experiment.experiment_id, retire, admit)
            log.info("segments revised", experiment=experiment.experiment_id, retired=len(retire), admitted=len(admit))
        revised = await segment_registry.load(self._redis, registry)
        await traffic.store_segments(connection, experiment, revised.active, revised.retired)


def _window(users_of_two_days: int) -> timedelta:
    """Return how long ago users count: as long as 50,000 users take to come, but 10 minutes to 24 hours."""
    window = 2 * _LONGEST_WINDOW * (_ENOUGH_USERS / max(users_of_two_days, 1))
    return min(max(window, _SHORTEST_WINDOW), _LONGEST_WINDOW)
