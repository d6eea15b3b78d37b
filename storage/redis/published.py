"""Reading what is published: experiments, cluster models, and the index of experiments that have started."""

from dataclasses import dataclass
from typing import cast

import msgspec

from allocator.experiment import Experiment, ExperimentState
from allocator.posterior.tables import PosteriorTables
from storage.encryption import Secrets
from storage.redis import keys
from storage.redis.client import Client, read_hash
from storage.sealing import open_posterior

_CHANGES = b"#changes"
_decode_config = msgspec.json.Decoder(Experiment).decode


@dataclass(frozen=True)
class Published:
    """An experiment as it was published; `posterior` is None until something was learned."""

    experiment: Experiment
    posterior: PosteriorTables | None


@dataclass(frozen=True)
class Versions:
    """The versions of an experiment that are published; -1 where none is."""

    revision: int
    posterior_version: int


@dataclass(frozen=True)
class IndexEntry:
    """An experiment that has started."""

    experiment_id: str
    state: ExperimentState


async def load_experiment(client: Client, experiment_id: str) -> Experiment | None:
    """Return the published configuration, or None."""
    config = await client.hget(keys.experiment(experiment_id), "config")
    return None if config is None else _decode_config(config)


async def load(client: Client, secrets: Secrets, experiment_id: str) -> Published | None:
    """Return the published experiment, or None. Raises DecryptionError if its posterior cannot be read."""
    row = await client.hmget(keys.experiment(experiment_id), "config", "posterior:version", "posterior")
    config, version, ciphertext = cast("list[bytes | None]", row)
    if config is None:
        return None
    posterior = None
    if version is not None and ciphertext is not None:
        posterior = open_posterior(secrets, experiment_id, int(version), ciphertext)
    return Published(_decode_config(config), posterior)


async def load_model(client: Client, experiment_id: str, version: int) -> bytes | None:
    """Return an encrypted cluster model, or None if it is not published."""
    return cast("bytes | None", await client.hget(keys.experiment(experiment_id), f"model:{version}"))


async def load_versions(client: Client, experiment_ids: list[str]) -> list[Versions]:
    """Return the published versions of each experiment, in the order of the ids."""
    async with client.pipeline(transaction=False) as pipe:
        for experiment_id in experiment_ids:
            pipe.hmget(keys.experiment(experiment_id), "config:version", "posterior:version")
        rows = await pipe.execute()
    return [Versions(_version(revision), _version(posterior_version)) for revision, posterior_version in rows]


async def load_index(client: Client) -> dict[int, IndexEntry]:
    """Return all experiments that have started, by number."""
    index = {}
    for field, value in (await read_hash(client, keys.INDEX)).items():
        if not field.endswith((b":version", _CHANGES)):
            state, experiment_id = value.decode().split(" ", 1)
            index[int(field)] = IndexEntry(experiment_id, ExperimentState(state))
    return index


async def count_index_changes(client: Client) -> int:
    """Return how often the index was changed."""
    return int(await client.hget(keys.INDEX, _CHANGES) or 0)


def _version(value: bytes | None) -> int:
    return -1 if value is None else int(value)
