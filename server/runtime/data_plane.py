"""Composes the use cases of the data plane: what this process knows, and what it remembers."""

from dataclasses import dataclass

from server.allocation.allocate import Allocate
from server.allocation.bot_counter import BotCounter
from server.allocation.catalog import Catalog
from server.allocation.change_feed import ChangeFeed
from server.allocation.convert import Convert
from server.allocation.epochs import Epochs
from server.allocation.postgres_fallback import PostgresFallback
from server.allocation.records import Records
from server.allocation.returning_users import ReturningUsers
from server.settings import Settings
from storage.encryption import Secrets
from storage.postgres.pool import Pool
from storage.redis.client import Client
from storage.redis.function_connection import FunctionConnection, create_function_connections


@dataclass(frozen=True)
class DataPlane:
    """The use cases, and the parts that run in the background for them."""

    allocate: Allocate
    convert: Convert
    catalog: Catalog
    changes: ChangeFeed
    records: Records
    epochs: Epochs
    bots: BotCounter
    returning: ReturningUsers
    connections: list[FunctionConnection]

    @property
    def is_connected(self) -> bool:
        """Whether function calls can be made on every shard."""
        return all(connection.is_connected for connection in self.connections)


def compose_data_plane(settings: Settings, secrets: Secrets, pool: Pool, redis: Client) -> DataPlane:
    """Compose the data plane. Nothing is connected or loaded yet."""
    changes = ChangeFeed(redis)
    fallback = PostgresFallback(pool, secrets)
    catalog = Catalog(redis, secrets, fallback, changes, settings.poll_interval)
    connections = create_function_connections(redis, settings.redis_timeout, settings.shards)
    returning = ReturningUsers()
    records = Records(connections, returning)
    bots = BotCounter(redis)
    return DataPlane(
        allocate=Allocate(catalog, secrets.identity, records, returning, fallback, bots),
        convert=Convert(catalog, secrets.identity, records),
        catalog=catalog,
        changes=changes,
        records=records,
        epochs=Epochs(redis, catalog, records, settings.poll_interval),
        bots=bots,
        returning=returning,
        connections=connections,
    )
