"""Every advisory lock of the project. Servers of two releases share them, so no number may change its meaning.

PostgreSQL frees the locks of a session when its connection ends. So nobody has to clean up after a worker that dies;
`keepalive` says how long PostgreSQL waits for one whose machine is gone.
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from storage.postgres.pool import Connection, connect

_NO_SETTINGS: Mapping[str, str] = {}
_LARGEST_MEMBER_BITS = 31  # PostgreSQL takes a signed integer of four bytes


@dataclass(frozen=True)
class Lock:
    """One lock: a number of its own, or a member of a class of locks."""

    number: int
    member: int | None = None

    @property
    def key(self) -> tuple[int, ...]:
        """Return the arguments of PostgreSQL's functions. Keys of one number and of two never collide."""
        return (self.number,) if self.member is None else (self.number, self.member)


@dataclass(frozen=True)
class _Statements:
    lock: str
    try_lock: str
    unlock: str


_OF_ONE_NUMBER = _Statements(
    lock="SELECT pg_advisory_lock($1)",
    try_lock="SELECT pg_try_advisory_lock($1)",
    unlock="SELECT pg_advisory_unlock($1)",
)
_OF_A_CLASS = _Statements(
    lock="SELECT pg_advisory_lock($1, $2)",
    try_lock="SELECT pg_try_advisory_lock($1, $2)",
    unlock="SELECT pg_advisory_unlock($1, $2)",
)
_COUNT_HELD = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

MIGRATION = Lock(0x5A3B17)  # servers that start together migrate one after the other
ALERT_WATCH = Lock(0x5A3B1B)  # one worker looks for alerts
NOTIFICATION_ADMISSION = Lock(0x5A3B1C)  # workers admit notifications one after the other, or limits would not hold
DRAIN = 0x5A3B18
_RESEGMENTATION = 0x5A3B19
_WORKER = 0x5A3B1A


def drain(shard: int) -> Lock:
    """Return the lock of the one worker that drains a shard."""
    return Lock(DRAIN, shard)


def resegmentation(experiment_number: int) -> Lock:
    """Return the lock of the one worker that moves an experiment to another segmentation."""
    return Lock(_RESEGMENTATION, experiment_number)


def new_worker() -> Lock:
    """Return a lock that a worker holds while it lives, so that others can count it. Each worker has another one."""
    return Lock(_WORKER, secrets.randbits(_LARGEST_MEMBER_BITS))


async def count_workers(connection: Connection) -> int:
    """Return how many workers live."""
    count: int = await connection.fetchval(_COUNT_HELD, _WORKER)
    return count


@asynccontextmanager
async def try_lease(connection: Connection, lock: Lock) -> AsyncIterator[bool]:
    """Hold a lock until the block ends; yields False, and holds nothing, if another session has it."""
    is_obtained: bool = await connection.fetchval(_statements(lock).try_lock, *lock.key)
    try:
        yield is_obtained
    finally:
        if is_obtained and not connection.is_closed():  # a connection that has ended holds nothing any more
            await connection.execute(_statements(lock).unlock, *lock.key)


@asynccontextmanager
async def connect_with_lease(dsn: str, lock: Lock) -> AsyncIterator[asyncpg.Connection]:
    """Wait for a lock, and yield a connection that holds it and is cut when the block ends.

    Nothing is awaited at the end: a PostgreSQL that hangs does not keep the worker.

    Raises StoreUnavailableError.
    """
    connection = await connect(dsn)
    try:
        await connection.execute(_statements(lock).lock, *lock.key)
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def try_connect_with_lease(
    dsn: str, lock: Lock, settings: Mapping[str, str] = _NO_SETTINGS
) -> AsyncIterator[asyncpg.Connection | None]:
    """Like `connect_with_lease`, but yields None instead of waiting if another session has the lock.

    settings: more settings of the session.
    """
    connection = await connect(dsn, settings)
    try:
        is_obtained: bool = await connection.fetchval(_statements(lock).try_lock, *lock.key)
        yield connection if is_obtained else None
    finally:
        connection.terminate()


async def try_hold(connection: Connection, lock: Lock) -> bool:
    """Hold a lock until the transaction ends; returns False, and holds nothing, if another session has it."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", *lock.key))


async def hold_request_id(connection: Connection, request_id: str) -> None:
    """Wait for a request_id of the admin plane, and hold it until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", request_id)


def _statements(lock: Lock) -> _Statements:
    return _OF_ONE_NUMBER if lock.member is None else _OF_A_CLASS
