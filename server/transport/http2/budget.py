"""Bounds what a peer may make us do without a call: control frames, resets, and frames that carry nothing."""

from collections.abc import Callable


class Budget:
    """A bucket of tokens that fills with time, and with the peer's useful work."""

    __slots__ = ("_clock", "_filled_at", "_most", "_per_second", "_tokens", "_work")

    def __init__(self, most: int, per_second: float, clock: Callable[[], float]) -> None:
        self._tokens = self._most = float(most)
        self._per_second = per_second
        self._clock = clock
        self._filled_at = clock()
        self._work = 0

    def spend(self, work: int = 0, cost: float = 1.0) -> bool:
        """Take tokens for one frame, and return whether there were enough.

        `work` counts what the peer did for it since the connection began: each unit is worth a token, once.
        """
        if self._tokens < cost:
            now = self._clock()
            earned = (now - self._filled_at) * self._per_second + work - self._work
            self._tokens = min(self._most, self._tokens + earned)
            self._filled_at = now
            self._work = work
        self._tokens -= cost
        return self._tokens >= 0
