"""Prepares what a server needs before it starts: schema, secrets, installation record, and a first API key."""

import structlog

from server.clock import Clock
from server.maintenance import api_keys
from server.maintenance.shard_epochs import examine, open_shard
from server.settings import Settings
from storage.encryption import Secrets, load_secrets, write_secret
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.pool import Connection, connect
from storage.postgres.schema import agree_on_installation, migrate
from storage.redis import completeness, installation
from storage.redis.client import Client, create_client
from storage.redis.function_library import is_volatile, prepare

log = structlog.get_logger()


async def prepare_stores(settings: Settings, clock: Clock) -> None:
    """Check Redis, migrate Postgres, and create what is missing.

    Raises StoreUnavailableError, which names the store, or SecretsUnusableError.
    """
    dsn, url = settings.stores
    redis = create_client(url)
    try:
        await prepare(redis, allow_volatile=settings.allow_volatile_redis)
        if await is_volatile(redis):
            log.warning("Redis keeps no append-only file: if it restarts, what no worker has stored yet is lost")
        await migrate(dsn)
        connection = await connect(dsn)
        try:
            secrets = load_secrets(settings.secrets_directory)
            fingerprint = await agree_on_installation(connection, secrets.identity_fingerprint, settings.shards)
            await installation.agree_on_installation(redis, fingerprint)
            await _first_key(settings, connection, redis, secrets, clock)
            if not await experiments.progress(connection):  # a new installation: there is nothing to refill Redis with
                for shard in range(settings.shards):
                    await open_shard(connection, redis, shard)
                await completeness.set_complete(redis)
            for shard in range(settings.shards):
                await examine(connection, redis, shard, settings.shards)
        finally:
            await connection.close()
    finally:
        await redis.aclose()


async def _first_key(settings: Settings, connection: Connection, redis: Client, secrets: Secrets, clock: Clock) -> None:
    """Store the key of the file api.key, with every scope: the CLI uses it, and so does the first grpcurl call."""
    if not settings.api_key_file.exists():
        write_secret(settings.api_key_file, api_keys.new_key().text)
    await api_keys.add(
        connection,
        redis,
        secrets,
        api_keys.read_key(settings.api_key_file.read_text().strip()),
        name="first key",
        scopes=api_keys.SCOPES,
        actor=audit.SAMPLIT,
        now=clock(),
    )
