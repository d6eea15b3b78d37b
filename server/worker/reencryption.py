"""Encrypts stored state anew after the keyset got another primary key: what `samplit secrets rotate` left undone.

The command does this too. The worker finishes what a command that was killed has left, and does it on a machine whose
keyset was replaced by hand.
"""

import structlog

from server.maintenance.reencrypt import reencrypt
from server.tasks import repeat
from storage.encryption import Secrets
from storage.postgres.pool import Pool
from storage.redis.client import Client

log = structlog.get_logger()
_INTERVAL_SECONDS = 15.0


class Reencryption:
    """Looks for a new primary key, and then encrypts until nothing is left that an older key encrypted."""

    def __init__(self, pool: Pool, redis: Client, secrets: Secrets) -> None:
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._done_for = b""

    async def run(self) -> None:
        """Look until cancelled, through outages of both stores."""
        await repeat(self.run_once, _INTERVAL_SECONDS, "encrypting stored state with the new key")

    async def run_once(self) -> None:
        """Encrypt anew what an older key encrypted. Once nothing is left of it, do nothing until there is a new key.

        A process that was encrypting while the key changed may store one more old ciphertext, so it takes a second
        look to know that nothing is left.
        """
        primary = self._secrets.primary_prefix
        if primary == self._done_for:
            return
        async with self._pool.acquire() as connection:
            done = await reencrypt(connection, self._redis, self._secrets)
        if done.replaced:
            log.info("stored state is encrypted with the new key", ciphertexts=done.replaced)
        else:
            self._done_for = primary
