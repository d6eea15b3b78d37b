"""Send load to a running server, and print how its calls were answered: `python -m tests.benchmarks.load`."""

import asyncio
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.table import Table
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub

from server.cli.client import Plane, find_target, open_service
from server.cli.errors import CommandError
from server.cli.options import DataDirectory
from tests.benchmarks.load import messages
from tests.benchmarks.load.program import Load, LoadError, Report, send

_POOL = 10_000  # returning users
_PRIMING = 64  # calls under way while returning users are allocated for the first time
_WARM_UP = 0.5  # seconds that are not counted
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def load(
    address: Annotated[
        str | None, typer.Option(envvar="SAMPLIT_ADDRESS", help="host:port of the data plane", show_default=False)
    ] = None,
    admin_address: Annotated[
        str | None,
        typer.Option(envvar="SAMPLIT_ADMIN_ADDRESS", help="host:port of the control plane", show_default=False),
    ] = None,
    data_dir: DataDirectory = None,
    key: Annotated[str | None, typer.Option(help="the API key, if not the server's first", show_default=False)] = None,
    experiment: Annotated[str | None, typer.Option(help="its id; one is made if left out", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(min=0.1)] = 10.0,
    concurrency: Annotated[int, typer.Option(min=1, help="calls always under way (closed loop)")] = 32,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="calls a second, come what may (open loop)", show_default=False)
    ] = None,
    connections: Annotated[int, typer.Option(min=1)] = 4,
    processes: Annotated[int, typer.Option(min=1, help="that send the load, each its part")] = 1,
    returning: Annotated[float, typer.Option(min=0, max=1, help="share of calls by users who have a variant")] = 0.0,
    segmented: Annotated[bool, typer.Option("--segmented", help="with web contexts; by source and device")] = False,
    batch: Annotated[int, typer.Option(min=0, help="users a call, through AllocateUsers")] = 0,
    varying: Annotated[
        bool, typer.Option("--varying", help="a deadline and a traceparent that differ in each call")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="deadline of each call, in seconds", show_default=False)
    ] = None,
    unix: Annotated[
        Path | None, typer.Option(help="the unix socket of the data plane, in place of its port", show_default=False)
    ] = None,
) -> None:
    """Send AllocateUser calls to a running server: --concurrency of them at a time, or --rate a second."""
    if key:
        os.environ["SAMPLIT_API_KEY"] = key  # where find_target looks
    target = find_target(Plane.ALLOCATION, address, data_dir)
    if target.certificates:
        raise CommandError("the load generator speaks plaintext only, and this server TLS")
    run = secrets.token_hex(4)
    if experiment is None:
        experiment = f"load-{run}"
        _create(experiment, segmented, admin_address, data_dir)
    new = Load(
        address=f"unix:{unix}" if unix else target.address,
        key=target.key,
        path=messages.ALLOCATE_USERS if batch else messages.ALLOCATE_USER,
        connections=connections,
        concurrency=concurrency,
        rate=rate,
        seconds=seconds,
        warm_up=_WARM_UP,
        timeout=timeout,
        heads=(messages.head(experiment),),
        tails=tuple(messages.contexts()) if segmented else (),
        prefix=f"new-{run}-",
        batch=batch,
        varying=varying,
    )
    try:
        Console().print(_table(experiment, asyncio.run(_send(new, returning, processes))))
    except LoadError as error:
        raise CommandError(f"no server answers: {error}") from None


async def _send(new: Load, returning: float, processes: int) -> Report:
    """Send the load, of which this share of the calls comes from users who have been here before."""
    if not returning:
        return await send(new, processes)
    known = f"known-{new.prefix}"
    await send(
        replace(
            new,
            path=messages.ALLOCATE_USER,
            prefix=known,
            batch=0,
            calls=_POOL,
            concurrency=_PRIMING,
            rate=None,
            seconds=60.0,
            warm_up=0.0,
        )
    )
    return await send(replace(new, returning=returning, pool=_POOL, known_prefix=known), processes)


def _create(experiment_id: str, segmented: bool, address: str | None, data_dir: Path | None) -> None:
    mode = experiment_pb2.SEGMENTATION_MODE_MANUAL if segmented else experiment_pb2.SEGMENTATION_MODE_DISABLED
    segment_by = ["source", "device"] if segmented else []
    experiment = experiment_pb2.Experiment(
        experiment_id=experiment_id,
        name=experiment_id,
        variants=[experiment_pb2.Variant(name=name) for name in ("Control", "Variant A", "Variant B")],
        segmentation=experiment_pb2.SegmentationConfig(mode=mode, segment_by=segment_by),
    )
    with open_service(ExperimentServiceStub, address, data_dir) as service:
        service.CreateExperiment(admin.CreateExperimentRequest(experiment=experiment))
        service.StartExperiment(admin.StartExperimentRequest(experiment_id=experiment_id))


def _table(experiment_id: str, report: Report) -> Table:
    quantiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    statuses = ", ".join(f"{_CODES.get(code, code)} {count:,}" for code, count in report.statuses.items())
    table = Table.grid(padding=(0, 2))
    table.add_row("experiment", experiment_id)
    table.add_row("calls", f"{report.calls:,} in {report.seconds:.1f} s: {report.rate:,.0f} a second")
    table.add_row("statuses", statuses)
    for name, q in quantiles.items():
        table.add_row(name, f"{report.all_times.quantile(q) * 1e3:.2f} ms")
    table.add_row("connections", f"{report.connections} opened, {report.refused:,} streams refused and sent again")
    return table


if __name__ == "__main__":
    try:
        typer.run(load)
    except CommandError as error:
        typer.echo(f"load: {error}", err=True)
        sys.exit(1)
