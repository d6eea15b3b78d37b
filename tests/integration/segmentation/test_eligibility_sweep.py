"""Workers check the eligibility of every experiment once in six hours."""

import asyncio
from collections.abc import Sequence
from typing import Any

from server.alerts.faults import Faults
from server.recommendations.checker import Checker
from server.runtime.worker import run_worker
from server.tasks import end
from server.worker.eligibility_sweep import EligibilitySweep
from storage.encryption import load_secrets
from storage.postgres.pool import connect, create_pool
from storage.redis.client import create_client
from tests.conftest import Clock
from tests.support.days import two_variants
from tests.support.recommendations import (
    count_checks,
)
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS


async def sweep_of(service: Service, clock: Clock) -> tuple[EligibilitySweep, Sequence[Any]]:
    dsn, url = service.settings.stores
    pool, redis = await create_pool(dsn, size=2), create_client(url)
    secrets = load_secrets(service.settings.secrets_directory)
    return EligibilitySweep(pool, Checker(pool, redis, secrets, clock), clock, Faults(clock)), (
        pool.close,
        redis.aclose,
    )


async def test_a_sweep_looks_at_everything_once_in_six_hours(service: Service, clock: Clock, dsn: str) -> None:
    for number in range(30):
        message = two_variants(experiment_id=f"e{number}")
        await service.call("CreateExperiment", experiment=message)
        await service.call("StartExperiment", experiment_id=f"e{number}")
    sweep, closing = await sweep_of(service, clock)
    connection = await connect(dsn)
    try:
        assert await sweep.is_due()
        await sweep.check_due()
        assert not await sweep.is_due()
        checked = await connection.fetch("SELECT DISTINCT checked_at FROM experiment_segmentation_config")
        assert [row["checked_at"] for row in checked] == [clock.now]
        clock.advance(hours=5, minutes=59)
        assert not await sweep.is_due()
        clock.advance(minutes=2)
        assert await sweep.is_due()
    finally:
        await connection.close()
        for close in closing:
            await close()


async def test_two_workers_check_once(service: Service, clock: Clock, dsn: str) -> None:
    """One of the workers takes the job, and the other finds nothing due."""
    for number in range(20):
        await service.call("CreateExperiment", experiment=two_variants(experiment_id=f"e{number}"))
        await service.call("StartExperiment", experiment_id=f"e{number}")
    connection = await connect(dsn)
    await count_checks(connection)
    ready = [asyncio.Event(), asyncio.Event()]
    workers = [asyncio.create_task(run_worker(service.settings, clock, event)) for event in ready]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await connection.fetchval("SELECT count(*) FROM checks") < 20:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert await connection.fetchval("SELECT count(*) FROM checks") == 20
    finally:
        await connection.close()
        await end(*workers)
