"""Writing what is published: configurations, posteriors and cluster models. Only `server.publishing` may import it.

Versions never go backwards: a publisher that is late changes nothing.
"""

import msgspec

from allocator.experiment import Experiment, ExperimentState
from storage.publication import Publication
from storage.redis import change_notices, function_library, keys
from storage.redis.client import Client

_encode_config = msgspec.json.Encoder().encode
_NO_POSTERIOR = -1, b""
_CONFIGURATION_NEEDED = -1
_CONFIGURATION_CHANGED = 1  # a bit of the function's answer; the next bit says that the posterior changed


async def publish(client: Client, publication: Publication) -> None:
    """Publish a configuration and its posterior in one step, and tell the servers what changed.

    The configuration is sent only if Redis has an older one.
    """
    experiment, posterior = publication.experiment, publication.posterior
    version, ciphertext = _NO_POSTERIOR if posterior is None else (posterior.version, posterior.ciphertext)
    key, name = keys.experiment(experiment.experiment_id), "publish_experiment"
    arguments = experiment.revision, version, ciphertext
    changed: int = await function_library.call(client, name, [key], *arguments)
    if changed == _CONFIGURATION_NEEDED:
        await _publish_index_entry(client, experiment)
        changed = await function_library.call(client, name, [key], *arguments, _encode_config(experiment))
    if changed & _CONFIGURATION_CHANGED:
        await change_notices.send(client, "config", experiment.experiment_id)
    elif changed:
        await change_notices.send(client, "posterior", experiment.experiment_id)


async def publish_model(client: Client, experiment_id: str, version: int, ciphertext: bytes) -> None:
    """Publish an encrypted cluster model. The configuration says which model serves."""
    await client.hset(keys.experiment(experiment_id), f"model:{version}", ciphertext)


async def _publish_index_entry(client: Client, experiment: Experiment) -> None:
    """Enter an experiment that has started into the index.

    This comes before the configuration, because the reconciler compares configurations only.
    """
    if experiment.state is not ExperimentState.DRAFT:
        entry = f"{experiment.state.value} {experiment.experiment_id}".encode()
        field = str(experiment.number)
        await function_library.call(client, "publish_index_entry", [keys.INDEX], field, experiment.revision, entry)
