"""Change notices: messages on Redis pub/sub which say that something was published. A server that misses one polls."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from storage.redis import keys
from storage.redis.client import Client

Kind: TypeAlias = Literal["config", "posterior", "segments", "keys"]


@dataclass(frozen=True)
class ChangeNotice:
    """The configuration, the posterior or the segments of an experiment changed, or the API keys (without an id)."""

    kind: Kind
    experiment_id: str = ""


async def send(client: Client, kind: Kind, experiment_id: str = "") -> None:
    """Tell all servers that something was published."""
    await client.publish(keys.CHANGE_NOTICES, f"{kind} {experiment_id}".rstrip())


async def follow(client: Client) -> AsyncIterator[ChangeNotice]:
    """Yield every change notice from now on."""
    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(keys.CHANGE_NOTICES)
        while True:
            message = await subscription.get_message(timeout=None)
            if message is not None:
                kind, _, experiment_id = message["data"].decode().partition(" ")
                yield ChangeNotice(kind, experiment_id)
