"""The use cases of operators, called without the command line: API keys, rebuilding, deleting everything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from allocator.errors import InvalidFieldError
from server.maintenance import api_keys, rebuild_counts, rebuild_redis
from server.maintenance.reset import reset_embedded, reset_external
from storage.engines.directory import DataDirectory
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import connect
from storage.redis import api_keys as published_keys
from storage.redis import completeness
from tests.conftest import Clock
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(dsn)
    yield connection
    await connection.close()


async def test_a_key_opens_what_its_scopes_say_until_it_is_revoked(
    service: Service, connection: asyncpg.Connection, redis: Redis, clock: Clock
) -> None:
    by_test: dict[str, Any] = {"actor": "test", "now": clock.now}
    key = await api_keys.create(
        connection,
        redis,
        service.secrets,
        name="edge",
        scopes=("allocate",),
        **by_test,
    )
    assert api_keys.read_key(key.text) == key
    assert key.text not in repr(key)
    active = await published_keys.load(redis, service.secrets)
    assert (active[key.secret_hash].key_id, active[key.secret_hash].scopes) == (key.key_id, ("allocate",))
    await api_keys.add(
        connection,
        redis,
        service.secrets,
        key,
        name="once more",
        scopes=("admin",),
        **by_test,
    )
    stored = {each.key_id: each for each in await stored_keys.list_all(connection)}
    assert (stored[key.key_id].name, stored[key.key_id].scopes) == ("edge", ("allocate",))
    assert await api_keys.revoke(connection, redis, service.secrets, key.key_id, **by_test)
    assert key.secret_hash not in await published_keys.load(redis, service.secrets)
    assert not await api_keys.revoke(connection, redis, service.secrets, key.key_id, **by_test)
    assert not await api_keys.revoke(connection, redis, service.secrets, "unknown", **by_test)


async def test_an_unknown_scope_is_refused_and_nothing_is_stored(
    service: Service, connection: asyncpg.Connection, redis: Redis, clock: Clock
) -> None:
    before = await stored_keys.list_all(connection)
    with pytest.raises(InvalidFieldError, match="scope: must be one of allocate, admin; is 'root'"):
        await api_keys.create(
            connection,
            redis,
            service.secrets,
            name="x",
            scopes=("admin", "root"),
            actor="test",
            now=clock.now,
        )
    assert await stored_keys.list_all(connection) == before


async def test_counts_are_compared_and_repaired(
    service: Service, worker: None, connection: asyncpg.Connection, clock: Clock
) -> None:
    await service.running()
    for n in range(5):
        await service.allocate("cta", f"u{n}")
    await service.learned("cta", 5)
    assert not await rebuild_counts.compare(connection)
    await connection.execute("UPDATE segment_counts SET trials = trials + 3")
    await connection.execute("UPDATE dimension_counts SET trials = trials + 1")
    found = await rebuild_counts.compare(connection)
    assert found
    assert {each.trials for each in found.counts} == {-3}
    assert found.by_dimension > 0
    assert await rebuild_counts.compare(connection) == found  # comparing changes nothing
    await rebuild_counts.repair(connection, found, clock.now)
    assert not await rebuild_counts.compare(connection)


async def test_redis_is_rebuilt_from_postgres(service: Service, worker: None, redis: Redis) -> None:
    await service.running()
    had = {f"u{n}": (await service.allocate("cta", f"u{n}")).variant_id for n in range(5)}
    await service.learned("cta", 5)
    for key in await redis.keys("{s00}:a:*"):
        await redis.delete(key)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await rebuild_redis.rebuild(redis, service.settings.shards)
        while not await completeness.is_complete(redis):
            await asyncio.sleep(0.02)
    for user, variant in had.items():
        assert (await service.allocate("cta", user)).variant_id == variant


async def test_external_stores_are_emptied_and_what_others_keep_there_stays(
    service: Service, connection: asyncpg.Connection, redis: Redis, dsn: str, short_directory: Path
) -> None:
    await service.running()
    await redis.set("another", "1")
    path = short_directory / "external"
    directory = DataDirectory.open(path)
    (path / "secrets").mkdir()
    await reset_external(directory, dsn, redis)
    directory.close()
    assert await connection.fetchval("SELECT to_regclass('samplit.experiments')") is None
    assert await redis.keys("*") == [b"another"]
    assert not (path / "secrets").exists()


async def test_an_embedded_installation_loses_its_data_and_secrets(short_directory: Path) -> None:
    directory = DataDirectory.open(short_directory / "embedded")
    for name in ("postgres", "secrets", "metrics"):
        (directory.path / name).mkdir()
        (directory.path / name / "file").write_text("x")
    await reset_embedded(directory)
    directory.close()
    assert not {"postgres", "valkey", "secrets", "metrics"} & {path.name for path in directory.path.iterdir()}
