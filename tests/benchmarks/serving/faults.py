"""Every process of an installation is killed under load, alone and in pairs; answers are compared with the log."""

from itertools import combinations

from server.runtime.endpoints import read_endpoints
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.faults.kill_test import Verdict, undergo

_PROCESSES = "server-0", "server-1", "worker", "valkey", "postgres"


def rows() -> list[Row]:
    """Measure what was lost, changed, invented or miscounted after 25 kills."""
    rounds = [[name] for name in _PROCESSES] + [list(pair) for pair in combinations(_PROCESSES, 2)]
    with running("--processes", "2") as (installation, runner):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        verdict = runner.run(undergo(installation, endpoints, rounds))
    return [_row(verdict, name, count) for name, count in verdict.faults.items()]


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
