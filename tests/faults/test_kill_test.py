"""A short run of the figure `faults`: processes are killed alone and in pairs, and no answer is wrong."""

from pathlib import Path

from tests.faults.installation import Installation
from tests.faults.kill_test import undergo

ROUNDS = ["server-0"], ["valkey", "worker"], ["postgres", "server-1"], ["valkey", "postgres"]


async def test_no_answer_is_lost_when_processes_die(folder: Path) -> None:
    installation = Installation(folder, "--processes", "2")
    try:
        verdict = await undergo(installation, await installation.start(), ROUNDS)
    finally:
        status = await installation.stop()
    assert set(verdict.faults.values()) == {0}, verdict
    assert verdict.kills == 7
    assert min(verdict.assignments, verdict.conversions) > 100, verdict
    assert status == 0
