"""Publishes the API keys, so that the data plane need not ask Postgres."""

from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import Connection
from storage.redis import api_keys
from storage.redis.client import Client


async def publish_api_keys(connection: Connection, redis: Client) -> None:
    """Publish all active keys if Redis has others, and tell the servers."""
    active = await stored_keys.active(connection)
    if {key.secret_hash: key for key in active} != await api_keys.load(redis):
        await api_keys.publish(redis, active)
