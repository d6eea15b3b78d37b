"""What one process knows of the experiments: snapshots, loaded when first asked for and replaced as a whole.

A change notice says that an experiment changed, and a slow poll finds changes whose notice was lost. Versions never go
backwards.
"""

import asyncio
import time
from contextlib import suppress
from typing import Protocol

import structlog

from allocator.clusters import ClusterModel
from allocator.errors import ClusterModelUnreadableError, ExperimentNotFoundError
from allocator.experiment import Experiment, ExperimentState
from server import metrics
from server.allocation.change_feed import ChangeFeed
from server.allocation.registry import SegmentRegistry
from server.allocation.snapshot import Snapshot, fitting_tables
from server.logs import LogThrottle
from storage.encryption import DecryptionError, Secrets
from storage.redis import client, completeness, published, segment_registry
from storage.redis.change_notices import ChangeNotice
from storage.redis.client import Client
from storage.redis.published import IndexEntry, NotSealedError, Published
from storage.sealing import open_model

log = structlog.get_logger()
_throttle = LogThrottle()
_MISSING_SECONDS = 1.0  # how long an unknown experiment id is remembered as unknown
_MOST_MISSING = 10_000
_CHUNK, _PACE_SECONDS = 50, 0.1  # experiments that are compared at a time, and the pause between: calls go first


class Stored(Protocol):
    """Reads from Postgres what Redis does not have."""

    async def experiment(self, experiment_id: str) -> Published | None:
        """Return an experiment as it would be published, or None."""

    async def model(self, experiment_number: int, version: int) -> bytes | None:
        """Return an encrypted cluster model, or None."""


class Catalog:
    """Snapshots by experiment id, and the index of started experiments by number.

    `current_at` is when some of them were last compared with what is published, in monotonic seconds.
    """

    def __init__(
        self, redis: Client, secrets: Secrets, stored: Stored, changes: ChangeFeed, poll_interval: float
    ) -> None:
        self._redis = redis
        self._secrets = secrets
        self._stored = stored
        self._poll_interval = poll_interval
        self._snapshots: dict[str, Snapshot] = {}
        self._loading: dict[str, asyncio.Task[Snapshot]] = {}
        self._missing: dict[str, float] = {}
        self._registries: dict[tuple[int, int], SegmentRegistry] = {}
        self.index: dict[int, IndexEntry] = {}
        self.current_at = time.monotonic()
        self._index_changes = -1
        changes.subscribe("config", self._take_configuration)
        changes.subscribe("posterior", self._take_posterior)
        changes.subscribe("segments", self._take_segments)

    def known(self, experiment_id: str) -> Snapshot | None:
        """Return the snapshot of an experiment, or None if it is not loaded."""
        return self._snapshots.get(experiment_id)

    async def get(self, experiment_id: str) -> Snapshot:
        """Return the snapshot of an experiment, loaded if need be. Raises ExperimentNotFoundError."""
        snapshot = self._snapshots.get(experiment_id)
        return snapshot if snapshot is not None else await self._first_load(experiment_id)

    async def entry(self, experiment_number: int) -> IndexEntry | None:
        """Return the id and state of an experiment that has started, or None."""
        if experiment_number not in self.index:
            await self.load_index()
        return self.index.get(experiment_number)

    async def load_index(self) -> None:
        """Read which experiments have started. While Redis is being refilled, none is forgotten."""
        was_complete = await completeness.is_complete(self._redis)
        index = await published.load_index(self._redis)
        is_complete = was_complete and await completeness.is_complete(self._redis)
        self.index = index if is_complete else self.index | index

    async def registry(self, experiment_number: int, segmentation_version: int) -> SegmentRegistry:
        """Return the segments of one segmentation: the serving one, or one that served when users were answered."""
        key = experiment_number, segmentation_version
        registry = self._registries.get(key)
        if registry is None:
            registry = SegmentRegistry(self._redis, experiment_number, segmentation_version)
            with suppress(*client.UNREACHABLE):  # then the poll loads it
                await registry.load()
            self._registries[key] = registry
        return registry

    async def reload_registries(self) -> None:
        """Read all registries again: segments that are not registered in Redis any more are forgotten."""
        for registry in list(self._registries.values()):
            await registry.load()

    async def run(self) -> None:
        """Poll until cancelled, through outages of Redis."""
        while True:
            try:
                await self._catch_up()
            except Exception as error:
                log.warning("cannot poll for changes", error=repr(error))
            await asyncio.sleep(self._poll_interval)

    async def refresh(self, experiment_id: str) -> None:
        """Load an experiment again if this process serves it, and its entry in the index."""
        self._missing.pop(experiment_id, None)
        if experiment_id in self._snapshots:
            experiment = (await self._load(experiment_id)).experiment
        else:
            found = await self._published(experiment_id)
            if found is None:
                return
            experiment = found.experiment
        if experiment.state is not ExperimentState.DRAFT:
            self.index[experiment.number] = IndexEntry(experiment_id, experiment.state)

    async def _take_configuration(self, notice: ChangeNotice) -> None:
        await self.refresh(notice.experiment_id)

    async def _take_posterior(self, notice: ChangeNotice) -> None:
        if notice.experiment_id in self._snapshots:
            await self._load(notice.experiment_id)

    async def _take_segments(self, notice: ChangeNotice) -> None:
        snapshot = self._snapshots.get(notice.experiment_id)
        if snapshot is not None:
            await snapshot.segments.load()

    async def _catch_up(self) -> None:
        changes = await published.count_index_changes(self._redis)
        if changes != self._index_changes:
            await self.load_index()
            self._index_changes = changes
        self.current_at = time.monotonic()
        ids = list(self._snapshots)
        for start in range(0, len(ids), _CHUNK):
            if start:
                await asyncio.sleep(_PACE_SECONDS)
            await self._compare(ids[start : start + _CHUNK])
            self.current_at = time.monotonic()

    async def _compare(self, ids: list[str]) -> None:
        for experiment_id, versions in zip(ids, await published.load_versions(self._redis, ids), strict=True):
            snapshot = self._snapshots[experiment_id]
            known = snapshot.experiment.revision, snapshot.tables.version
            if versions.newest_revision > known[0] or versions.posterior_version > known[1]:
                await self._load_if_readable(experiment_id)
        registries = [self._snapshots[experiment_id].segments for experiment_id in ids]
        revised = await segment_registry.versions(self._redis, [registry.name for registry in registries])
        for registry, version in zip(registries, revised, strict=True):
            if version > registry.version:
                await registry.load()

    async def _load_if_readable(self, experiment_id: str) -> None:
        """Load an experiment again. One that cannot be read serves on as it is, and keeps no other from being loaded.

        Raises one of `storage.redis.client.UNREACHABLE`.
        """
        try:
            await self._load(experiment_id)
        except client.UNREACHABLE:
            raise
        except Exception as error:
            if calls := _throttle.admit(("not loaded", experiment_id)):
                log.error("experiment not loaded", experiment=experiment_id, calls=calls, error=repr(error))

    async def _first_load(self, experiment_id: str) -> Snapshot:
        if self._missing.get(experiment_id, 0.0) > time.monotonic():
            raise ExperimentNotFoundError(experiment_id)
        task = self._loading.get(experiment_id)
        if task is None:
            task = asyncio.create_task(self._load(experiment_id))
            self._loading[experiment_id] = task
            task.add_done_callback(lambda _: self._loading.pop(experiment_id, None))
        return await asyncio.shield(task)

    async def _load(self, experiment_id: str) -> Snapshot:
        found = await self._published(experiment_id)
        if found is None:
            if len(self._missing) >= _MOST_MISSING:
                self._missing.clear()
            self._missing[experiment_id] = time.monotonic() + _MISSING_SECONDS
            raise ExperimentNotFoundError(experiment_id)
        known = self._snapshots.get(experiment_id)
        experiment = found.experiment
        if known is not None and known.experiment.revision > experiment.revision:
            experiment = known.experiment
        try:
            model = await self._model(experiment, known)
        except ClusterModelUnreadableError as error:
            metrics.unreadable_models.inc()
            if calls := _throttle.admit(experiment_id):
                log.error("cluster model refused", calls=calls, error=error.message)
            if known is not None:
                return known  # the former model serves on
            model = None
        registry = await self.registry(experiment.number, experiment.segmentation_version)
        latest = self._snapshots.get(experiment_id)  # another load may have ended meanwhile
        if latest is not None and latest.experiment.revision > experiment.revision:
            return latest
        snapshot = Snapshot(
            experiment,
            fitting_tables(experiment, found.posterior, latest.tables if latest else None),
            registry,
            experiment.control,
            {variant.number: variant for variant in experiment.variants},
            model,
        )
        self._snapshots[experiment_id] = snapshot
        return snapshot

    async def _published(self, experiment_id: str) -> Published | None:
        """Read an experiment from Redis, or from Postgres where Redis is away, incomplete or not to be believed."""
        try:
            found = await published.load(self._redis, self._secrets, experiment_id)
            if found is not None or await completeness.is_complete(self._redis):
                return found
        except client.UNREACHABLE:
            if experiment_id in self._snapshots:
                raise
        except NotSealedError:  # the reconciler seals it soon
            pass
        except DecryptionError:
            if calls := _throttle.admit(("published", experiment_id)):
                log.error(
                    "Redis has an experiment that this installation has not published: PostgreSQL is asked instead",
                    experiment_id=experiment_id,
                    calls=calls,
                )
        return await self._stored.experiment(experiment_id)

    async def _model(self, experiment: Experiment, known: Snapshot | None) -> ClusterModel | None:
        """Return the model that the configuration names. Raises ClusterModelUnreadableError."""
        version = experiment.segmentation.model_version
        if version is None:
            return None
        if known is not None and known.model and known.experiment.segmentation.model_version == version:
            return known.model
        experiment_id = experiment.experiment_id
        with suppress(*client.UNREACHABLE, ClusterModelUnreadableError):
            ciphertext = await published.load_model(self._redis, experiment_id, version)
            return open_model(self._secrets, experiment_id, version, ciphertext)
        return open_model(self._secrets, experiment_id, version, await self._stored.model(experiment.number, version))
