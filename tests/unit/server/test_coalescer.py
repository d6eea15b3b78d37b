"""Coalescing: few calls, each item answered once, failures passed to all items, and a lone item never waits."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from allocator.errors import OverloadedError
from server.allocation.coalescer import MOST_IN_CALL, MOST_WAITING, Coalescer


class Store:
    """Answers ten times the item when the test lets it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self._due: list[Callable[[], None]] = []

    def __call__(self, items: Sequence[int], done: Callable[[Sequence[int] | Exception], None]) -> None:
        self.calls.append(list(items))
        answer = ConnectionError("away") if 0 in items else [item * 10 for item in items]
        self._due.append(lambda: done(answer))

    def answer(self) -> None:
        due, self._due = self._due, []
        for each in due:
            each()


def ask(coalescer: Coalescer[int, int], item: int) -> "asyncio.Future[int]":
    (future,) = coalescer.submit_all((item,))
    return future


async def settled(store: Store, *futures: "asyncio.Future[int]") -> list[int | BaseException]:
    async with asyncio.timeout(60):
        while not all(future.done() for future in futures):
            store.answer()
            await asyncio.sleep(0)
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_a_lone_item_goes_at_once() -> None:
    store = Store()
    coalescer = Coalescer(store)
    answer = ask(coalescer, 1)
    assert store.calls == [[1]]
    assert await settled(store, answer) == [10]


async def test_the_answer_of_a_lone_item_may_be_there_already() -> None:
    store = Store()
    coalescer = Coalescer(store, store.answer)
    assert ask(coalescer, 1).result() == 10
    assert ask(coalescer, 2).result() == 20


async def test_what_arrives_during_a_call_goes_with_the_next() -> None:
    store = Store()
    coalescer = Coalescer(store)
    answers = [ask(coalescer, item) for item in range(1, MOST_IN_CALL + 6)]
    assert store.calls == [[1]]
    assert await settled(store, *answers) == [item * 10 for item in range(1, MOST_IN_CALL + 6)]
    assert [len(call) for call in store.calls] == [1, MOST_IN_CALL, 4]


async def test_items_that_come_crowded_wait_for_each_other() -> None:
    store = Store()
    coalescer = Coalescer(store)
    await settled(store, *(ask(coalescer, item) for item in range(1, 21)))
    assert store.calls == [[1], [*range(2, 21)]]
    answers = []
    for item in range(21, 25):
        answers.append(ask(coalescer, item))
        await asyncio.sleep(0)
    await settled(store, *answers)
    assert store.calls[2:] == [[21, 22, 23, 24]]


async def test_a_chance_meeting_is_no_crowd() -> None:
    store = Store()
    coalescer = Coalescer(store)
    await settled(store, *(ask(coalescer, item) for item in range(1, 4)))
    answer = ask(coalescer, 4)
    assert store.calls == [[1], [2, 3], [4]]
    await settled(store, answer)


async def test_lone_items_probe_now_and_then_whether_others_come() -> None:
    store = Store()
    coalescer = Coalescer(store)
    waited = []
    for item in range(1, 70):
        answer = ask(coalescer, item)
        waited.append(len(store.calls) < item)
        await settled(store, answer)
    assert [item for item, did in enumerate(waited) if did] == [8, 25, 58]


async def test_a_failure_is_told_to_the_batch_and_the_next_goes_on() -> None:
    store = Store()
    coalescer = Coalescer(store)
    first = ask(coalescer, 1)
    failing = [ask(coalescer, item) for item in (0, 2)]
    answers = await settled(store, first, *failing)
    assert answers[0] == 10
    assert all(isinstance(answer, ConnectionError) for answer in answers[1:])
    assert await settled(store, ask(coalescer, 3)) == [30]


async def test_nobody_asks_for_a_caller_who_left() -> None:
    store = Store()
    coalescer = Coalescer(store)
    first, gone, stays = (ask(coalescer, item) for item in (1, 2, 3))
    gone.cancel()
    assert await settled(store, first, stays) == [10, 30]
    assert store.calls == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_too_many_are_refused_at_once() -> None:
    store = Store()
    coalescer = Coalescer(store)
    answers = [ask(coalescer, 1) for _ in range(MOST_WAITING + 1)]  # the first item is under way
    with pytest.raises(OverloadedError):
        ask(coalescer, 1)
    assert len(await settled(store, *answers)) == MOST_WAITING + 1


async def test_what_belongs_together_is_taken_whole_or_not_at_all() -> None:
    store = Store()
    coalescer = Coalescer(store)
    together = coalescer.submit_all(range(1, 2 * MOST_WAITING + 1))
    with pytest.raises(OverloadedError):
        coalescer.submit_all([1, 2])
    assert (await settled(store, *together))[-1] == 20 * MOST_WAITING
    assert sum(len(call) for call in store.calls) == 2 * MOST_WAITING


async def test_those_who_stay_are_answered_whoever_leaves() -> None:
    store = Store()
    coalescer = Coalescer(store)
    first = ask(coalescer, 1)
    leaving = [ask(coalescer, 2) for _ in range(MOST_IN_CALL)]
    stays = ask(coalescer, 3)
    for each in leaving:
        each.cancel()
    assert await settled(store, first, stays) == [10, 30]


async def test_callbacks_are_called_in_order_and_one_that_fails_stops_no_other() -> None:
    store = Store()
    coalescer: Coalescer[int, int] = Coalescer(store)
    answers: list[int | Exception] = []

    def failing(_: int | Exception) -> None:
        raise RuntimeError("broken")

    coalescer.submit(1, answers.append)
    coalescer.submit(2, failing)
    dropped = coalescer.submit(3, answers.append)
    coalescer.submit(4, answers.append)
    dropped.cancel()
    store.answer()
    store.answer()
    assert store.calls == [[1], [2, 4]]
    assert answers == [10, 40]


async def test_a_callback_that_asks_again_makes_no_second_call_at_once() -> None:
    store = Store()
    coalescer: Coalescer[int, int] = Coalescer(store)
    answers: list[int | Exception] = []
    coalescer.submit(1, lambda _: coalescer.submit(2, answers.append))
    coalescer.submit(3, answers.append)
    store.answer()
    assert store.calls == [[1], [3, 2]]
    store.answer()
    assert answers == [30, 20]
