"""Log messages of calls, which are throttled."""

import pytest

from server import logs


def test_one_event_of_a_kind_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    throttle = logs.LogThrottle()
    assert [throttle.admit("a") for _ in range(4)] == [1, 0, 0, 0]
    assert throttle.admit("b") == 1
    now = 1.0
    assert [throttle.admit("a"), throttle.admit("b"), throttle.admit("a")] == [4, 1, 0]
