"""Every process of an installation is killed under load, alone and in pairs; answers are compared with the log."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from itertools import combinations
from pathlib import Path
from typing import Any

from server.runtime.supervision.endpoints import read_endpoints
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.faults.disasters import undergo_damaged_file, undergo_full_disk, undergo_older_copy
from tests.faults.installation import Installation
from tests.faults.kill_test import Verdict, undergo
from tests.support.disk import NoSmallDiskError, small_disk

_DISK_MEGABYTES = 400
_PROCESSES = "server-0", "server-1", "worker", "valkey", "postgres"


def rows() -> list[Row]:
    """What was lost, changed, invented or miscounted, after 25 kills, a full disk, a damaged file and an older copy."""
    rounds = [[name] for name in _PROCESSES] + [list(pair) for pair in combinations(_PROCESSES, 2)]
    with running("--processes", "2") as (installation, runner):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        verdict = runner.run(undergo(installation, endpoints, rounds))
    return [
        *(_row(verdict, name, count) for name, count in verdict.faults.items()),
        *_full_disk_rows(),
        *_disaster_rows("damaged append-only file", undergo_damaged_file),
        *_disaster_rows("older copy of Redis", undergo_older_copy),
    ]


def _full_disk_rows() -> list[Row]:
    try:
        with small_disk(_DISK_MEGABYTES) as disk, tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
            installation = Installation(disk / "data", output=Path(folder) / "output")
            try:
                found = runner.run(undergo_full_disk(installation, disk))
            finally:
                runner.run(installation.stop())
    except NoSmallDiskError as error:
        return [Row("full disk", "", f"not measured: {error}", 0.0, "", "0", holds=False)]
    return [
        *_verdict_rows("full disk", found.verdict),
        Row(
            figure="full disk: known users who did not get their variant",
            reference=f"{found.known} known users asked while the disk was full",
            ours=f"{found.forgotten}",
            ratio=float(found.forgotten),
            spread=f"{found.said} lines said that the disk was full",
            goal="0",
            holds=found.forgotten == 0,
        ),
    ]


def _disaster_rows(disaster: str, undergone: Callable[[Installation], Coroutine[Any, Any, Verdict]]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="smp") as folder, asyncio.Runner() as runner:
        Path(folder).chmod(0o711)
        installation = Installation(Path(folder) / "data")
        try:
            verdict = runner.run(undergone(installation))
        finally:
            runner.run(installation.stop())
    return _verdict_rows(disaster, verdict)


def _verdict_rows(disaster: str, verdict: Verdict) -> list[Row]:
    counts = {
        "lost": verdict.assignments_lost + verdict.conversions_lost,
        "changed": verdict.assignments_changed,
        "doubled": verdict.conversions_invented + verdict.miscounted + verdict.differences,
        "set aside": verdict.set_aside,
    }
    return [_row(verdict, f"{disaster}: {name}", count) for name, count in counts.items()]


def _row(verdict: Verdict, name: str, count: int) -> Row:
    return Row(
        figure=name.replace("_", " "),
        reference=f"{verdict.assignments:,} assignments, {verdict.conversions:,} conversions acknowledged",
        ours=f"{count}",
        ratio=float(count),
        spread=f"{verdict.kills} kills; {verdict.failed:,} calls failed, {verdict.degraded:,} degraded",
        goal="0",
        holds=count == 0,
    )
