"""Replays on a running installation: the simulated demo, Hillstrom's e-mail experiment, and one with a kill."""

import asyncio
import threading
from pathlib import Path

from rich.console import Console
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.cli.client import Plane, open_service
from server.cli.replay import plan, session
from server.cli.replay.client import ReplayClient
from server.cli.replay.log import demo
from server.cli.replay.log.columns import Columns
from server.cli.replay.log.users import LoggedUser, parse_users, read_csv
from server.cli.replay.report.summary import adaptive, first_users, segments, uniform
from server.cli.replay.run import Run, run
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.faults.installation import Installation
from tests.support.data import data_file

_SEED = 1
_BATCH = 200
_HILLSTROM = Columns(
    variant="segment",
    outcome="visit",
    user=None,
    web={},
    attributes={"mens": "mens", "bought_by": "channel", "newbie": "newbie"},
)
console = Console()


def rows() -> list[Row]:
    """Measure one row for each claim."""
    simulated = parse_users(demo.simulate(_SEED), demo.COLUMNS)
    with running() as (installation, runner):
        result = [_segments_pay(installation.path, simulated)]
        path = data_file("abtests/hillstrom_dev.csv.gz")
        if path is None:
            console.print("the Hillstrom data are not here: their rows are left out (see tests/data.py)")
        else:
            result += _hillstrom(installation.path, parse_users(read_csv(path), _HILLSTROM))
        return [*result, *_killed(installation, runner, simulated)]


def _plan(name: str, users: list[LoggedUser], segment_by: tuple[str, ...]) -> plan.Plan:
    variants = plan.variant_ids(users)
    return plan.Plan(name, name, variants, next(iter(variants)), segment_by, 100, 0.0)


def _compare(
    data_dir: Path, name: str, users: list[LoggedUser], columns: Columns, segment_by: tuple[str, ...]
) -> dict[str, Run]:
    with (
        open_service(ExperimentServiceStub, None, data_dir) as experiments,
        open_service(AllocationServiceStub, None, data_dir, Plane.ALLOCATION) as allocations,
    ):
        task = session.Session(users, columns, _SEED, _BATCH, None)
        wanted = session.plans(_plan(name, users, segment_by), compare=True)
        return session.replay(task, wanted, experiments, allocations, console)


def _segments_pay(data_dir: Path, users: list[LoggedUser]) -> Row:
    runs = _compare(data_dir, "demo", users, demo.COLUMNS, demo.SEGMENT_BY)
    count = min(len(each.steps) for each in runs.values())
    plain, segmented = (adaptive(first_users(runs[name], count)) for name in ("unsegmented", "segmented"))
    return Row(
        figure=f"demo (simulated crossover): segmented, first {count:,} users",
        reference=f"unsegmented {plain.rate:.2%}",
        ours=f"{segmented.rate:.2%}",
        ratio=segmented.rate / plain.rate,
        spread=f"[{segmented.low:.2%}, {segmented.high:.2%}] against [{plain.low:.2%}, {plain.high:.2%}]",
        goal="intervals apart",
        holds=segmented.low > plain.high,
    )


def _hillstrom(data_dir: Path, users: list[LoggedUser]) -> list[Row]:
    result = []
    reference = uniform(users)
    for name, each in _compare(data_dir, "hillstrom", users, _HILLSTROM, ("attributes.mens",)).items():
        ours = adaptive(each)
        result.append(
            Row(
                figure=f"Hillstrom, {name}, {len(each.steps):,} users",
                reference=f"uniform {reference.rate:.2%}",
                ours=f"{ours.rate:.2%}",
                ratio=ours.rate / reference.rate,
                spread=f"[{ours.low:.2%}, {ours.high:.2%}]",
                goal="interval excludes uniform",
                holds=ours.low > reference.rate,
            )
        )
        for segment in segments(users, each):
            console.print(
                f"{name}, {segment.name}: {segment.favourite} for {segment.favourite_share:.0%} of the last third; "
                f"best in the log: {segment.best} ({segment.best_rate:.1%})"
            )
    return result


def _killed(installation: Installation, runner: asyncio.Runner, users: list[LoggedUser]) -> list[Row]:
    """Kill every process during a replay. The replay goes on when the server is back on the same ports."""
    killed = threading.Event()
    batches = 0

    def advanced(_: Run) -> None:
        nonlocal batches
        batches += 1
        if batches == 8:
            killed.set()

    with (
        open_service(ExperimentServiceStub, None, installation.path) as experiments,
        open_service(AllocationServiceStub, None, installation.path, Plane.ALLOCATION) as allocations,
    ):
        client = ReplayClient(experiments, allocations, _plan("killed", users, demo.SEGMENT_BY), demo.COLUMNS)
        client.start()
        finished: list[Run] = []
        replay = threading.Thread(
            target=lambda: finished.append(run(client, users, _SEED, _BATCH, 4_000, advanced)), daemon=True
        )
        replay.start()
        killed.wait()
        ports = [int(address.rsplit(":", 1)[1]) for address in runner.run(_kill(installation))]
        runner.run(installation.start(port=ports[0], admin_port=ports[1]))
        replay.join()
        steps = finished[0].steps
        again = [
            choice
            for begin in range(0, len(steps), _BATCH)
            for choice in client.allocate([step.arrival for step in steps[begin : begin + _BATCH]])
        ]
        results = experiments.GetExperimentResults(admin.GetExperimentResultsRequest(experiment_id="killed"))
    same = sum(choice.variant == step.choice.variant for choice, step in zip(again, steps, strict=True))
    counted = sum(total.conversions for total in results.totals)
    return [
        Row(
            figure="killed: acknowledged assignments that answer the same variant",
            reference=f"{len(steps):,}",
            ours=f"{same:,}",
            ratio=same / len(steps),
            spread="-",
            goal="all",
            holds=same == len(steps),
        ),
        Row(
            figure="killed: acknowledged conversions, each counted once",
            reference=f"{finished[0].successes:,}",
            ours=f"{counted:,}",
            ratio=counted / finished[0].successes,
            spread="-",
            goal="all, once",
            holds=counted == finished[0].successes,
        ),
    ]


async def _kill(installation: Installation) -> tuple[str, str]:
    from server.runtime.supervision.endpoints import read_endpoints

    endpoints = read_endpoints(installation.path / "server.json")
    assert endpoints is not None
    await installation.kill_everything()
    return endpoints.allocation, endpoints.admin
