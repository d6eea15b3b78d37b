"""Returning users, remembered in memory, so that their calls need no round trip."""

from storage.records import Found

_MOST = 32_768  # users of a generation; some 200 bytes each


class ReturningUsers:
    """What was found of the users who called last, good for the day on which it was found.

    The first call of a day goes to Redis, which counts visitors. A record never changes, while its shard's epoch lasts.
    There are two generations: when the young one is full, the old one is forgotten; who is asked for becomes young.
    """

    def __init__(self) -> None:
        """Nobody is known."""
        self._young: dict[tuple[int, bytes], Found] = {}
        self._old: dict[tuple[int, bytes], Found] = {}

    def get(self, experiment: int, user_key: bytes, day: int) -> Found | None:
        """The record of a user who has been seen on this day, or later."""
        found = self._young.get((experiment, user_key))
        if found is None:
            found = self._old.get((experiment, user_key))
            if found is not None:
                self.put(experiment, user_key, found)
        return found if found is not None and found.day >= day else None

    def put(self, experiment: int, user_key: bytes, found: Found) -> None:
        """Remember a record."""
        if len(self._young) >= _MOST:
            self._young, self._old = {}, self._young
        self._young[experiment, user_key] = found

    def clear(self) -> None:
        """Forget everybody."""
        self._young, self._old = {}, {}
