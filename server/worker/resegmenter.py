"""Moves experiments to the segmentation that was asked for: chooses segments, labels history, and lets it serve."""

from typing import Any

import structlog

from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment, SegmentationMode
from allocator.segments import GLOBAL, GLOBAL_NUMBER, OTHER, OTHER_NUMBER, cluster_key, cluster_segment
from server.alerts.updates import update_alert
from server.clock import Clock
from server.publishing.posteriors import advance_posterior
from server.publishing.publish import publish
from server.publishing.segments import publish_segments
from server.recommendations.notices import notify_of_own_change
from server.tasks import repeat
from storage.encryption import Secrets
from storage.postgres import locks
from storage.postgres.events.labels import Labeller
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection, Pool
from storage.postgres.segmentation import cluster_models, recommendations, segmentations
from storage.postgres.segmentation.segmentations import PendingSegmentation
from storage.publication import Publication
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 0.5
_CHUNK = 2_000  # rows, while which nothing is drained for the experiment


class Resegmenter:
    """Works on what is pending, one experiment after the other, and goes on where a killed worker was."""

    def __init__(self, pool: Pool, redis: Client, secrets: Secrets, labeller: Labeller, clock: Clock) -> None:
        """Holds no state of its own."""
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._labeller = labeller
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "segmenting")

    async def run_once(self) -> None:
        """Finish all that is pending and not in other hands."""
        async with self._pool.acquire() as connection:
            for number, experiment_id in await segmentations.waiting(connection):
                async with locks.try_lease(connection, locks.resegmentation(number)) as is_obtained:
                    if is_obtained:
                        await self._move(connection, number, experiment_id)

    async def _move(self, connection: Connection, number: int, experiment_id: str) -> None:
        target = await segmentations.pending(connection, number)
        if target is None:
            return
        try:
            if target.labelled_to is None:
                await self._choose(connection, target, experiment_id)
            while await segmentations.label_chunk(connection, target, _CHUNK, self._labeller):
                pass
        except ClusterModelUnreadableError as error:
            await self._refuse(connection, target, experiment_id, error)
            return
        await publish_segments(connection, self._redis, number)  # before any server may ask for a number
        publication = await self._serve(connection, target, experiment_id)
        if publication is not None:
            await publish(self._redis, publication)
            log.info("segmentation serves", experiment=experiment_id, version=target.version)

    async def _choose(self, connection: Connection, target: PendingSegmentation, experiment_id: str) -> None:
        experiment = await experiments.get(connection, experiment_id)
        if experiment is None:
            return
        numbers = await self._numbers(connection, target, experiment.segmentation.max_segments)
        async with connection.transaction():
            await experiments.get(connection, experiment_id, lock=True)
            current = await segmentations.pending(connection, target.experiment_number)
            if current == target:
                await segmentations.choose(connection, target, numbers)

    async def _numbers(self, connection: Connection, target: PendingSegmentation, most: int) -> dict[str, int]:
        """What segments there will be, by key. Raises ClusterModelUnreadableError."""
        match target.mode:
            case SegmentationMode.DISABLED:
                return {GLOBAL: GLOBAL_NUMBER}
            case SegmentationMode.AUTO:
                number, version = target.experiment_number, target.model_version
                model = await cluster_models.load(connection, self._secrets, number, version)
                return {cluster_key(each): cluster_segment(each) for each in model.numbers}
            case SegmentationMode.MANUAL:
                keys = await segmentations.largest_segments(connection, target, most)
                return {OTHER: OTHER_NUMBER} | {key: number for number, key in enumerate(keys, OTHER_NUMBER + 1)}

    async def _refuse(
        self,
        connection: Connection,
        target: PendingSegmentation,
        experiment_id: str,
        error: ClusterModelUnreadableError,
    ) -> None:
        """Stay with what serves, and say why."""
        number, now = target.experiment_number, self._clock()
        async with connection.transaction():
            experiment = await experiments.get(connection, experiment_id, lock=True)
            current = await segmentations.pending(connection, number)
            if target.model_version is None or current is None or current.version != target.version:
                return
            await cluster_models.refuse(connection, number, target.model_version, error.message)
            await segmentations.abandon(connection, number)
            refused = {"model_version": target.model_version, "problem": error.message}
            await audit.record(connection, number, audit.SAMPLIT, "segmentation.refused", {}, refused, now)
            if target.actor == audit.SAMPLIT:
                await update_alert(connection, experiment, AlertKind.AUTO_ACTIVATION_FAILED, "", error.message, now)
        log.error("cluster model refused", experiment=experiment_id, error=error.message)

    async def _serve(
        self, connection: Connection, target: PendingSegmentation, experiment_id: str
    ) -> Publication | None:
        """Let the version serve, and return what to publish. Return None if another segmentation is wanted by now."""
        async with connection.transaction():
            before = await experiments.get(connection, experiment_id, lock=True)
            current = await segmentations.pending(connection, target.experiment_number)
            if before is None or current is None or current.version != target.version:
                return None
            await segmentations.serve(connection, target, self._clock())
            after = await experiments.get(connection, experiment_id)
            if after is None:
                return None
            now, rules = self._clock(), (_rule(before), _rule(after))
            await audit.record(connection, before.number, audit.SAMPLIT, "segmentation.serves", *rules, now)
            if current.actor == audit.SAMPLIT and current.origin is not None:
                origin = await recommendations.get(connection, current.origin.recommendation_id)
                if origin is not None:
                    await notify_of_own_change(connection, before, after, origin.proposal, now)
            return Publication(after, await advance_posterior(connection, self._secrets, after, self._clock))


def _rule(experiment: Experiment) -> dict[str, Any]:
    segmentation = experiment.segmentation
    return {
        "mode": segmentation.mode.value,
        "segment_by": list(segmentation.segment_by),
        "model_version": segmentation.model_version,
        "segmentation_version": experiment.segmentation_version,
    }
