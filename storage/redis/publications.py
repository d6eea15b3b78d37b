"""What the control plane and the workers publish, and how a server reads it.

Versions never go backwards; a notice says only what changed, and a reader that missed it catches up when it polls.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, cast

import msgspec
import numpy as np

from allocator.experiment import Experiment, ExperimentState
from allocator.posterior.tables import PosteriorTables
from storage.encryption import Secrets
from storage.redis import function_library, keys
from storage.redis.client import Client, read_hash

_encode_config = msgspec.json.Encoder().encode
_CHANGES = b"#changes"
_decode_config = msgspec.json.Decoder(Experiment).decode


@dataclass(frozen=True)
class Notice:
    """Something was published: the configuration, posterior or segments of an experiment, or the API keys."""

    kind: Literal["config", "posterior", "segments", "keys"]
    experiment_id: str = ""


@dataclass(frozen=True)
class Published:
    """An experiment as it was published; `posterior` is None until something was learned."""

    experiment: Experiment
    posterior: PosteriorTables | None


@dataclass(frozen=True)
class Versions:
    """How far an experiment is published; -1 where it is not."""

    revision: int
    posterior_version: int


@dataclass(frozen=True)
class IndexEntry:
    """An experiment that has started."""

    experiment_id: str
    state: ExperimentState


async def publish_experiment(client: Client, experiment: Experiment) -> None:
    """Publish a configuration, and tell the servers."""
    key = keys.experiment(experiment.experiment_id)
    await function_library.call(client, "publish", [key], "config", experiment.revision, _encode_config(experiment))
    if experiment.state is not ExperimentState.DRAFT:
        entry = f"{experiment.state.value} {experiment.experiment_id}"
        await function_library.call(
            client, "publish", [keys.INDEX], str(experiment.number), experiment.revision, entry.encode()
        )
    await client.publish(keys.NOTICES, f"config {experiment.experiment_id}")


async def publish_posterior(client: Client, experiment_id: str, version: int, ciphertext: bytes) -> None:
    """Publish an encrypted posterior, and tell the servers."""
    await function_library.call(client, "publish", [keys.experiment(experiment_id)], "posterior", version, ciphertext)
    await client.publish(keys.NOTICES, f"posterior {experiment_id}")


async def publish_model(client: Client, experiment_id: str, version: int, ciphertext: bytes) -> None:
    """Publish an encrypted cluster model; the configuration says which one serves."""
    await client.hset(keys.experiment(experiment_id), f"model:{version}", ciphertext)


async def load_model(client: Client, experiment_id: str, version: int) -> bytes | None:
    """An encrypted cluster model, if it is published."""
    return cast("bytes | None", await client.hget(keys.experiment(experiment_id), f"model:{version}"))


async def published_versions(client: Client, experiment_ids: list[str]) -> list[Versions]:
    """How far each experiment is published."""
    async with client.pipeline(transaction=False) as pipe:
        for experiment_id in experiment_ids:
            pipe.hmget(keys.experiment(experiment_id), "config:version", "posterior:version")
        rows = await pipe.execute()
    return [Versions(*(-1 if value is None else int(value) for value in row)) for row in rows]


async def load_experiment(client: Client, experiment_id: str) -> Experiment | None:
    """The published configuration, or None."""
    config = await client.hget(keys.experiment(experiment_id), "config")
    return None if config is None else _decode_config(config)


async def load_published(client: Client, secrets: Secrets, experiment_id: str) -> Published | None:
    """The published experiment, or None. Raises DecryptionError if its posterior cannot be read."""
    row = await client.hmget(keys.experiment(experiment_id), "config", "posterior:version", "posterior")
    config, version, ciphertext = cast("list[bytes | None]", row)
    if config is None:
        return None
    posterior = None
    if version is not None and ciphertext is not None:
        posterior = open_posterior(secrets, experiment_id, int(version), ciphertext)
    return Published(_decode_config(config), posterior)


async def forget_all(client: Client) -> None:
    """Delete what was published: the worker publishes it again. Segments stay, which may be ahead of Postgres."""
    await client.delete(keys.PUBLISHED)
    for name in (keys.INDEX, keys.API_KEYS):
        await client.delete(name)
    async for name in client.scan_iter(match=keys.experiment("*"), count=1_000):
        await client.delete(name)


async def set_complete(client: Client) -> None:
    """Say that everything is published: what is not found from now on does not exist."""
    await client.set(keys.PUBLISHED, "1")


async def is_complete(client: Client) -> bool:
    """Whether what is not found does not exist. Not so in a Redis that has lost its data."""
    return bool(await client.exists(keys.PUBLISHED))


async def index_changes(client: Client) -> int:
    """How often the index was changed."""
    return int(await client.hget(keys.INDEX, _CHANGES) or 0)


async def load_index(client: Client) -> dict[int, IndexEntry]:
    """All experiments that have started, by number."""
    index = {}
    for field, value in (await read_hash(client, keys.INDEX)).items():
        if not field.endswith((b":version", _CHANGES)):
            state, experiment_id = value.decode().split(" ", 1)
            index[int(field)] = IndexEntry(experiment_id, ExperimentState(state))
    return index


async def notices(client: Client) -> AsyncIterator[Notice]:
    """What is published from now on."""
    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(keys.NOTICES)
        while True:
            message = await subscription.get_message(timeout=None)
            if message is not None:
                yield Notice(*message["data"].decode().split(" "))


def seal_posterior(secrets: Secrets, experiment_id: str, tables: PosteriorTables) -> bytes:
    """Encrypt posterior tables for their experiment and version."""
    plain = msgspec.msgpack.encode(
        {
            "segmentation_version": tables.segmentation_version,
            "variants": tables.variants,
            "rows": list(tables.rows.items()),
            "trials": tables.trials.tobytes(),
            "alpha": tables.alpha.tobytes(),
            "beta": tables.beta.tobytes(),
            "best": tables.best.tobytes(),
            "held_back": tables.held_back,
            "redrawn": tables.redrawn.tobytes(),
        }
    )
    return secrets.encrypt(plain, _place(experiment_id, tables.version))


def open_posterior(secrets: Secrets, experiment_id: str, version: int, ciphertext: bytes) -> PosteriorTables:
    """The inverse of `seal_posterior`. Raises DecryptionError."""
    plain = msgspec.msgpack.decode(secrets.decrypt(ciphertext, _place(experiment_id, version)))
    shape = (-1, len(plain["variants"]))
    return PosteriorTables(
        version=version,
        segmentation_version=plain["segmentation_version"],
        variants=tuple(plain["variants"]),
        rows=dict(plain["rows"]),
        trials=np.frombuffer(plain["trials"], np.int64),
        alpha=np.frombuffer(plain["alpha"]).reshape(shape),
        beta=np.frombuffer(plain["beta"]).reshape(shape),
        best=np.frombuffer(plain["best"]).reshape(shape),
        held_back=tuple(plain["held_back"]),
        redrawn=np.frombuffer(plain["redrawn"]).reshape(shape),
    )


def _place(experiment_id: str, version: int) -> bytes:
    return f"posterior/{experiment_id}/{version}".encode()
