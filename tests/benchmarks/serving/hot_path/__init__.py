"""The serving path against gRPC itself: no-ops on grpc.aio and on grpc-go, with the same messages, in the same run.

`PARTS=throughput,latency` measures these parts alone. `ROUNDS=15` measures so many rounds of each.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop

from server.runtime.supervision.endpoints import Endpoints, read_endpoints
from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path import batches, growth, latency, processes, security, throughput
from tests.benchmarks.serving.hot_path.bench import Bench
from tests.benchmarks.testbed import go_noop
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.testbed import Target, grpc_aio_noop, program, testbed
from tests.faults.installation import Installation

PARTS: Mapping[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "throughput": throughput.rows,
    "segmentation": throughput.segmentation_rows,
    "headers": throughput.header_rows,
    "latency": latency.rows,
    "open-loop": latency.open_loop_rows,
    "half-capacity": latency.half_capacity_rows,
    "batches": batches.rows,
    "refused": security.refused_rows,
    "tls": security.tls_rows,
    "processes": processes.rows,
    "growth": growth.rows,
}


def rows() -> list[Row]:
    """The serving rows of the design, on two cores: tests/benchmarks/testbed/testbed.py says who runs where."""
    chosen = [part.strip() for part in os.environ.get("PARTS", "").split(",") if part.strip()] or list(PARTS)
    unknown = set(chosen) - set(PARTS)
    if unknown:
        sys.exit(f"there is no part {', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    with running() as (installation, _):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        return uvloop.run(_measure(installation, endpoints, chosen))


async def _measure(installation: Installation, endpoints: Endpoints, chosen: list[str]) -> list[Row]:
    async with (
        testbed(installation, endpoints) as bed,
        grpc_aio_noop() as noop,
        _grpc_go_noop() as go,
    ):
        await bed.start("off")
        if {"segmentation", "open-loop"} & set(chosen):
            await bed.start("manual", "source", "device", min_samples_per_segment=0)
            await bed.start_clustered("auto")
        bench = Bench(bed, noop, go)
        found: list[Row] = []
        for part in chosen:
            await bed.redis.config_set("appendfsync", "everysec")
            found += await PARTS[part](bench)
        return found


@asynccontextmanager
async def _grpc_go_noop() -> AsyncIterator[Target | None]:
    """None, with a word on why, where it cannot be built."""
    async with AsyncExitStack() as stack:
        target = None
        try:
            built = go_noop.build()
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"no rows against grpc-go: {error}\n")
        else:
            if built is None:
                sys.stderr.write("no rows against grpc-go: Go is not installed\n")
            else:
                target = await stack.enter_async_context(program(str(built), GOMAXPROCS="1"))
        yield target
