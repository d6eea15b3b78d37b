"""Hands the change notices of Redis to their subscribers in this process."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

import structlog

from storage.redis import change_notices
from storage.redis.change_notices import ChangeNotice, Kind
from storage.redis.client import UNREACHABLE, Client

log = structlog.get_logger()
_RETRY_SECONDS = 1.0


class ChangeFeed:
    """Follows the change notices. A notice may be lost, so subscribers poll as well."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._subscribers: dict[Kind, list[Callable[[ChangeNotice], Awaitable[None]]]] = defaultdict(list)

    def subscribe(self, kind: Kind, subscriber: Callable[[ChangeNotice], Awaitable[None]]) -> None:
        """Call `subscriber` with each notice of a kind, in the order in which they arrive."""
        self._subscribers[kind].append(subscriber)

    async def run(self) -> None:
        """Follow the notices until cancelled, through outages of Redis."""
        while True:
            try:
                async for notice in change_notices.follow(self._redis):
                    await self._pass_on(notice)
            except Exception as error:
                log.warning("change notices interrupted", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _pass_on(self, notice: ChangeNotice) -> None:
        """Call the subscribers. One that fails, as for an experiment that cannot be read, keeps no notice from others.

        Raises one of `UNREACHABLE`.
        """
        for subscriber in self._subscribers[notice.kind]:
            try:
                await subscriber(notice)
            except UNREACHABLE:
                raise
            except Exception as error:
                log.warning("change not taken", kind=notice.kind, experiment=notice.experiment_id, error=repr(error))
