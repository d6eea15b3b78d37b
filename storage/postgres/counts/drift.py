"""How recent users differ from those that a cluster model was trained on."""

from datetime import datetime, timedelta

from allocator.clusters import Drift
from storage.encryption import Secrets
from storage.postgres.pool import Connection
from storage.postgres.segmentation import cluster_models, trainings

_RECENT = timedelta(days=7)  # a whole week, since weekdays differ
_MOST_USERS = 5_000


async def recent_drift(
    connection: Connection, secrets: Secrets, experiment_number: int, model_version: int, now: datetime
) -> tuple[Drift, int] | None:
    """Return the drift of the last week's users, and how many these are; None if there are none.

    Raises ClusterModelUnreadableError.
    """
    model = await cluster_models.load(connection, secrets, experiment_number, model_version)
    users = await trainings.recent_contexts(connection, experiment_number, now - _RECENT, _MOST_USERS)
    return (model.drift(users), len(users)) if users else None
