"""The process that trains ends when its caller is cancelled."""

import asyncio
import json

import psutil

from server.worker.training.process import train_in_process
from tests.support.waiting import PATIENCE_SECONDS


async def test_it_is_gone_however_often_it_is_cancelled() -> None:
    learning = asyncio.Event()

    async def progress(_stage: str, _share: float) -> None:
        learning.set()

    contexts = [json.dumps({"plan": f"p{n % 50}", "city": f"c{n % 97}"}) for n in range(20_000)]
    training = asyncio.create_task(
        train_in_process(contexts, max_clusters=20, previous=None, next_number=1, progress=progress)
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        await learning.wait()
    (process,) = (each for each in psutil.Process().children() if "server.worker.training.process" in each.cmdline())
    for _ in range(3):
        training.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({training})
    assert training.cancelled()
    assert not process.is_running()
