"""`samplit serve`: starts the engines, the server processes and the worker, keeps them alive, and stops them.

Knows nothing of what they do.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

import structlog

from server.clock import system_clock
from server.endpoints import Endpoints, write_endpoints
from server.runtime import ports, scrape
from server.runtime.bootstrap import prepare_stores
from server.runtime.children import Child, ChildFailedError
from server.settings import Settings
from storage.embedded.directory import DataDirectory
from storage.embedded.engines import EmbeddedEngines

log = structlog.get_logger()
_RESTART_SECONDS = 1.0
_WORKER_SECONDS = 10.0
_COMPILE = "from allocator.kernels import warm_up; warm_up()"


class Supervisor:
    """One installation's processes, for as long as `run` runs."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        """`report` is told what is being done, a short line each."""
        self._settings = settings
        self._report = report
        self._stopping = asyncio.Event()
        self._directory: DataDirectory | None = None

    async def run(self, started: Callable[[Endpoints], None]) -> None:
        """Start everything, tell `started`, and supervise until SIGTERM or SIGINT.

        Raises:
            EmbeddedError, PortInUseError, StoreUnavailableError, SecretsUnusableError, ChildFailedError: it cannot
            start; nothing is left running.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
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
        """Start everything, leaving on `stack` how to stop it; answers the tasks that keep it alive."""
        self._directory = DataDirectory.open(self._settings.data_dir)
        stack.callback(self._directory.close)
        for name in await self._directory.stop_orphans():
            self._report(f"stopped {name}, left by an earlier server")
        endpoints, environment = self._reserve_ports(stack)
        compiling = asyncio.create_task(_compile_kernels())
        stack.push_async_callback(_cancel, compiling)
        keepers = await self._start_stores(stack, environment)
        self._report("compiling kernels: some seconds the first time, then cached")
        await compiling
        self._report("starting the server and the worker")
        keepers += await self._start_children(stack, environment)
        write_endpoints(self._settings.endpoints_file, endpoints)
        stack.callback(self._settings.endpoints_file.unlink, missing_ok=True)
        started(endpoints)
        return keepers

    def _reserve_ports(self, stack: AsyncExitStack) -> tuple[Endpoints, dict[str, str]]:
        settings = self._settings
        reserved = []
        for port in (settings.port, settings.admin_port):
            reserved.append(ports.reserve(settings.host, port))
            stack.callback(reserved[-1].release)
        processes = scrape.Processes(settings.metrics_directory)
        metrics = stack.enter_context(scrape.serving(settings, processes))
        certificate = settings.tls_certificate_file
        numbers = [str(port.number) for port in reserved]
        endpoints = Endpoints(
            allocation=f"{settings.host}:{numbers[0]}",
            admin=f"{settings.host}:{numbers[1]}",
            tls_certificate_file=str(certificate.resolve()) if certificate else None,
            metrics=metrics,
        )
        environment = settings.environment() | dict(zip(("SAMPLIT_PORT", "SAMPLIT_ADMIN_PORT"), numbers, strict=True))
        if metrics is not None:
            environment[scrape.FOLDER_VARIABLE] = str(settings.metrics_directory.absolute())
        return endpoints, environment

    async def _start_stores(self, stack: AsyncExitStack, environment: dict[str, str]) -> list[asyncio.Task[None]]:
        """Start the embedded engines unless others are configured, and prepare what they hold."""
        tasks = []
        settings = self._settings
        if settings.postgres_dsn is None and self._directory is not None:
            engines = EmbeddedEngines(self._directory, self._report, appendfsync=settings.appendfsync)
            stack.push_async_callback(engines.stop)
            found = await engines.start()
            environment |= {"SAMPLIT_POSTGRES_DSN": found.postgres_dsn, "SAMPLIT_REDIS_URL": found.redis_url}
            settings = settings.with_stores(found.postgres_dsn, found.redis_url)
            tasks.append(_kept(self._keep_engines(engines), stack))
        await prepare_stores(settings, system_clock)
        return tasks

    async def _start_children(self, stack: AsyncExitStack, environment: dict[str, str]) -> list[asyncio.Task[None]]:
        roles = {"worker": "worker"} | {f"server-{n}": "server" for n in range(self._settings.processes)}
        keepers = [_Keeper(name, role, environment, self._directory) for name, role in roles.items()]
        for keeper in keepers:
            grace = _WORKER_SECONDS + (self._settings.shutdown_grace if keeper.role == "server" else 0)
            stack.push_async_callback(keeper.stop, grace)
        await asyncio.gather(*(keeper.start() for keeper in keepers))
        return [_kept(keeper.keep(), stack) for keeper in keepers]

    async def _keep_engines(self, engines: EmbeddedEngines) -> None:
        while True:
            name = await engines.wait()
            log.error("engine died: starting it again", engine=name)
            await engines.restart(name)


class _Keeper:
    """Keeps one child alive."""

    def __init__(self, name: str, role: str, environment: dict[str, str], directory: DataDirectory | None) -> None:
        self.role = role
        self._name = name
        self._environment = environment
        self._directory = directory
        self._child: Child | None = None

    async def start(self) -> None:
        self._child = await Child.start(self.role, self._environment)
        if self._directory is not None:
            self._directory.record_process(self._name, self._child.pid)
        await self._child.ready()

    async def keep(self) -> None:
        while self._child is not None:
            code = await self._child.wait()
            log.error("process died: starting it again", process=self._name, exit_code=code)
            await asyncio.sleep(_RESTART_SECONDS)
            try:
                await self.start()
            except ChildFailedError as error:
                if error.final:
                    raise

    async def stop(self, seconds: float) -> None:
        if self._child is not None:
            await self._child.stop(seconds)
            if self._directory is not None:
                self._directory.forget_process(self._name)


def _kept(keep: Coroutine[None, None, None], stack: AsyncExitStack) -> asyncio.Task[None]:
    """Run it until the stack unwinds: before what it keeps is stopped, or it would come back."""
    task = asyncio.create_task(keep)
    stack.push_async_callback(_cancel, task)
    return task


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _compile_kernels() -> None:
    """Fill the on-disk cache of compiled kernels, once for all processes."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _COMPILE, env=os.environ)
    try:
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
