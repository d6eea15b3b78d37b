"""Moving an experiment to another segmentation: for people and for Samplit itself."""

from collections.abc import Sequence
from datetime import datetime

from allocator.clusters import MIN_ASSIGNMENTS
from allocator.experiment import Experiment, SegmentationMode
from storage.postgres.pool import Connection
from storage.postgres.segmentation import cluster_models, segmentations, trainings
from storage.postgres.segmentation.segmentations import Origin


async def begin_segmentation(
    connection: Connection,
    experiment: Experiment,
    mode: SegmentationMode,
    segment_by: Sequence[str],
    actor: str,
    now: datetime,
    origin: Origin | None = None,
) -> None:
    """Prepare it; origin: the recommendation that it comes from. The caller holds the experiment FOR UPDATE."""
    model = await _model(connection, experiment, actor, now) if mode is SegmentationMode.AUTO else None
    await segmentations.prepare(connection, experiment.number, mode, segment_by, actor, now, model, origin)


async def _model(connection: Connection, experiment: Experiment, actor: str, now: datetime) -> int | None:
    """The newest model. If there is none, one is trained as soon as it can be."""
    for version in await cluster_models.usable(connection, experiment.number):
        return version
    if await trainings.count_assignments(connection, experiment.number) >= MIN_ASSIGNMENTS:
        await trainings.request(connection, experiment.number, actor, now)
    return None
