"""Encrypts anew what is published of an experiment, once the keyset has another primary key."""

from storage.encryption import Secrets
from storage.redis import publications
from storage.redis.client import Client
from storage.sealing import reseal_configuration, reseal_model, reseal_posterior


async def reseal_published(redis: Client, secrets: Secrets, experiment_id: str) -> int:
    """Encrypt with the primary key what an older key has encrypted, and return how many ciphertexts were replaced.

    A state that is published meanwhile stays as it is. Raises DecryptionError, and as `server.publishing.publish`.
    """
    sealed = await publications.load_sealed(redis, experiment_id)
    replaced = 0
    if sealed.configuration is not None and secrets.is_outdated(sealed.configuration[1]):
        revision, old = sealed.configuration
        new = reseal_configuration(secrets, experiment_id, revision, old)
        replaced += await publications.replace_configuration(redis, experiment_id, old, new)
    if sealed.posterior is not None and secrets.is_outdated(sealed.posterior[1]):
        version, old = sealed.posterior
        new = reseal_posterior(secrets, experiment_id, version, old)
        replaced += await publications.replace_posterior(redis, experiment_id, old, new)
    for version, old in sealed.models.items():
        if secrets.is_outdated(old):
            new = reseal_model(secrets, experiment_id, version, old)
            replaced += await publications.replace_model(redis, experiment_id, version, old, new)
    return replaced
