"""Background tasks: they run together until cancelled, and are cancelled for certain."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger()
_CANCEL_AGAIN_SECONDS = 1.0


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until this is cancelled or one of them ends. Then end all, and raise what that one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(*tasks)
    for task in done:
        task.result()


async def repeat(step: Callable[[], Awaitable[None]], seconds: float, activity: str) -> None:
    """Run a step again and again until cancelled, with so many seconds between two runs.

    A step that fails is logged, and tried again after the same time. activity: what the step does, for the log.
    """
    while True:
        try:
            await step()
        except Exception as error:
            log.warning(f"{activity} failed, trying again in {seconds:g} s", error=repr(error))
        await asyncio.sleep(seconds)


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks, and wait until they have ended.

    They are cancelled again every second, since a library may swallow a cancellation while it connects or times out.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):  # of the caller, who must not leave before the tasks
            _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_SECONDS)
