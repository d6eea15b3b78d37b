"""Every metric that Prometheus may scrape. docs/reference/metrics.md says what each one measures.

In a child of the supervisor the values live in a file of the process (PROMETHEUS_MULTIPROC_DIR), where an observation
takes 2 µs. Looking up the child of a labelled metric takes half as much again, so it is done once.
"""

import asyncio
import time
from collections.abc import Callable
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from server.metric_files import use_allocated_files

use_allocated_files()

_INTERVAL_SECONDS = 1.0
_CALL_BUCKETS = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_REDIS_BUCKETS = (0.000_1, *_CALL_BUCKETS[:-2])
_LAG_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_calls = Histogram("samplit_call_seconds", "Calls of our services", ["method", "code"], buckets=_CALL_BUCKETS)
_redis_calls = Histogram(
    "samplit_redis_call_seconds", "Function calls that Redis answered", ["function"], buckets=_REDIS_BUCKETS
)
_redis_items = Histogram("samplit_redis_batch_items", "Items of these calls", ["function"], buckets=_ITEM_BUCKETS)
_event_loop_lag = Histogram("samplit_event_loop_lag_seconds", "Lateness of a timer", buckets=_LAG_BUCKETS)

degraded = Counter("samplit_degraded", "Users answered while Redis was away")
bot_requests = Counter("samplit_bot_requests", "Requests of bots, answered with control")
unreadable_models = Counter("samplit_unreadable_models", "Cluster models that could not be read, at each attempt")
returning_users = Counter("samplit_returning_users", "Users answered from memory")

drained_events = Counter("samplit_drained_events", "Events moved from the streams into PostgreSQL")
dead_letters = Counter("samplit_dead_letters", "Events that could not be counted, and were set aside")
stream_events = Gauge(
    "samplit_stream_events", "Events that are not drained", ["shard"], multiprocess_mode="livemostrecent"
)
drain_lag = Gauge(
    "samplit_drain_lag_seconds", "Age of the oldest of them", ["shard"], multiprocess_mode="livemostrecent"
)


class CallTimes:
    """Observes the calls of one RPC method."""

    def __init__(self, method: str) -> None:
        """`method` is the short name, such as "AllocateUser"."""
        self._method = method
        self._observers: dict[str, Callable[[float], None]] = {}

    def observe(self, code: str, seconds: float) -> None:
        """Observe a call that took so many seconds and ended with a status code, such as "OK"."""
        observer = self._observers.get(code)
        if observer is None:
            observer = self._observers[code] = _calls.labels(self._method, code).observe
        observer(seconds)


class RedisCalls:
    """Observes the calls of one function of Redis."""

    def __init__(self, function: str) -> None:
        """`function` is its name in the function library."""
        self._observe_seconds = _redis_calls.labels(function).observe
        self._observe_items = _redis_items.labels(function).observe

    def observe(self, seconds: float, items: int) -> None:
        """Observe a call that was answered: how long it took, and for how many items it was."""
        self._observe_seconds(seconds)
        self._observe_items(items)


async def report_server_state(is_connected: Callable[[], bool], current_at: Callable[[], float]) -> None:
    """Report the state of a server process every second, until cancelled.

    is_connected: returns whether Redis answers. current_at: returns when the snapshots of experiments were last known
    to be current, in monotonic seconds.
    """
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(_INTERVAL_SECONDS)
        _event_loop_lag.observe(max(0.0, time.perf_counter() - begin - _INTERVAL_SECONDS))
        redis_connected, snapshot_age = _server_gauges()
        redis_connected.set(is_connected())
        snapshot_age.set(time.monotonic() - current_at())


@cache
def _server_gauges() -> tuple[Gauge, Gauge]:
    """Make the gauges of a server process. They are 0 when made, so a worker's would say that Redis is out of reach."""
    return (
        Gauge("samplit_redis_connected", "Whether function calls can be made", multiprocess_mode="livemin"),
        Gauge("samplit_snapshot_age_seconds", "Since Redis said what is current", multiprocess_mode="livemax"),
    )
