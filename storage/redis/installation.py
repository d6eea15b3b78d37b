"""Which installation a Redis belongs to. Two on one would take each other's events."""

from typing import cast

from allocator.errors import StoreUnavailableError
from storage.redis import keys
from storage.redis.client import Client


async def agree_on_installation(client: Client, fingerprint: bytes) -> None:
    """Note the fingerprint of the installation, unless there is one. Raises StoreUnavailableError for another one."""
    await client.set(keys.INSTALLATION, fingerprint, nx=True)
    found = cast("bytes | None", await client.get(keys.INSTALLATION))
    if found is not None and found != fingerprint:
        raise StoreUnavailableError(
            "Redis at SAMPLIT_REDIS_URL belongs to another installation, whose events would be lost: "
            "name another Redis, or another database of it"
        )
