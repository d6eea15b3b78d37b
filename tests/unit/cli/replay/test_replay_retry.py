"""Patience: what is tried again, and for how long."""

import grpc
import pytest
from google.rpc import code_pb2, status_pb2

from server.cli.replay import retry
from server.cli.replay.errors import RefusedError


class CallError(grpc.RpcError, grpc.Call):
    """As a failed call raises it."""

    __abstractmethods__: frozenset[str] = frozenset()

    def __init__(self, code: grpc.StatusCode):
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def refused(code: int) -> RefusedError:
    return RefusedError(status_pb2.Status(code=code, message="no"))


class Failing:
    """Fails as told, then answers 7."""

    def __init__(self, *errors: Exception):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 7


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that only sleeping moves; the sleeps."""
    sleeps: list[float] = []
    monkeypatch.setattr(retry.time, "monotonic", lambda: sum(sleeps))
    monkeypatch.setattr(retry.time, "sleep", sleeps.append)
    return sleeps


def test_passing_failures_are_tried_again_with_doubling_delays(clock: list[float]):
    call = Failing(CallError(grpc.StatusCode.UNAVAILABLE), refused(code_pb2.RESOURCE_EXHAUSTED))
    assert retry.with_retries(call) == 7
    assert clock == [0.1, 0.2]


@pytest.mark.parametrize(
    "error", [CallError(grpc.StatusCode.INVALID_ARGUMENT), refused(code_pb2.NOT_FOUND), ValueError()]
)
def test_lasting_failures_are_raised_at_once(error: Exception):
    call = Failing(error)
    with pytest.raises(type(error)):
        retry.with_retries(call)
    assert call.calls == 1


def test_it_gives_up_after_its_time(clock: list[float]):
    call = Failing(*(CallError(grpc.StatusCode.UNAVAILABLE) for _ in range(1000)))
    with pytest.raises(CallError):
        retry.with_retries(call, give_up_after=60)
    assert 57 < sum(clock) <= 60
    assert max(clock) == 2.0
