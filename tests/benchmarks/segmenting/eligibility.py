"""What a check of eligibility costs: database time by PostgreSQL, rows read, and checks of many experiments."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import numpy as np

from allocator.experiment import Group, Reason
from server.alerts.faults import Faults
from server.recommendations.checker import Checker
from server.worker.eligibility_sweep import EligibilitySweep
from storage.encryption import load_secrets
from storage.events import AssignmentEvent, ConversionEvent
from storage.postgres.events import drain
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import connect, create_pool
from storage.redis.client import create_client
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.in_process import simulated
from tests.support.days import two_variants

_SEED = 3
_ASSIGNMENTS, _BATCH, _DAYS = 1_000_000, 10_000, 30
_EXPERIMENTS = 1_000
_MOST_MILLISECONDS = 100.0
_CHECKS = 9
_DIMENSIONS = {
    "channel": ("web",),
    "source": ("instagram", "google", "newsletter", "direct", "tiktok", "partner"),
    "device": ("mobile", "desktop", "tablet"),
    "browser": ("chrome", "safari", "firefox"),
    "country": ("br", "de", "us", "in", "fr", "jp", "mx", "za"),
    "hour": tuple(map(str, range(24))),
    "day_of_week": tuple(map(str, range(7))),
    "is_weekend": ("true", "false"),
}


def rows() -> list[Row]:
    """Measure a check over a million assignments, then checks of many experiments."""
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    async with simulated(with_worker=False) as (service, clock):
        await service.call("CreateExperiment", experiment=two_variants())
        await service.call("StartExperiment", experiment_id="cta")
        secrets = load_secrets(service.settings.secrets_directory)
        connection = await connect(service.settings.stores[0])
        await _fill(connection, Labeller(secrets), int(clock.now.timestamp()))
        clock.now += timedelta(days=_DAYS, hours=1)
        pool = await create_pool(service.settings.stores[0], size=2)
        redis = create_client(service.settings.stores[1])
        checker = Checker(pool, redis, secrets, clock)
        one = await _one(connection, checker)
        many = await _sweep(service, connection, EligibilitySweep(pool, checker, clock, Faults(clock)))
        await redis.aclose()
        await pool.close()
        await connection.close()
    return [one, many]


async def _fill(connection: asyncpg.Connection, labeller: Labeller, begin: int) -> None:
    """Send a million users of thirty days through the drain. A tenth of them convert."""
    rng = np.random.default_rng(_SEED)
    for first in range(0, _ASSIGNMENTS, _BATCH):
        second = begin + first * _DAYS * 86_400 // _ASSIGNMENTS
        users = _users(rng, second)
        won = [
            ConversionEvent(1, user.user_key, "conversion", "order", 0.0, "", second)
            for user, draw in zip(users, rng.random(_BATCH), strict=True)
            if draw < 0.1
        ]
        await drain.write(connection, [*users, *won], labeller)
    await connection.execute("VACUUM ANALYZE")


def _users(rng: np.random.Generator, second: int) -> list[AssignmentEvent]:
    variants = rng.integers(2, size=_BATCH).tolist()
    values = {name: rng.choice(known, _BATCH).tolist() for name, known in _DIMENSIONS.items()}
    return [
        AssignmentEvent(
            experiment=1,
            user_key=rng.bytes(16),
            variant=variants[user],
            segmentation_version=1,
            segment=0,
            segment_key="global",
            reason=Reason.SAMPLED,
            group=Group.ADAPTIVE,
            posterior_version=1,
            revision=2,
            propensity=0.5,
            marginal=0.5,
            q_segment=0.5,
            q_global=0.5,
            context={name: known[user] for name, known in values.items()},
            assigned_at=second,
        )
        for user in range(_BATCH)
    ]


async def _one(connection: asyncpg.Connection, checker: Checker) -> Row:
    spent, elapsed = [], []
    for _ in range(_CHECKS):
        before = await _statistics(connection)
        begin = time.perf_counter()
        await checker.check("cta")
        elapsed.append((time.perf_counter() - begin) * 1e3)
        after = await _statistics(connection)
        spent.append(after[0] - before[0])
    scanned = after[1] - before[1]
    middle = float(np.median(spent))
    return Row(
        figure=f"a check over {_ASSIGNMENTS:,} assignments of {_DAYS} days: database time",
        reference=f"{scanned} rows of the log read by a check",
        ours=f"{middle:.0f} ms; {np.median(elapsed):.0f} ms in all",
        ratio=middle / _MOST_MILLISECONDS,
        spread=f"{min(spent):.0f}–{max(spent):.0f} ms of {_CHECKS} checks",
        goal=f"≤ {_MOST_MILLISECONDS:.0f} ms, none of the log",
        holds=middle <= _MOST_MILLISECONDS and scanned == 0,
    )


async def _statistics(connection: asyncpg.Connection) -> tuple[float, int]:
    """Return, as of now, the milliseconds that sessions spent in statements, and the rows read from the log."""
    await asyncio.sleep(1.5)  # sessions report after a second of idleness
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    active = await connection.fetchval("SELECT active_time FROM pg_stat_database WHERE datname = current_database()")
    read = await connection.fetchval(
        "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables"
        " WHERE relname LIKE 'assignments%'"
    )
    return float(active), int(read)


async def _sweep(service: Any, connection: asyncpg.Connection, sweep: EligibilitySweep) -> Row:
    """Measure checks of many experiments. Each has a thousandth of the first experiment's counts."""
    await connection.execute("DELETE FROM dimension_counts WHERE day < (SELECT max(day) - 3 FROM dimension_counts)")
    for number in range(_EXPERIMENTS):
        message = two_variants(experiment_id=f"e{number}")
        await service.call("CreateExperiment", experiment=message)
        await service.call("StartExperiment", experiment_id=f"e{number}")
    await connection.execute(
        "INSERT INTO dimension_counts SELECT e.experiment_no, dimension, day, value, variant_no, visitors / 1000,"
        " trials / 1000, successes / 1000 FROM dimension_counts d, experiments e"
        " WHERE d.experiment_no = 1 AND e.experiment_no > 1"
    )
    begin = time.perf_counter()
    await sweep.check_due()
    seconds = time.perf_counter() - begin
    left = await connection.fetchval("SELECT count(*) FROM experiment_segmentation_config WHERE checked_at IS NULL")
    return Row(
        figure=f"a sweep over {_EXPERIMENTS:,} experiments",
        reference=f"{left} not checked",
        ours=f"{seconds:.1f} s",
        ratio=seconds / _EXPERIMENTS,
        spread=f"{seconds / (_EXPERIMENTS + 1) * 1e3:.1f} ms an experiment",
        goal="all, once",
        holds=left == 0,
    )
