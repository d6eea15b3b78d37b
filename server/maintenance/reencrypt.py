"""Encrypts all stored state with the primary key of the keyset, while the installation serves.

One ciphertext after the other is replaced, and only where it is still the one that was read. So a posterior that is
published meanwhile stays, and several processes may do this at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from server.publishing.api_keys import publish_api_keys
from server.publishing.sealed_states import reseal_published
from storage.encryption import DecryptionError, Secrets
from storage.postgres.operations import sealed_states
from storage.postgres.pool import Connection
from storage.redis.client import Client
from storage.sealing import reseal_model, reseal_posterior

log = structlog.get_logger()
_STATES_AT_A_TIME = 50
_PAUSE_SECONDS = 0.02  # between two ciphertexts' worth of work: the servers and workers go first


@dataclass
class Reencrypted:
    """How many ciphertexts were replaced, and how many no key of the keyset can read."""

    replaced: int = 0
    unreadable: int = 0


async def reencrypt(
    connection: Connection, redis: Client, secrets: Secrets, report: Callable[[Reencrypted], None] = lambda _: None
) -> Reencrypted:
    """Encrypt with the primary key what older keys encrypted, in PostgreSQL and in Redis.

    One experiment whose state cannot be read does not stop the others. `report` is called after each chunk.
    """
    total = Reencrypted()
    if not secrets.outdated_prefixes:
        return total
    await _reencrypt_posteriors(connection, secrets, total, report)
    await _reencrypt_models(connection, secrets, total, report)
    await _reencrypt_published(connection, redis, secrets, total, report)
    await publish_api_keys(connection, redis, secrets)  # which publishes them again if an older key encrypted them
    return total


async def _reencrypt_posteriors(
    connection: Connection, secrets: Secrets, total: Reencrypted, report: Callable[[Reencrypted], None]
) -> None:
    last = 0
    while states := await sealed_states.outdated_posteriors(
        connection, secrets.outdated_prefixes, after=last, limit=_STATES_AT_A_TIME
    ):
        for state in states:
            last = state.experiment_number
            try:
                new = reseal_posterior(secrets, state.experiment_id, state.version, state.ciphertext)
            except DecryptionError as error:
                _note_unreadable(total, state.experiment_id, error)
                continue
            total.replaced += await sealed_states.replace_posterior(connection, state, new)
        report(total)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _reencrypt_models(
    connection: Connection, secrets: Secrets, total: Reencrypted, report: Callable[[Reencrypted], None]
) -> None:
    last = 0, 0
    while states := await sealed_states.outdated_models(
        connection, secrets.outdated_prefixes, after=last, limit=_STATES_AT_A_TIME
    ):
        for state in states:
            last = state.experiment_number, state.version
            try:
                new = reseal_model(secrets, state.experiment_id, state.version, state.ciphertext)
            except DecryptionError as error:
                _note_unreadable(total, state.experiment_id, error)
                continue
            total.replaced += await sealed_states.replace_model(connection, state, new)
        report(total)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _reencrypt_published(
    connection: Connection, redis: Client, secrets: Secrets, total: Reencrypted, report: Callable[[Reencrypted], None]
) -> None:
    last = 0
    while ids := await sealed_states.experiment_ids(connection, after=last, limit=_STATES_AT_A_TIME):
        for number, experiment_id in ids.items():
            last = number
            try:
                total.replaced += await reseal_published(redis, secrets, experiment_id)
            except DecryptionError as error:
                _note_unreadable(total, experiment_id, error)
        report(total)
        await asyncio.sleep(_PAUSE_SECONDS)


def _note_unreadable(total: Reencrypted, experiment_id: str, error: DecryptionError) -> None:
    total.unreadable += 1
    log.error("cannot encrypt a state anew", experiment_id=experiment_id, error=str(error))
