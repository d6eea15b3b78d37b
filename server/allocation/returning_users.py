"""Remembers returning users in memory, so that their calls need no round trip to Redis."""

from storage.records import Found

_MOST = 32_768  # users of a generation; some 200 bytes each


class ReturningUsers:
    """The records of the users who called last. Each is good for the day on which it was read.

    The first call of a day goes to Redis, which counts visitors. A record never changes while the epoch of its shard
    lasts. There are two generations. When the young one is full, it becomes the old one, and the old one is forgotten.
    A user of the old generation who calls again becomes young.
    """

    def __init__(self) -> None:
        self._young: dict[tuple[int, bytes], Found] = {}
        self._old: dict[tuple[int, bytes], Found] = {}

    def get(self, experiment: int, user_key: bytes, day: int) -> Found | None:
        """Return the record of a user, or None if the user was not seen on this day or later."""
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
        """Forget all users."""
        self._young, self._old = {}, {}
