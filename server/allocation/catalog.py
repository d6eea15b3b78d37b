"""What this process knows of the experiments: snapshots, loaded lazily and swapped whole.

A notice says that an experiment changed; a slow poll is the safety net. Versions never go backwards.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from allocator.clusters import ClusterModel
from allocator.errors import ClusterModelUnreadableError, ExperimentNotFoundError
from allocator.experiment import Experiment, ExperimentState, Variant
from allocator.posterior.tables import PosteriorTables, posterior_tables
from allocator.segments import OTHER, cluster_key, segment_key
from server import metrics
from server.allocation.registry import SegmentRegistry
from server.api.allocation.wire import VariantAnswer, variant_answer
from server.api.authentication import Authenticator
from server.logs import LogThrottle
from server.tasks import run_together
from storage.encryption import Secrets
from storage.redis import client, publications, segment_registry
from storage.redis.client import Client
from storage.redis.publications import IndexEntry, Notice, Published
from storage.sealing import open_model

log = structlog.get_logger()
_throttle = LogThrottle()
_MISSING_SECONDS = 1.0  # how long an unknown experiment id is remembered as unknown
_MOST_MISSING = 10_000
_CHUNK, _PACE_SECONDS = 50, 0.1  # experiments that are compared at a time, and the pause between: calls go first


@dataclass(frozen=True)
class Snapshot:
    """An experiment with the tables that decide, its variants by number, and how they are answered.

    model: what divides users into clusters, if it is asked for and can be read.
    """

    experiment: Experiment
    tables: PosteriorTables
    segments: SegmentRegistry
    control: Variant
    variants: dict[int, Variant]
    answers: dict[int, VariantAnswer]
    model: ClusterModel | None = None

    def segment_key(self, dimensions: Mapping[str, str]) -> str:
        """The segment of a context; "other" where its model cannot be read."""
        if self.model is not None:
            return cluster_key(self.model.number(dimensions))
        segmentation = self.experiment.segmentation
        return OTHER if segmentation.model_version else segment_key(segmentation.segment_by, dimensions)


class Stored(Protocol):
    """What Postgres holds of what is published."""

    async def experiment(self, experiment_id: str) -> Published | None:
        """An experiment."""

    async def model(self, experiment_number: int, version: int) -> bytes | None:
        """An encrypted cluster model."""


class Catalog:
    """Snapshots by experiment id, and the index of experiments by number.

    `current_at` is when some of it was last compared with what is published, in monotonic seconds.
    """

    def __init__(
        self,
        redis: Client,
        secrets: Secrets,
        authenticator: Authenticator,
        stored: Stored,
        poll_interval: float,
    ) -> None:
        """Empty; `run` keeps it fresh. `stored` reads from Postgres what Redis does not have."""
        self._stored = stored
        self._redis = redis
        self._secrets = secrets
        self._authenticator = authenticator
        self._poll_interval = poll_interval
        self._snapshots: dict[str, Snapshot] = {}
        self._loading: dict[str, asyncio.Task[Snapshot]] = {}
        self._missing: dict[str, float] = {}
        self._registries: dict[tuple[int, int], SegmentRegistry] = {}
        self.index: dict[int, IndexEntry] = {}
        self.current_at = time.monotonic()
        self._index_changes = -1

    def known(self, experiment_id: str) -> Snapshot | None:
        """The snapshot of an experiment, if it is loaded."""
        return self._snapshots.get(experiment_id)

    async def get(self, experiment_id: str) -> Snapshot:
        """The snapshot of an experiment. Raises ExperimentNotFoundError."""
        snapshot = self._snapshots.get(experiment_id)
        return snapshot if snapshot is not None else await self._first_load(experiment_id)

    async def entry(self, experiment_number: int) -> IndexEntry | None:
        """The id and state of an experiment that has started."""
        if experiment_number not in self.index:
            await self.load_index()
        return self.index.get(experiment_number)

    async def load_index(self) -> None:
        """Learn which experiments have started; more of them, while Redis is being refilled."""
        was_complete = await publications.is_complete(self._redis)
        index = await publications.load_index(self._redis)
        is_complete = was_complete and await publications.is_complete(self._redis)
        self.index = index if is_complete else self.index | index

    async def registry(self, experiment_number: int, segmentation_version: int) -> SegmentRegistry:
        """The segments of one segmentation: of the serving one, or of one that users were answered earlier."""
        place = experiment_number, segmentation_version
        registry = self._registries.get(place)
        if registry is None:
            registry = SegmentRegistry(self._redis, *place)
            with suppress(*client.UNREACHABLE):  # then the poll loads it
                await registry.load()
            self._registries[place] = registry
        return registry

    async def reload_registries(self) -> None:
        """Forget every segment that is not registered in Redis now."""
        for registry in list(self._registries.values()):
            await registry.load()

    async def run(self) -> None:
        """Follow notices and poll, until cancelled."""
        await run_together(self._follow(), self._poll())

    async def refresh(self, experiment_id: str) -> None:
        """Load the experiment again if this process serves it, and its place in the index."""
        self._missing.pop(experiment_id, None)
        if experiment_id in self._snapshots:
            await self._load(experiment_id)
        experiment = await publications.load_experiment(self._redis, experiment_id)
        if experiment is not None and experiment.state is not ExperimentState.DRAFT:
            self.index[experiment.number] = IndexEntry(experiment_id, experiment.state)

    async def _follow(self) -> None:
        while True:
            try:
                async for notice in publications.notices(self._redis):
                    await self._take(notice)
            except Exception as error:
                log.warning("lost the notices", error=repr(error))
                await asyncio.sleep(1)

    async def _take(self, notice: Notice) -> None:
        if notice.kind == "keys":
            await self._authenticator.reload()
        elif notice.kind == "config":
            await self.refresh(notice.experiment_id)
        elif notice.experiment_id in self._snapshots:
            if notice.kind == "segments":
                await self._snapshots[notice.experiment_id].segments.load()
            else:
                await self._load(notice.experiment_id)

    async def _poll(self) -> None:
        while True:
            try:
                await self._catch_up()
            except Exception as error:
                log.warning("cannot poll for changes", error=repr(error))
            await asyncio.sleep(self._poll_interval)

    async def _catch_up(self) -> None:
        await self._authenticator.reload()
        changes = await publications.index_changes(self._redis)
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
        for experiment_id, published in zip(ids, await publications.published_versions(self._redis, ids), strict=True):
            snapshot = self._snapshots[experiment_id]
            if (
                published.revision > snapshot.experiment.revision
                or published.posterior_version > snapshot.tables.version
            ):
                await self._load(experiment_id)
        registries = [self._snapshots[experiment_id].segments for experiment_id in ids]
        revised = await segment_registry.versions(self._redis, [registry.name for registry in registries])
        for registry, version in zip(registries, revised, strict=True):
            if version > registry.version:
                await registry.load()

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
        published = await self._published(experiment_id)
        if published is None:
            if len(self._missing) >= _MOST_MISSING:
                self._missing.clear()
            self._missing[experiment_id] = time.monotonic() + _MISSING_SECONDS
            raise ExperimentNotFoundError(experiment_id)
        known = self._snapshots.get(experiment_id)
        experiment = published.experiment
        if known is not None and known.experiment.revision > experiment.revision:
            experiment = known.experiment
        try:
            model = await self._model(experiment, known)
        except ClusterModelUnreadableError as error:
            metrics.unreadable_models.inc()
            if calls := _throttle.admit(experiment_id):
                log.error("cluster model refused", calls=calls, error=error.message)
            if known is not None:
                return known  # what was there before goes on
            model = None
        registry = await self.registry(experiment.number, experiment.segmentation_version)
        unchanged = known is not None and known.experiment.revision == experiment.revision
        snapshot = Snapshot(
            experiment,
            _tables(experiment, published.posterior, known),
            registry,
            experiment.control,
            {variant.number: variant for variant in experiment.variants},
            known.answers if known and unchanged else {v.number: variant_answer(v) for v in experiment.variants},
            model,
        )
        self._snapshots[experiment_id] = snapshot
        return snapshot

    async def _published(self, experiment_id: str) -> Published | None:
        """From Redis; from Postgres what was not seen here before Redis went away."""
        try:
            published = await publications.load_published(self._redis, self._secrets, experiment_id)
            if published is not None or await publications.is_complete(self._redis):
                return published
        except client.UNREACHABLE:
            if experiment_id in self._snapshots:
                raise
        return await self._stored.experiment(experiment_id)

    async def _model(self, experiment: Experiment, known: Snapshot | None) -> ClusterModel | None:
        """The model that the configuration names. Raises ClusterModelUnreadableError."""
        version = experiment.segmentation.model_version
        if version is None:
            return None
        if known is not None and known.model and known.experiment.segmentation.model_version == version:
            return known.model
        experiment_id = experiment.experiment_id
        with suppress(*client.UNREACHABLE, ClusterModelUnreadableError):
            ciphertext = await publications.load_model(self._redis, experiment_id, version)
            return open_model(self._secrets, experiment_id, version, ciphertext)
        return open_model(self._secrets, experiment_id, version, await self._stored.model(experiment.number, version))


def _tables(experiment: Experiment, posterior: PosteriorTables | None, known: Snapshot | None) -> PosteriorTables:
    """The newest tables that fit the configuration; the prior where there are none, as while it is being changed."""
    active = tuple(variant.number for variant in experiment.variants if not variant.retired)
    candidates = [posterior, known.tables if known else None]
    fitting = [
        tables
        for tables in candidates
        if tables is not None
        and tables.variants == active
        and tables.segmentation_version == experiment.segmentation_version
    ]
    if not fitting:
        return posterior_tables(0, experiment.segmentation_version, active, [])
    return max(fitting, key=lambda tables: tables.version)
