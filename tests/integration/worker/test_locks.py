"""A lease has one holder at a time. It is released when a block ends or a connection is cut."""

import asyncio

import pytest

from storage.postgres import locks
from storage.postgres.locks import Lock, connect_with_lease, try_connect_with_lease, try_lease
from storage.postgres.pool import connect
from tests.support.waiting import PATIENCE_SECONDS

LOCKS = [locks.ALERT_WATCH, locks.drain(1)]  # a lock with its own number, and a lock of a class


async def is_free(dsn: str, lock: Lock) -> bool:
    async with try_connect_with_lease(dsn, lock) as connection:
        return connection is not None


async def until_free(dsn: str, lock: Lock) -> None:
    """PostgreSQL frees a lock a moment after the connection is cut."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_free(dsn, lock):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lock", LOCKS)
async def test_a_lease_of_a_connection_ends_with_its_block(dsn: str, lock: Lock) -> None:
    connection = await connect(dsn)

    async def fail_with_lease() -> None:
        async with try_lease(connection, lock) as is_obtained:
            assert is_obtained
            assert not await is_free(dsn, lock)
            raise KeyError

    with pytest.raises(KeyError):
        await fail_with_lease()
    assert await is_free(dsn, lock)
    await connection.close()


@pytest.mark.parametrize("lock", LOCKS)
async def test_a_lease_that_is_not_obtained_is_not_released(dsn: str, lock: Lock) -> None:
    connection = await connect(dsn)
    async with connect_with_lease(dsn, lock):
        async with try_lease(connection, lock) as is_obtained:
            assert not is_obtained
        assert not await is_free(dsn, lock)
    await until_free(dsn, lock)
    await connection.close()


async def test_an_error_is_raised_although_the_connection_died_with_its_lease(dsn: str) -> None:
    connection = await connect(dsn)

    async def fail_with_lease() -> None:
        async with try_lease(connection, locks.ALERT_WATCH):
            connection.terminate()
            raise KeyError

    with pytest.raises(KeyError):
        await fail_with_lease()
    await until_free(dsn, locks.ALERT_WATCH)


async def test_who_waits_for_a_lease_gets_it_when_the_holder_is_cut(dsn: str) -> None:
    waiting = asyncio.Event()

    async def wait() -> None:
        waiting.set()
        async with connect_with_lease(dsn, locks.MIGRATION):
            pass

    async with connect_with_lease(dsn, locks.MIGRATION):
        other = asyncio.create_task(wait())
        await waiting.wait()
        await asyncio.sleep(0.1)
        assert not other.done()
    await asyncio.wait_for(other, PATIENCE_SECONDS)


async def test_locks_of_one_class_are_apart(dsn: str) -> None:
    async with connect_with_lease(dsn, locks.drain(1)):
        assert await is_free(dsn, locks.drain(2))
        assert await is_free(dsn, locks.resegmentation(1))


async def test_workers_are_counted_while_they_live(dsn: str) -> None:
    connection = await connect(dsn)
    assert await locks.count_workers(connection) == 0
    async with connect_with_lease(dsn, locks.new_worker()), connect_with_lease(dsn, locks.new_worker()):
        assert await locks.count_workers(connection) == 2
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await locks.count_workers(connection):
            await asyncio.sleep(0.01)
    await connection.close()


def test_servers_of_two_releases_share_the_numbers() -> None:
    assert [locks.MIGRATION.key, locks.ALERT_WATCH.key, locks.NOTIFICATION_ADMISSION.key] == [
        (0x5A3B17,),
        (0x5A3B1B,),
        (0x5A3B1C,),
    ]
    assert [locks.drain(3).key, locks.resegmentation(4).key] == [(0x5A3B18, 3), (0x5A3B19, 4)]
    assert locks.new_worker().number == 0x5A3B1A
