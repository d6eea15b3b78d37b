"""Two workers share one schedule. The worker that checks is killed, and the other continues where it stopped."""

import asyncio

from storage.postgres.pool import connect
from tests.faults.installation import SAMPLIT, environment
from tests.support.days import two_variants
from tests.support.recommendations import count_checks
from tests.support.service import Service

_EXPERIMENTS = 60
_TAKE_OVER_SECONDS = 60


async def worker(service: Service) -> asyncio.subprocess.Process:
    dsn, url = service.settings.stores
    stores = {"SAMPLIT_POSTGRES_DSN": dsn, "SAMPLIT_REDIS_URL": url}
    data = ("--data-dir", str(service.settings.data_dir))
    return await asyncio.create_subprocess_exec(
        *SAMPLIT, "worker", *data, stdout=asyncio.subprocess.DEVNULL, env=environment(**stores)
    )


async def test_a_killed_sweep_is_taken_over_within_a_minute(service: Service, dsn: str) -> None:
    for number in range(_EXPERIMENTS):
        await service.call("CreateExperiment", experiment=two_variants(experiment_id=f"e{number}"))
        await service.call("StartExperiment", experiment_id=f"e{number}")
    connection = await connect(dsn)
    await count_checks(connection, pause=0.2)

    async def checked(least: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while await connection.fetchval("SELECT count(*) FROM checks") < least:
                await asyncio.sleep(0.02)

    first = await worker(service)
    await checked(1, 60)
    second = await worker(service)
    await asyncio.sleep(3)  # the second worker waits for the lease
    first.kill()
    await first.wait()
    before = await connection.fetchval("SELECT count(*) FROM checks")
    assert before < _EXPERIMENTS, "the worker had finished before it was killed"
    await checked(_EXPERIMENTS, _TAKE_OVER_SECONDS)
    assert await connection.fetchval("SELECT count(DISTINCT experiment_no) FROM checks") == _EXPERIMENTS
    assert await connection.fetchval("SELECT count(*) FROM checks") == _EXPERIMENTS
    second.terminate()
    await second.wait()
    await connection.close()
