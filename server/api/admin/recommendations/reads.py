"""What RecommendationService reads: recommendations, the freshness of what a check rests on, and measured lift."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from allocator.experiment import Experiment, SegmentationMode
from server.api.admin.reads import read_experiment
from server.clock import Clock
from server.recommendations.measured_lift import MeasuredLift, measure_lift
from storage.postgres.counts import counts, traffic
from storage.postgres.experiments import posteriors
from storage.postgres.pool import Pool, snapshot
from storage.postgres.segmentation import cluster_models, recommendations, serving_state
from storage.postgres.segmentation.recommendations import Recommendation, RecommendationState
from storage.redis import streams
from storage.redis.client import UNREACHABLE, Client


@dataclass(frozen=True)
class Freshness:
    """When the data of an experiment last changed; None where it never did.

    drain_lag_seconds: the age of the oldest event that waits in a stream; None while Redis is out of reach.
    """

    last_assignment_at: datetime | None
    last_conversion_at: datetime | None
    posterior_published_at: datetime | None
    model_trained_at: datetime | None
    checked_at: datetime | None
    drain_lag_seconds: float | None


@dataclass(frozen=True)
class SegmentationMetrics:
    """What the serving segmentation brought. `measured` is None where the experiment is not segmented."""

    experiment: Experiment
    serves_since: datetime | None
    measured: MeasuredLift | None
    segment_keys: Mapping[int, str]


class RecommendationReads:
    """The reads of RecommendationService."""

    def __init__(self, pool: Pool, redis: Client, shards: int, clock: Clock) -> None:
        self._pool = pool
        self._redis = redis
        self._shards = shards
        self._clock = clock

    async def list_page(
        self, *, experiment_id: str, state: RecommendationState | None, before: int | None, limit: int
    ) -> list[tuple[Recommendation, Experiment]]:
        """Return recommendations with their experiments, the newest first. An empty id means all experiments.

        Raises InvalidFieldError, ExperimentNotFoundError.
        """
        async with self._pool.acquire() as connection, snapshot(connection):
            if experiment_id:
                await read_experiment(connection, experiment_id)
            found = await recommendations.list_page(
                connection, experiment_id=experiment_id or None, state=state, before=before, limit=limit
            )
            named = {each.experiment_id: await read_experiment(connection, each.experiment_id) for each in found}
        return [(each, named[each.experiment_id]) for each in found]

    async def freshness(self, experiment: Experiment) -> Freshness:
        """Return when the data of an experiment last changed."""
        async with self._pool.acquire() as connection:
            assigned, converted = await traffic.activity(connection, experiment.number)
            posterior = await posteriors.load(connection, experiment.number)
            state = await serving_state.state(connection, experiment.number)
            version = experiment.segmentation.model_version
            models: Sequence[cluster_models.StoredModel] = ()
            if version is not None:
                models = await cluster_models.models(connection, experiment.number, version=version)
        lag = None
        with suppress(*UNREACHABLE):
            backlogs = [await streams.backlog(self._redis, shard) for shard in range(self._shards)]
            lag = max(each.age for each in backlogs)
        return Freshness(
            last_assignment_at=assigned,
            last_conversion_at=converted,
            posterior_published_at=posterior.published_at if posterior else None,
            model_trained_at=models[0].trained_at if models else None,
            checked_at=state.checked_at,
            drain_lag_seconds=lag,
        )

    async def segmentation_metrics(self, experiment_id: str) -> SegmentationMetrics:
        """Return what the serving segmentation brought. Raises InvalidFieldError, ExperimentNotFoundError."""
        now = self._clock()
        async with self._pool.acquire() as connection, snapshot(connection):
            experiment = await read_experiment(connection, experiment_id)
            state = await serving_state.state(connection, experiment.number)
            if experiment.segmentation.mode is SegmentationMode.DISABLED:
                return SegmentationMetrics(experiment, state.serves_since, None, {})
            measured = await measure_lift(connection, experiment, state, now)
            rows = await counts.segment_counts(connection, experiment.number, experiment.segmentation_version, now)
        return SegmentationMetrics(
            experiment, state.serves_since, measured, {row.segment: row.segment_key for row in rows}
        )
