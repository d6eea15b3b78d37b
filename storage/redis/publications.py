"""Writing what is published: configurations, posteriors and cluster models. Only `server.publishing` may import it.

Versions never go backwards: a publisher that is late changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from allocator.experiment import Experiment, ExperimentState
from storage.encryption import Secrets
from storage.publication import Publication
from storage.redis import change_notices, function_library, keys
from storage.redis.client import Client, read_hash
from storage.sealing import seal_configuration

_encode_config = msgspec.json.Encoder().encode
_NO_POSTERIOR = -1, b""
_CONFIGURATION_NEEDED = -1
_CONFIGURATION_CHANGED = 1  # a bit of the function's answer; the next bit says that the posterior changed
_MODEL = b"model:"


@dataclass(frozen=True)
class SealedStates:
    """The configuration and the posterior with their versions, and the cluster models by version, as ciphertexts."""

    configuration: tuple[int, bytes] | None
    posterior: tuple[int, bytes] | None
    models: Mapping[int, bytes]


async def publish(client: Client, secrets: Secrets, publication: Publication) -> None:
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
        forms = seal_configuration(secrets, experiment), _encode_config(experiment)
        changed = await function_library.call(client, name, [key], *arguments, *forms)
    if changed & _CONFIGURATION_CHANGED:
        await change_notices.send(client, "config", experiment.experiment_id)
    elif changed:
        await change_notices.send(client, "posterior", experiment.experiment_id)


async def publish_model(client: Client, experiment_id: str, version: int, ciphertext: bytes) -> None:
    """Publish an encrypted cluster model. The configuration says which model serves."""
    await client.hset(keys.experiment(experiment_id), f"model:{version}", ciphertext)


async def load_sealed(client: Client, experiment_id: str) -> SealedStates:
    """Return what is published of an experiment and encrypted."""
    fields = await read_hash(client, keys.experiment(experiment_id))
    configuration = _versioned(fields.get(b"sealed:version"), fields.get(b"sealed"))
    posterior = _versioned(fields.get(b"posterior:version"), fields.get(b"posterior"))
    models = {
        int(name.removeprefix(_MODEL)): ciphertext for name, ciphertext in fields.items() if name.startswith(_MODEL)
    }
    return SealedStates(configuration, posterior, models)


async def replace_configuration(client: Client, experiment_id: str, old: bytes, new: bytes) -> bool:
    """Replace a ciphertext by another one of the same configuration. Returns False if it is not published any more."""
    key = keys.experiment(experiment_id)
    return bool(await function_library.call(client, "replace_value", [key], "sealed", old, new))


async def replace_posterior(client: Client, experiment_id: str, old: bytes, new: bytes) -> bool:
    """Replace a ciphertext by another one of the same posterior. Returns False if it is not published any more."""
    key = keys.experiment(experiment_id)
    return bool(await function_library.call(client, "replace_value", [key], "posterior", old, new))


async def replace_model(client: Client, experiment_id: str, version: int, old: bytes, new: bytes) -> bool:
    """Replace a ciphertext by another one of the same model. Returns False if it is not published any more."""
    key = keys.experiment(experiment_id)
    return bool(await function_library.call(client, "replace_value", [key], f"model:{version}", old, new))


def _versioned(version: bytes | None, ciphertext: bytes | None) -> tuple[int, bytes] | None:
    return None if version is None or ciphertext is None else (int(version), ciphertext)


async def _publish_index_entry(client: Client, experiment: Experiment) -> None:
    """Enter an experiment that has started into the index.

    This comes before the configuration, because the reconciler compares configurations only.
    """
    if experiment.state is not ExperimentState.DRAFT:
        entry = f"{experiment.state.value} {experiment.experiment_id}".encode()
        field = str(experiment.number)
        await function_library.call(client, "publish_index_entry", [keys.INDEX], field, experiment.revision, entry)
