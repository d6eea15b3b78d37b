"""`python -m tests.benchmarks.load`: send load to a running server, and print what became of it."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import grpc
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub

from server.cli.client import Plane, Target, find_target, open_service
from server.cli.errors import CommandError
from server.cli.options import DataDirectory
from tests.benchmarks.load import messages
from tests.benchmarks.load.generator import Outcome, closed_loop, connected, open_loop
from tests.benchmarks.load.http2 import Connection

_POOL = 10_000  # returning users
_PRIMING = 64  # calls under way while they come for the first time
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
    returning: Annotated[float, typer.Option(min=0, max=1, help="share of calls by users who have a variant")] = 0.0,
    segmented: Annotated[bool, typer.Option("--segmented", help="with web contexts; by source and device")] = False,
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

    def user(kind: str) -> Callable[[int], bytes]:
        return messages.users(experiment, f"{kind}-{run}-", segmented=segmented)

    async def measure(lanes: list[Connection]) -> Outcome:
        message = new = user("new")
        if returning:
            known = user("known")
            await closed_loop(lanes, known, concurrency=_PRIMING, most=_POOL)
            message = messages.mix(new, messages.returning(known, _POOL), returning)
        if rate is not None:
            return await open_loop(lanes, message, rate=rate, seconds=seconds)
        return await closed_loop(lanes, message, concurrency=concurrency, seconds=seconds)

    async def run_load() -> Outcome:
        host, port, metadata = _reach(target)
        async with connected(host, port, messages.ALLOCATE_USER, metadata, connections) as lanes:
            return await measure(lanes)

    try:
        outcome = uvloop.run(run_load())
    except OSError as error:
        raise CommandError(f"no server answers at {target.address} ({error})") from None
    Console().print(_table(experiment, outcome))


def _reach(target: Target) -> tuple[str, int, tuple[tuple[str, str], ...]]:
    host, _, port = target.address.rpartition(":")
    return host.strip("[]"), int(port), (("authorization", f"Bearer {target.key}"),)


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


def _table(experiment_id: str, outcome: Outcome) -> Table:
    table = Table("calls", "calls a second", "p50", "p90", "p99", "max", "statuses", title=experiment_id)
    times = (f"{outcome.quantile(q) * 1e3:.2f} ms" for q in (0.5, 0.9, 0.99, 1.0))
    statuses = ", ".join(f"{_CODES.get(code, code)} {count:,}" for code, count in outcome.counts.items())
    table.add_row(f"{outcome.calls:,}", f"{outcome.rate:,.0f}", *times, statuses)
    return table


if __name__ == "__main__":
    try:
        typer.run(load)
    except CommandError as error:
        typer.echo(f"load: {error}", err=True)
        sys.exit(1)
