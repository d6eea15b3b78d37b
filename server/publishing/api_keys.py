"""Publishes the API keys, so that the data plane need not ask Postgres."""

from storage.encryption import Secrets
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import Connection
from storage.redis import api_keys
from storage.redis.client import Client


async def publish_api_keys(connection: Connection, redis: Client, secrets: Secrets | None) -> None:
    """Publish all active keys if Redis has others, and tell the servers.

    Without secrets it does nothing: a worker publishes them within seconds.
    """
    if secrets is None:
        return
    active = await stored_keys.active(connection)
    if not await api_keys.are_published(redis, secrets, active):
        await api_keys.publish(redis, secrets, active)
