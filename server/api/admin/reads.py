"""What all reads of the control plane share."""

from allocator.experiment import Experiment
from server.api.fields import check_slug
from storage.postgres.experiments import experiments
from storage.postgres.pool import Connection


async def read_experiment(connection: Connection, experiment_id: str) -> Experiment:
    """Return an experiment. Raises InvalidFieldError, ExperimentNotFoundError."""
    return await experiments.require(connection, check_slug("experiment_id", experiment_id))
