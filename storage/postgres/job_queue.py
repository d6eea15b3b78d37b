"""The queue of jobs, from which any worker takes one: pgqueuer's tables in the schema of Samplit.

To import pgqueuer takes a quarter of a second, so it is imported where it is used: most commands do not need it.
"""

import asyncpg

from storage.postgres import keepalive

TRAIN = "train_clusters"  # a kind of job, whose payload is the id of a clustering job
CHECK = "check_eligibility"  # a kind of job: all experiments that are due are checked
_SIZE = 4  # connections, of which pgqueuer listens on one


async def install(connection: asyncpg.Connection) -> None:
    """Create the tables of the queue, or bring them up to date. The caller holds the migration lock."""
    from pgqueuer import AsyncpgDriver, Queries

    queries = Queries(AsyncpgDriver(connection))
    if await queries.schema_is_installed():
        await queries.upgrade()
    else:
        await queries.install(create_schema=False)


async def create_pool(dsn: str, schema: str) -> asyncpg.Pool:
    """Return a pool for pgqueuer alone, which reads and writes JSON in its own way. It connects when it is used."""
    settings = {"search_path": schema, **keepalive.SERVER_SETTINGS}
    return await asyncpg.create_pool(
        dsn, min_size=0, max_size=_SIZE, server_settings=settings, init=keepalive.keep_alive
    )


async def enqueue(pool: asyncpg.Pool, entrypoint: str, payload: str) -> None:
    """Add a job, unless the same job waits or is under way."""
    from pgqueuer import AsyncpgPoolDriver, Queries

    queries = Queries(AsyncpgPoolDriver(pool))
    await queries.enqueue(entrypoint, payload.encode(), dedupe_key=f"{entrypoint}/{payload}", on_conflict="skip")
