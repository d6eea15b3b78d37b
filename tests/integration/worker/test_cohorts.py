"""The SQL functions of the migrations and Python divide a maturity into the same number of cohorts."""

import asyncpg

from allocator.posterior.effective_trials import DELAY_STEPS
from storage.postgres.pool import connect

MATURITY_SECONDS = 100 * DELAY_STEPS


async def value(connection: asyncpg.Connection, expression: str) -> int:
    row = f"WITH maturity AS (SELECT $1::int AS seconds) SELECT {expression} FROM maturity"  # noqa: S608
    found: int = await connection.fetchval(row, MATURITY_SECONDS)
    return found


async def test_a_maturity_has_as_many_cohorts_in_sql_as_in_python(dsn: str) -> None:
    connection = await connect(dsn)
    assert await value(connection, "cohort_of(to_timestamp(0), seconds)") == 0
    assert await value(connection, "cohort_of(to_timestamp(seconds), seconds)") == DELAY_STEPS
    assert await value(connection, "delay_step_of(to_timestamp(0), to_timestamp(seconds), seconds)") == DELAY_STEPS - 1
    assert await value(connection, "extract(epoch FROM mature_before(to_timestamp(seconds), seconds))::int") == 0
    await connection.close()
