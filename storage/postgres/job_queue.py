"""The queue of jobs, which any worker takes: pgqueuer's tables in our schema.

pgqueuer takes a quarter of a second to import, so that is done where it is used: most commands need none of it.
"""

import asyncpg

from storage.postgres import keepalive

TRAIN = "train_clusters"  # what is done with a job; its payload is the id of a clustering job
CHECK = "check_eligibility"  # of every experiment that is due
_SIZE = 4  # pgqueuer listens on one


async def install(connection: asyncpg.Connection) -> None:
    """Make the queue's tables, or bring them up to date. The caller holds the migration lock."""
    from pgqueuer import AsyncpgDriver, Queries

    queries = Queries(AsyncpgDriver(connection))
    if await queries.schema_is_installed():
        await queries.upgrade()
    else:
        await queries.install(create_schema=False)


async def create_pool(dsn: str, schema: str) -> asyncpg.Pool:
    """Connections for pgqueuer alone, which reads and writes JSON in its own way. They are made when needed."""
    settings = {"search_path": schema, **keepalive.SERVER_SETTINGS}
    return await asyncpg.create_pool(
        dsn, min_size=0, max_size=_SIZE, server_settings=settings, init=keepalive.keep_alive
    )


async def enqueue(pool: asyncpg.Pool, entrypoint: str, payload: str) -> None:
    """Add a job, unless it waits or is worked on."""
    from pgqueuer import AsyncpgPoolDriver, Queries

    queries = Queries(AsyncpgPoolDriver(pool))
    await queries.enqueue(entrypoint, payload.encode(), dedupe_key=f"{entrypoint}/{payload}", on_conflict="skip")
