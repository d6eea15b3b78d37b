"""Waiting for what happens in its own time. The machine may be busy, so a wait that fails is a long one."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.02


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition holds. Raises TimeoutError if it does not hold in time."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(_POLL_SECONDS)
