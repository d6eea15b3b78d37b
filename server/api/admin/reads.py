"""What all reads of the control plane share."""

from allocator.errors import ExperimentNotFoundError
from allocator.experiment import Experiment
from server.api.fields import check_slug
from storage.postgres.experiments import experiments
from storage.postgres.pool import Connection


async def read_experiment(connection: Connection, experiment_id: str) -> Experiment:
    """The experiment as it is. Raises InvalidFieldError, ExperimentNotFoundError."""
    experiment = await experiments.get(connection, check_slug("experiment_id", experiment_id))
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    return experiment
