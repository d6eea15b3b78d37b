"""Finds the segments of stored contexts under cluster models. Under dimensions the SQL function segment_of does it."""

from collections.abc import Mapping, Sequence

from allocator.clusters import ClusterModel
from allocator.segments import cluster_segment
from storage.encryption import Secrets
from storage.postgres.pool import Connection
from storage.postgres.segmentation import cluster_models

_MOST_MODELS = 256


class Labeller:
    """Finds segments by models, which it keeps once they are read: a version never changes."""

    def __init__(self, secrets: Secrets) -> None:
        """Nothing is read yet."""
        self._secrets = secrets
        self._models: dict[tuple[int, int], ClusterModel] = {}

    async def segments(
        self,
        connection: Connection,
        experiment_number: int,
        model_version: int,
        contexts: Sequence[Mapping[str, str]],
    ) -> list[int]:
        """Return the segment number of each context. Raises ClusterModelUnreadableError."""
        key = experiment_number, model_version
        model = self._models.get(key)
        if model is None:
            model = await cluster_models.load(connection, self._secrets, experiment_number, model_version)
            if len(self._models) >= _MOST_MODELS:
                self._models.clear()
            self._models[key] = model
        return [cluster_segment(int(number)) for number in model.label(contexts)]
