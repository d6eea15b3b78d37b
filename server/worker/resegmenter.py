"""Prepares the segmentations that were asked for, and lets them serve.

For each it chooses the segments, and then assigns the users who came before to them, in chunks. When all users have
their segment, it switches the experiment to the new segmentation in one step.
"""

from typing import Any

import structlog

from allocator.errors import ClusterModelUnreadableError
from allocator.experiment import Experiment, SegmentationMode
from allocator.segments import GLOBAL, GLOBAL_NUMBER, OTHER, OTHER_NUMBER, cluster_key, cluster_segment
from server.alerts.faults import Faults
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
_CHUNK = 2_000  # users; the drain of the experiment waits for a chunk


class Resegmenter:
    """Prepares pending segmentations, one after the other. It continues where a worker that was killed has stopped."""

    def __init__(
        self, pool: Pool, redis: Client, secrets: Secrets, labeller: Labeller, clock: Clock, faults: Faults
    ) -> None:
        self._faults = faults
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._labeller = labeller
        self._clock = clock

    async def run(self) -> None:
        """Run until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "preparing segmentations")

    async def run_once(self) -> None:
        """Finish every pending segmentation that no other worker works on."""
        async with self._pool.acquire() as connection:
            for number, experiment_id in await segmentations.waiting(connection):
                async with (
                    self._faults.isolate(connection, experiment_id, "prepare its segmentation"),
                    locks.try_lease(connection, locks.resegmentation(number)) as is_obtained,
                ):
                    if is_obtained:
                        await self._resegment(connection, number, experiment_id)

    async def _resegment(self, connection: Connection, number: int, experiment_id: str) -> None:
        target = await segmentations.pending(connection, number)
        if target is None:
            return
        try:
            if target.labelled_to is None:
                await self._choose_segments(connection, target, experiment_id)
            while await segmentations.label_chunk(connection, target, _CHUNK, self._labeller):
                pass
        except ClusterModelUnreadableError as error:
            await self._refuse_model(connection, target, experiment_id, error)
            return
        await publish_segments(connection, self._redis, number)  # before a server may need the number of a segment
        publication = await self._let_serve(connection, target, experiment_id)
        if publication is not None:
            await publish(self._redis, self._secrets, publication)
            log.info("segmentation serves", experiment=experiment_id, version=target.version)

    async def _choose_segments(self, connection: Connection, target: PendingSegmentation, experiment_id: str) -> None:
        experiment = await experiments.get(connection, experiment_id)
        if experiment is None:
            return
        numbers = await self._number_segments(connection, target, experiment.segmentation.max_segments)
        async with connection.transaction():
            await experiments.get(connection, experiment_id, lock=True)
            current = await segmentations.pending(connection, target.experiment_number)
            if current == target:
                await segmentations.choose(connection, target, numbers)

    async def _number_segments(
        self, connection: Connection, target: PendingSegmentation, max_segments: int
    ) -> dict[str, int]:
        """Return the number of each segment that there will be, by its key. Raises ClusterModelUnreadableError."""
        match target.mode:
            case SegmentationMode.DISABLED:
                return {GLOBAL: GLOBAL_NUMBER}
            case SegmentationMode.AUTO:
                number, version = target.experiment_number, target.model_version
                model = await cluster_models.load(connection, self._secrets, number, version)
                return {cluster_key(each): cluster_segment(each) for each in model.numbers}
            case SegmentationMode.MANUAL:
                keys = await segmentations.largest_segments(connection, target, max_segments)
                return {OTHER: OTHER_NUMBER} | {key: number for number, key in enumerate(keys, OTHER_NUMBER + 1)}

    async def _refuse_model(
        self,
        connection: Connection,
        target: PendingSegmentation,
        experiment_id: str,
        error: ClusterModelUnreadableError,
    ) -> None:
        """Give the new segmentation up because its cluster model cannot be read, and keep the one that serves."""
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
        log.error("cluster model refused, segmentation unchanged", experiment=experiment_id, error=error.message)

    async def _let_serve(
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
            now, old, new = self._clock(), _audited_rule(before), _audited_rule(after)
            await audit.record(connection, before.number, audit.SAMPLIT, "segmentation.serves", old, new, now)
            if current.actor == audit.SAMPLIT and current.origin is not None:
                origin = await recommendations.get(connection, current.origin.recommendation_id)
                if origin is not None:
                    await notify_of_own_change(connection, before, after, origin.proposal, now)
            return Publication(after, await advance_posterior(connection, self._secrets, after, self._clock))


def _audited_rule(experiment: Experiment) -> dict[str, Any]:
    segmentation = experiment.segmentation
    return {
        "mode": segmentation.mode.value,
        "segment_by": list(segmentation.segment_by),
        "model_version": segmentation.model_version,
        "segmentation_version": experiment.segmentation_version,
    }
