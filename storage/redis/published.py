"""Reading what is published: experiments, cluster models, and the index of experiments that have started.

Configurations are published in two forms for one release: as text, which servers of the release before read, and
encrypted. Only the encrypted ones are believed.
"""

from dataclasses import dataclass
from typing import cast

import structlog

from allocator.experiment import Experiment, ExperimentState
from allocator.posterior.tables import PosteriorTables
from storage.encryption import Secrets
from storage.redis import keys
from storage.redis.client import UNREACHABLE, Client, read_hash
from storage.sealing import open_configuration, open_posterior

log = structlog.get_logger()
_CHANGES = b"#changes"
_FIELDS = ["sealed:version", "sealed", "posterior:version", "posterior", "config:version"]


class NotSealedError(Exception):
    """The configuration is published as text only, which is not believed."""


@dataclass(frozen=True)
class Published:
    """An experiment as it was published; `posterior` is None until something was learned."""

    experiment: Experiment
    posterior: PosteriorTables | None


@dataclass(frozen=True)
class Versions:
    """The versions of an experiment that are published; -1 where none is.

    text_revision: of the configuration in the form of the release before.
    """

    revision: int
    posterior_version: int
    text_revision: int

    @property
    def newest_revision(self) -> int:
        """Return the revision of the configuration that was published last, by whichever release."""
        return max(self.revision, self.text_revision)


@dataclass(frozen=True)
class IndexEntry:
    """An experiment that has started."""

    experiment_id: str
    state: ExperimentState


async def load(client: Client, secrets: Secrets, experiment_id: str) -> Published | None:
    """Return the published experiment, or None.

    Raises:
        NotSealedError: a publisher of the release before has published it last.
        DecryptionError: this installation has not published its configuration or its posterior.
    """
    key = keys.experiment(experiment_id)
    row = cast("list[bytes | None]", await client.hmget(key, _FIELDS))
    revision, sealed, version, ciphertext, text_revision = row
    if revision is None or sealed is None:
        if text_revision is None:
            return None
        raise NotSealedError(experiment_id)
    if int(revision) < _version(text_revision):
        raise NotSealedError(experiment_id)
    experiment = open_configuration(secrets, experiment_id, int(revision), sealed)
    posterior = None
    if version is not None and ciphertext is not None:
        posterior = open_posterior(secrets, experiment_id, int(version), ciphertext)
    return Published(experiment, posterior)


async def load_model(client: Client, experiment_id: str, version: int) -> bytes | None:
    """Return an encrypted cluster model, or None if it is not published."""
    return cast("bytes | None", await client.hget(keys.experiment(experiment_id), f"model:{version}"))


async def load_versions(client: Client, experiment_ids: list[str]) -> list[Versions]:
    """Return the published versions of each experiment, in the order of the ids.

    What cannot be read counts as never published, so that one damaged entry hides no other.
    """
    async with client.pipeline(transaction=False) as pipe:
        for experiment_id in experiment_ids:
            pipe.hmget(keys.experiment(experiment_id), "sealed:version", "posterior:version", "config:version")
        rows = await pipe.execute(raise_on_error=False)
    return [_versions(row) for row in rows]


async def load_index(client: Client) -> dict[int, IndexEntry]:
    """Return all experiments that have started, by number. Entries that cannot be read are left out."""
    index = {}
    for field, value in (await read_hash(client, keys.INDEX)).items():
        if not field.endswith((b":version", _CHANGES)):
            try:
                state, experiment_id = value.decode().split(" ", 1)
                index[int(field)] = IndexEntry(experiment_id, ExperimentState(state))
            except ValueError as error:  # UnicodeDecodeError is one
                log.error("index entry cannot be read", field=repr(field), error=repr(error))
    return index


async def count_index_changes(client: Client) -> int:
    """Return how often the index was changed."""
    return int(await client.hget(keys.INDEX, _CHANGES) or 0)


def _versions(row: list[bytes | None] | Exception) -> Versions:
    """Read a row of versions. Raises one of UNREACHABLE that came instead of it."""
    if isinstance(row, UNREACHABLE):
        raise row
    return Versions(-1, -1, -1) if isinstance(row, Exception) else Versions(*map(_version, row))


def _version(value: bytes | None) -> int:
    """Return the number of a version, -1 if there is none that can be read."""
    try:
        return -1 if value is None else int(value)
    except ValueError:
        return -1
