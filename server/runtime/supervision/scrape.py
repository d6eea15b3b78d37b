"""The HTTP endpoint that Prometheus scrapes: for one process, or for all processes of an installation."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from server.runtime.supervision.ports import PortInUseError
from server.settings import Settings


class Processes(Collector):
    """Sums the metrics of all processes that write into a folder. Gauges of processes that have ended do not count."""

    def __init__(self, folder: Path) -> None:
        """Empty the folder, or make it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Read the files of all processes."""
        for path in self._folder.glob("gauge_live*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not psutil.pid_exists(pid):
                with suppress(FileNotFoundError):  # another scrape did it
                    mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        metrics: Iterable[Metric] = MultiProcessCollector(None, str(self._folder)).collect()  # type: ignore[no-untyped-call]
        return metrics


@contextmanager
def serving(settings: Settings, collector: Collector) -> Iterator[str | None]:
    """Answer scrapes in a thread, and yield host:port; yield None if the endpoint is off. Raises PortInUseError."""
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise PortInUseError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
