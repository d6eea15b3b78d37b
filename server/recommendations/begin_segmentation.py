"""How an experiment's next segmentation is begun, for people and for Samplit itself."""

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
    """Ask for another segmentation. The worker prepares it beside the one that serves, and then lets it serve.

    Mode AUTO takes the newest cluster model. If there is none, a training is requested as soon as the experiment has
    enough assignments. The caller's transaction must hold the experiment FOR UPDATE.

    segment_by: names as in the configuration; empty unless the mode is MANUAL. actor: who asked for it. origin: the
    recommendation that it comes from, if any.
    """
    model = await _choose_model(connection, experiment, actor, now) if mode is SegmentationMode.AUTO else None
    await segmentations.prepare(connection, experiment.number, mode, segment_by, actor, now, model, origin)


async def _choose_model(connection: Connection, experiment: Experiment, actor: str, now: datetime) -> int | None:
    """Return the version of the newest model; without one, request a training if there are enough assignments."""
    versions = await cluster_models.usable(connection, experiment.number)
    if versions:
        return versions[0]
    if await trainings.count_assignments(connection, experiment.number) >= MIN_ASSIGNMENTS:
        await trainings.request(connection, experiment.number, actor, now)
    return None
