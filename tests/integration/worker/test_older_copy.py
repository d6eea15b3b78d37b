"""A Redis that is replaced by an older copy of itself, or that belongs to another installation, is not believed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from allocator.errors import StoreUnavailableError
from server.runtime.bootstrap import prepare_stores
from server.settings import Settings
from storage.postgres.operations.redis_shards import get
from storage.postgres.pool import Connection, connect
from storage.redis import keys
from tests.support.segmentation import drained
from tests.support.service import Service
from tests.support.waiting import eventually


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn)
    yield connection
    await connection.close()


async def copy_of(redis: Redis) -> dict[bytes, bytes]:
    """Everything in Redis, as a snapshot has it. The last id of a stream is in it too."""
    return {key: await redis.dump(key) async for key in redis.scan_iter()}


async def put_back(redis: Redis, copy: dict[bytes, bytes]) -> None:
    async with redis.pipeline(transaction=True) as pipeline:
        await pipeline.flushdb()
        for key, value in copy.items():
            pipeline.restore(key, 0, value)
        await pipeline.execute()


async def works(service: Service, user: str) -> bool:
    return bool((await service.allocate("cta", user)).assignment_id)


async def test_users_who_came_after_the_copy_keep_their_variant(
    service: Service, worker: None, redis: Redis, connection: Connection
) -> None:
    """The copy has the same epoch: that the stream was drained further tells it."""
    await service.running()
    early = {f"e{n}": (await service.allocate("cta", f"e{n}")).assignment_id for n in range(5)}
    await drained(redis)
    copy = await copy_of(redis)
    late = {f"l{n}": (await service.allocate("cta", f"l{n}")).assignment_id for n in range(20)}
    await service.learned("cta", 25)
    epoch = await redis.get(keys.epoch(0))
    await put_back(redis, copy)
    assert await redis.get(keys.epoch(0)) == epoch
    await eventually(lambda: has_other_epoch(redis, epoch))
    await eventually(lambda: works(service, "newcomer"))
    for user, assignment in (early | late).items():
        assert (await service.allocate("cta", user)).assignment_id == assignment
    known = await get(connection, 0)
    assert known is not None
    assert known.epoch == await redis.get(keys.epoch(0))


async def has_other_epoch(redis: Redis, epoch: bytes) -> bool:
    return await redis.get(keys.epoch(0)) not in (None, epoch)


async def test_a_copy_with_another_epoch_is_noticed_at_the_start(
    service: Service, redis: Redis, settings: Settings, clock: Any
) -> None:
    """Nothing was drained since, but each start of Redis renews the epoch."""
    await service.running()
    await redis.set(keys.epoch(0), b"of a copy")
    await prepare_stores(settings, clock)
    assert await redis.get(keys.epoch(0)) is None  # the worker opens the shard when it is refilled
    assert await redis.get(keys.PUBLISHED) is None


async def test_a_restart_of_redis_renews_the_epoch(
    service: Service, redis: Redis, settings: Settings, clock: Any, connection: Connection
) -> None:
    await service.running()
    before = await redis.get(keys.epoch(0))
    await prepare_stores(settings, clock)
    assert await redis.get(keys.epoch(0)) == before  # the same process of Redis
    await connection.execute("UPDATE redis_shards SET run_id = 'of the process before'")
    await prepare_stores(settings, clock)
    assert await redis.get(keys.epoch(0)) not in (None, before)
    assert await works(service, "u") or await works(service, "u")  # the second call knows the new epoch


async def test_two_installations_do_not_share_a_redis(service: Service, settings: Settings, clock: Any) -> None:
    """Another database with the same secrets, as of a copy for tests, is another installation."""
    dsn, _ = settings.stores
    connection = await connect(dsn)
    await connection.execute("UPDATE installation SET installation_id = gen_random_uuid()")
    await connection.close()
    with pytest.raises(StoreUnavailableError, match="belongs to another installation") as refused:
        await prepare_stores(settings, clock)
    assert "\n" not in str(refused.value)


async def test_a_redis_without_append_only_file_is_refused(
    settings: Settings, clock: Any, redis: Redis, capfd: pytest.CaptureFixture[str]
) -> None:
    await redis.config_set("appendonly", "no")
    try:
        with pytest.raises(StoreUnavailableError, match="SAMPLIT_ALLOW_VOLATILE_REDIS=true") as refused:
            await prepare_stores(settings, clock)
        assert "\n" not in str(refused.value)
        await prepare_stores(settings.model_copy(update={"allow_volatile_redis": True}), clock)
        assert "keeps no append-only file" in "".join(capfd.readouterr())
    finally:
        await redis.config_set("appendonly", "yes")
