"""A real installation: `samplit serve` in a process of its own, with everything that it starts."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import psutil
from prometheus_client.parser import text_string_to_metric_families
from samplit.admin.v1.clustering_service_pb2_grpc import ClusteringServiceStub
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.admin.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.runtime.supervision.endpoints import Endpoints, read_endpoints
from tests.support.waiting import PATIENCE_SECONDS

SAMPLIT = [sys.executable, "-m", "server.cli"]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without SAMPLIT_ variables, with metrics on a free port."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLIT_")}
    return own | {"SAMPLIT_METRICS_PORT": "0"} | variables


def cli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command of the CLI to its end."""
    return subprocess.run(
        [*SAMPLIT, *arguments], capture_output=True, text=True, timeout=60, env=environment(**variables), check=False
    )


class Installation:
    """A data directory, and the server that a test starts and stops on it."""

    endpoints: Endpoints

    def __init__(self, path: Path, *options: str, output: Path | None = None, **variables: str) -> None:
        self.path = path
        self._options = options
        self._variables = variables
        self.process: asyncio.subprocess.Process | None = None
        self._output = output or path.with_name(f"{path.name}.out")  # a pipe that nobody reads would block the server

    async def start(self, *, port: int = 0, admin_port: int = 0) -> Endpoints:
        """Start the server, and wait until it says that it serves. Return its endpoints."""
        with self._output.open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                *SAMPLIT,
                "serve",
                *("--data-dir", str(self.path), "--port", str(port), "--admin-port", str(admin_port), *self._options),
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment(**self._variables),
            )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "Stop with Ctrl-C" not in self.output:
                assert self.process.returncode is None, f"the server ended: {self.output}"
                await asyncio.sleep(0.05)
        endpoints = read_endpoints(self.path / "server.json")
        assert endpoints is not None
        self.endpoints = endpoints
        return endpoints

    async def stop(self) -> int:
        """Stop the server as an operator would. Return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    def replace(self) -> None:
        """Have the supervisor replace every process, as in a rolling restart."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2)

    async def kill_everything(self) -> None:
        """Kill the supervisor, its children and both engines at once, with SIGKILL."""
        assert self.process is not None
        for victim in [psutil.Process(self.process.pid), *self.family()]:
            with suppress(psutil.NoSuchProcess):  # processes of PostgreSQL come and go
                victim.kill()
        await self.process.wait()

    def family(self) -> list[psutil.Process]:
        """Return every process that the supervisor started."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def recorded_pid(self, name: str) -> int:
        """The number of a process, which may have ended."""
        return int(json.loads((self.path / "processes.json").read_text())[name][0])

    def recorded(self, name: str) -> psutil.Process:
        """Return the process that is recorded as `name`: an engine, "worker", or "server-0"."""
        return psutil.Process(self.recorded_pid(name))

    @property
    def output(self) -> str:
        """Return what the server has printed since its last start."""
        return self._output.read_text()

    @property
    def key(self) -> str:
        return (self.path / "secrets" / "api.key").read_text()


class Client:
    """gRPC stubs of a running installation."""

    def __init__(self, endpoints: Endpoints, key: str) -> None:
        self._channels = [grpc.aio.insecure_channel(address) for address in (endpoints.allocation, endpoints.admin)]
        self.allocation: Any = AllocationServiceStub(self._channels[0])
        self.admin: Any = ExperimentServiceStub(self._channels[1])
        self.segmentation: Any = SegmentationServiceStub(self._channels[1])
        self.clustering: Any = ClusteringServiceStub(self._channels[1])
        self.metadata = [("authorization", f"Bearer {key}")]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


def scrape(endpoints: Endpoints) -> dict[tuple[str, ...], float]:
    """Return the metrics as Prometheus reads them, keyed by name and label values. Labels are in alphabetical order."""
    assert endpoints.metrics is not None
    with closing(HTTPConnection(endpoints.metrics, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        families = list(text_string_to_metric_families(response.read().decode()))
    return {
        (s.name, *(s.labels[label] for label in sorted(s.labels))): s.value
        for family in families
        for s in family.samples
    }


def first_call(output: str) -> str:
    """Return the grpcurl command that the server printed."""
    match = re.search(r"^  (\S*grpcurl .*|'.*/grpcurl' .*)$", output, re.MULTILINE)
    assert match, output
    return match[1]


def still_running(pids: list[int]) -> Iterator[int]:
    for pid in pids:
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            yield pid
