"""The main function of a child process: a server or a worker, which runs until it is stopped or its parent is gone.

Run `python -m server.runtime.process server|worker|standby`. Settings come from the environment. The child writes
"ready" to stdout once it serves. The end of stdin tells it that the parent is gone. A standby imports everything, and
then waits for the line on stdin that names its role.
"""

import asyncio
import gc
import os
import signal
import sys

import structlog
import uvloop
from pydantic import ValidationError

from allocator.errors import SamplitError
from server.clock import system_clock
from server.logs import capture_native_lines, configure_logs
from server.runtime.supervision.children import STANDBY
from server.settings import Settings
from server.tasks import end
from storage.encryption import SecretsUnusableError

_GC_ALLOCATIONS = 20_000  # between collections of the youngest; calls leave hardly any cycles


async def run_server(settings: Settings, stop: asyncio.Event, leave: asyncio.Event) -> None:
    """Serve until `stop` is set. After `leave` is set, serve until the last connection has ended.

    Raises what ended a background task: a process that cannot follow changes must not go on.
    """
    from server.runtime.composition import Application

    application = await Application.start(settings, system_clock)
    gc.collect()
    gc.set_threshold(_GC_ALLOCATIONS, 20, 20)
    gc.freeze()  # what start-up made stays: looking through it again and again would stall calls for 100 ms and more
    _say_ready()
    stopped, told = (asyncio.create_task(event.wait()) for event in (stop, leave))
    background = application.background
    await asyncio.wait({stopped, told, background}, return_when=asyncio.FIRST_COMPLETED)
    if leave.is_set():
        left = asyncio.create_task(application.leave())
        await asyncio.wait({stopped, left, background}, return_when=asyncio.FIRST_COMPLETED)
        await end(left)
    failed = background.done()
    await application.stop(settings.shutdown_grace)
    if failed:
        background.result()


async def run_worker_until(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises what keeps the worker from starting."""
    from server.runtime.worker import run_worker

    ready = asyncio.Event()
    work = asyncio.create_task(run_worker(settings, system_clock, ready))
    stopped = asyncio.create_task(stop.wait())
    started = asyncio.create_task(ready.wait())
    await asyncio.wait({work, started}, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        _say_ready()
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopped, started):
        task.cancel()
    if work.done():
        work.result()
    await end(work)


async def _main(role: str) -> None:
    settings = Settings()
    stop, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    loop.add_signal_handler(signal.SIGUSR2, (leave if role == "server" else stop).set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    parent = asyncio.create_task(_when_left(reader, stop))
    try:
        await (run_server(settings, stop, leave) if role == "server" else run_worker_until(settings, stop))
    finally:
        parent.cancel()


async def _when_left(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    await reader.read()
    stop.set()


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _wait_for_role() -> str:
    """Prepare for either role, and return the one that is named on stdin; empty if the parent is gone."""
    from allocator.context import load_tables
    from allocator.kernels import warm_up
    from server.runtime.composition import Application  # noqa: F401 (imported for when it is needed)
    from server.runtime.worker import run_worker  # noqa: F401 (the same)

    warm_up()
    load_tables()
    line = b""
    while not line.endswith(b"\n"):  # byte by byte: what follows is read by others
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return ""
        line += byte
    return line.decode().strip()


def main(role: str) -> int:
    """Run until the end, and return the exit code. What an operator can put right is logged without a traceback."""
    configure_logs()
    if role == STANDBY:
        role = _wait_for_role()
        if not role:
            return 0
    if role == "server":
        capture_native_lines()
    try:
        uvloop.run(_main(role))
    except (SamplitError, SecretsUnusableError, ValidationError, OSError) as error:
        structlog.get_logger().error("the process cannot go on", process=role, problem=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
