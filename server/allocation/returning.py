"""Returning users, remembered in memory, so that their calls need no round trip."""

from storage.records import Found

_MOST = 65_536


class ReturningUsers:
    """What was found of the users who called last, good for the day on which it was found.

    The first call of a day goes to Redis, which counts visitors. A record never changes, while its shard's epoch lasts.
    """

    def __init__(self) -> None:
        """Nobody is known."""
        self._found: dict[tuple[int, bytes], Found] = {}

    def get(self, experiment: int, user_key: bytes, day: int) -> Found | None:
        """The record of a user who has been seen on this day, or later."""
        found = self._found.get((experiment, user_key))
        return found if found is not None and found.day >= day else None

    def put(self, experiment: int, user_key: bytes, found: Found) -> None:
        """Remember a record; the one that was put first is forgotten for it."""
        if len(self._found) >= _MOST:
            del self._found[next(iter(self._found))]
        self._found[experiment, user_key] = found

    def clear(self) -> None:
        """Forget everybody."""
        self._found.clear()
