"""Background tasks end even if they swallow cancellations."""

import asyncio

import pytest

from server import tasks


async def stubborn(swallowed: list[int], most: int) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.append(1)
            if len(swallowed) > most:
                raise


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_CANCEL_AGAIN_SECONDS", 0.01)


async def test_a_swallowed_cancellation_is_repeated() -> None:
    swallowed: list[int] = []
    task = asyncio.create_task(tasks.run_together(stubborn(swallowed, 3), stubborn([], 0)))
    await asyncio.sleep(0.01)
    await tasks.end(task)
    assert task.cancelled()
    assert len(swallowed) == 4


async def test_what_one_raises_ends_the_others() -> None:
    swallowed: list[int] = []

    async def failing() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await tasks.run_together(failing(), stubborn(swallowed, 0))
    assert swallowed == [1]
