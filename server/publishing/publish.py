"""Publishes an experiment: its configuration and the posterior that fits it, in one step."""

from storage.encryption import Secrets
from storage.postgres.experiments import posteriors
from storage.postgres.pool import Connection
from storage.publication import Publication
from storage.redis import publications
from storage.redis.client import Client


async def publish(redis: Client, secrets: Secrets, publication: Publication) -> None:
    """Publish a configuration and its posterior, and tell the servers. What is older than published changes nothing.

    Raises one of `storage.redis.client.UNREACHABLE`; the reconciler publishes then.
    """
    await publications.publish(redis, secrets, publication)


async def publish_current(connection: Connection, redis: Client, secrets: Secrets, experiment_id: str) -> None:
    """Publish an experiment as Postgres has it now. Do nothing if it is not there. Raises as `publish`."""
    publication = await posteriors.load_publication(connection, experiment_id)
    if publication is not None:
        await publish(redis, secrets, publication)
