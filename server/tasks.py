"""Background tasks: run together until cancelled, and end for certain."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger()
_PATIENCE_SECONDS = 1.0


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run until cancelled, or until one of them ends; then end all, and raise what the first one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(*tasks)
    for task in done:
        task.result()


async def keep_on(step: Callable[[], Awaitable[None]], seconds: float, what: str) -> None:
    """Take a step every so many seconds, until cancelled; what fails is logged as `what` interrupted."""
    while True:
        try:
            await step()
        except Exception as error:
            log.warning(f"{what} interrupted", error=repr(error))
        await asyncio.sleep(seconds)


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel, again and again: a library that is just then connecting or timing out may swallow a cancellation."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        with suppress(asyncio.CancelledError):  # of whoever ends the tasks: they end first
            _, pending = await asyncio.wait(pending, timeout=_PATIENCE_SECONDS)
