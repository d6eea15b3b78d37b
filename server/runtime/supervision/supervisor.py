"""`samplit serve`: starts the engines, the server processes and the worker, keeps them alive, and stops them."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog

from server import metric_files
from server.clock import system_clock
from server.runtime.bootstrap import prepare_stores
from server.runtime.certificates import Trust, check_certificate
from server.runtime.supervision import ports, scrape
from server.runtime.supervision.disk_guard import DiskGuard
from server.runtime.supervision.endpoints import Endpoints, connectable, join_host, write_endpoints
from server.runtime.supervision.process_keeper import Keeper, insist
from server.runtime.supervision.standby import Standby
from server.settings import Settings
from server.tasks import end
from storage.engines.directory import DataDirectory
from storage.engines.embedded import ENGINES, EmbeddedEngines
from storage.engines.errors import EngineFailedError
from storage.redis.salvage import remaining_events

log = structlog.get_logger()
_END_SECONDS = 10.0  # for what a process does besides its calls
_MOST_AGE = 1.2  # of connections: gRPC varies it by a tenth
_COMPILE = "from allocator.kernels import warm_up; warm_up()"


class Supervisor:
    """The processes of one installation, while `run` runs."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        """`report` is called with one short line for each step."""
        self._settings = settings
        self._report = report
        self._stopping = asyncio.Event()
        self._replacing = asyncio.Event()

    async def run(self, started: Callable[[Endpoints], None]) -> None:
        """Start everything, call `started`, and supervise until SIGTERM or SIGINT.

        SIGUSR2 replaces the children.

        Raises:
            CertificateError, EmbeddedError, PortInUseError, StoreUnavailableError, SecretsUnusableError,
                ChildFailedError: something did not start. Nothing is left running then.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR2, self._replacing.set)
        stopping = asyncio.create_task(self._stopping.wait())
        async with AsyncExitStack() as stack:
            start = asyncio.create_task(self._start(stack, started))
            await asyncio.wait({stopping, start}, return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                start.cancel()
                await asyncio.wait({start})
                return
            keepers = start.result()
            await asyncio.wait({stopping, *keepers}, return_when=asyncio.FIRST_COMPLETED)
            self._report("stopping")
            for keeper in keepers:
                if keeper.done():
                    keeper.result()

    async def _start(self, stack: AsyncExitStack, started: Callable[[Endpoints], None]) -> list[asyncio.Task[None]]:
        """Start everything, and return the tasks that keep it alive. `stack` learns how to stop it."""
        trust = check_certificate(self._settings)
        if trust is not None and not trust.is_trusted:
            self._report("set SAMPLIT_TLS_CA_FILE to the authority of the certificate: commands cannot verify it")
        directory = DataDirectory.open(self._settings.data_dir)
        stack.callback(directory.close)
        for name in await directory.stop_orphans():
            self._report(f"stopped {name}, left by an earlier server")
        endpoints, environment = self._reserve_ports(stack, trust)
        compiling = asyncio.create_task(_compile_kernels())
        stack.push_async_callback(end, compiling)
        keepers = await self._start_stores(stack, directory, environment)
        self._report("compiling kernels: some seconds the first time, then cached")
        await compiling
        self._report("starting the server and the worker")
        keepers += await self._start_children(stack, directory, environment)
        write_endpoints(self._settings.endpoints_file, endpoints)
        stack.callback(self._settings.endpoints_file.unlink, missing_ok=True)
        started(endpoints)
        return keepers

    def _reserve_ports(self, stack: AsyncExitStack, trust: Trust | None) -> tuple[Endpoints, dict[str, str]]:
        settings = self._settings
        reserved = []
        for port in (settings.port, settings.admin_port):
            reserved.append(ports.reserve(settings.host, port))
            stack.callback(reserved[-1].release)
        processes = scrape.Processes(settings.metrics_directory)
        metrics = stack.enter_context(scrape.serving(settings, processes))
        allocation, admin = (port.number for port in reserved)
        host = connectable(settings.host)
        endpoints = Endpoints(
            allocation=join_host(host, allocation),
            admin=join_host(host, admin),
            tls=trust is not None,
            tls_ca_file=str(trust.ca_file) if trust and trust.ca_file else None,
            tls_server_name=trust.server_name if trust else None,
            metrics=metrics,
        )
        environment = settings.environment() | {"SAMPLIT_PORT": str(allocation), "SAMPLIT_ADMIN_PORT": str(admin)}
        if metrics is not None:
            environment[metric_files.FOLDER_VARIABLE] = str(settings.metrics_directory.absolute())
        return endpoints, environment

    async def _start_stores(
        self, stack: AsyncExitStack, directory: DataDirectory, environment: dict[str, str]
    ) -> list[asyncio.Task[None]]:
        """Start the embedded engines unless others are configured, and prepare the stores."""
        tasks = []
        refuse_writes = None
        settings = self._settings
        if settings.postgres_dsn is None:
            engines = EmbeddedEngines(
                directory, self._report, appendfsync=settings.appendfsync, salvage=remaining_events
            )
            stack.push_async_callback(engines.stop)
            found = await engines.start()
            environment |= {"SAMPLIT_POSTGRES_DSN": found.postgres_dsn, "SAMPLIT_REDIS_URL": found.redis_url}
            settings = settings.with_stores(found.postgres_dsn, found.redis_url)
            tasks = [_kept(_keep_engine(engines, name), stack) for name in ENGINES]
            refuse_writes = engines.refuse_writes
        tasks.append(_kept(DiskGuard(directory, refuse_writes).run(), stack))
        await prepare_stores(settings, system_clock)
        return tasks

    async def _start_children(
        self, stack: AsyncExitStack, directory: DataDirectory, environment: dict[str, str]
    ) -> list[asyncio.Task[None]]:
        grace = self._settings.shutdown_grace + _END_SECONDS
        roles = {f"server-{n}": "server" for n in range(self._settings.processes)} | {"worker": "worker"}
        standby = Standby(environment)
        keepers = [Keeper(name, role, environment, directory, standby) for name, role in roles.items()]
        for keeper in reversed(keepers):
            stack.push_async_callback(keeper.stop, grace)
        starts = [asyncio.create_task(keeper.start()) for keeper in keepers]
        stack.push_async_callback(end, *starts)
        await asyncio.gather(*starts)
        tasks = [_kept(keeper.keep(), stack) for keeper in keepers]
        return [*tasks, _kept(self._replace(keepers, standby, grace), stack), _kept(standby.run(), stack)]

    async def _replace(self, keepers: Sequence[Keeper], standby: Standby, grace: float) -> None:
        """Replace the processes one after the other, whenever SIGUSR2 asks for it."""
        while True:
            await self._replacing.wait()
            self._replacing.clear()
            self._report("replacing the server and the worker")
            standby.discard()
            for keeper in keepers:
                await keeper.replace(_MOST_AGE * self._settings.connection_age + grace, grace)
            self._report("replaced")


async def _keep_engine(engines: EmbeddedEngines, name: str) -> None:
    loop = asyncio.get_running_loop()
    while True:
        started_at = loop.time()
        await engines.wait(name)
        log.error("engine died: starting it again", engine=name)
        await insist(name, partial(engines.restart, name), EngineFailedError, lived=loop.time() - started_at)


def _kept(keep: Coroutine[None, None, None], stack: AsyncExitStack) -> asyncio.Task[None]:
    """Run a keeper until the stack unwinds. A keeper ends before its process, which it would start again otherwise."""
    task = asyncio.create_task(keep)
    stack.push_async_callback(end, task)
    return task


async def _compile_kernels() -> None:
    """Compile the kernels into the on-disk cache, once for all processes."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _COMPILE, env=os.environ)
    try:
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
