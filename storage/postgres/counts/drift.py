"""How the users of late differ from those that a cluster model was trained on."""

from datetime import datetime, timedelta

from allocator.clusters import Drift
from storage.encryption import Secrets
from storage.postgres.pool import Connection
from storage.postgres.segmentation import cluster_models, trainings

_LATELY, _MOST = timedelta(days=7), 5_000  # a week, since weekdays differ


async def recent_drift(
    connection: Connection, secrets: Secrets, experiment_number: int, model_version: int, now: datetime
) -> tuple[Drift, int] | None:
    """The drift of the last week, and of how many users; None where none came. Raises ClusterModelUnreadableError."""
    model = await cluster_models.load(connection, secrets, experiment_number, model_version)
    users = await trainings.recent_contexts(connection, experiment_number, now - _LATELY, _MOST)
    return (model.drift(users), len(users)) if users else None
