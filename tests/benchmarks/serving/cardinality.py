"""A hundred thousand random sources in one experiment: what happens to segments, memory and the hot path."""

import asyncio
import time
from typing import Any

import numpy as np
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from server.runtime.supervision.endpoints import read_endpoints
from storage.engines.embedded import find_running
from storage.postgres.pool import connect
from storage.redis import keys, segment_registry, streams
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.faults.installation import Client, Installation

_SEED = 17
_RANDOM, _BATCH = 100_000, 500
_REAL = ("instagram", "google", "facebook")
_REAL_SHARE = 0.1  # each, in the second half of the users; in the first half all sources are random
_MAX_SEGMENTS = 200
_MOST_DRAIN, _MOST_AGE, _PATIENCE_SECONDS = 30.0, 60.0, 300.0  # seconds
_PROBES = 2_000
_MOST_BYTES, _MOST_GROWTH, _MOST_SLOWER = (
    64 * 1024,
    64.0,
    1.15,
)  # bytes of the registry; growth of the server in MiB; ratio of the medians


def rows() -> list[Row]:
    """Measure one row for each promise."""
    with running() as (installation, runner):
        return runner.run(_measure(installation))


async def _measure(installation: Installation) -> list[Row]:
    endpoints = read_endpoints(installation.path / "server.json")
    assert endpoints is not None
    client = Client(endpoints, installation.key)
    redis = Redis.from_url(f"unix://{installation.path}/run/valkey.sock")
    await _start(client)
    server = installation.recorded("server-0")
    await _probe(client, "warm")
    quick, memory = await _probe(client, "before"), server.memory_info().rss
    poured = await _pour(client)
    drain_seconds, oldest_seconds = await _drain(redis)
    stored = await _stored(installation)
    await asyncio.sleep(15)  # the worker revises segments every ten seconds
    slow, after = await _probe(client, "after"), server.memory_info().rss
    registry = keys.segments(1, 1)
    registered = await segment_registry.load(redis, registry)
    size = int(await redis.memory_usage(registry) or 0)
    answered = {await _segment(client, f"real-{source}", source) for source in _REAL}
    await redis.aclose()
    await client.close()
    own = len(answered & {f"source:{source}" for source in _REAL})
    ratio = float(np.median(slow) / np.median(quick))
    return [
        _row("segments that are answered", f"{_MAX_SEGMENTS}", len(registered.active), _MAX_SEGMENTS, "≤"),
        _row("real sources with a segment of their own", f"{len(_REAL)}", own, len(_REAL), "="),
        _row("bytes of the registry in Valkey", f"{_MOST_BYTES:,}", size, _MOST_BYTES, "≤"),
        _row("users in PostgreSQL, of those who were answered", f"{poured:,}", stored, poured, "="),
        _row("seconds until all are stored", f"{_MOST_DRAIN:g}", drain_seconds, _MOST_DRAIN, "≤"),
        _row("age of the oldest event in seconds", f"{_MOST_AGE:g}", oldest_seconds, _MOST_AGE, "≤"),
        _row("MiB that the server grew by", f"{_MOST_GROWTH:g}", (after - memory) / 2**20, _MOST_GROWTH, "≤"),
        Row(
            figure="a call of a new user after the flood: median",
            reference=f"{np.median(quick) * 1e3:.2f} ms before",
            ours=f"{np.median(slow) * 1e3:.2f} ms",
            ratio=ratio,
            spread=f"{_PROBES:,} calls each",
            goal=f"≤ {_MOST_SLOWER}×",
            holds=ratio <= _MOST_SLOWER,
        ),
    ]


def _row(what: str, reference: str, ours: float, goal: float, relation: str) -> Row:
    return Row(
        figure=f"{_RANDOM:,} random sources: {what}",
        reference=reference,
        ours=f"{ours:,.0f}",
        ratio=ours / goal,
        spread="-",
        goal=f"{relation} {goal:,.0f}",
        holds=ours <= goal if relation == "≤" else ours == goal,
    )


async def _start(client: Client) -> None:
    variants = [experiment_pb2.Variant(name=name) for name in ("Control", "A")]
    segmentation = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"], max_segments=_MAX_SEGMENTS
    )
    message = experiment_pb2.Experiment(
        experiment_id="flood", name="Flood", variants=variants, segmentation=segmentation
    )
    await client.admin.CreateExperiment(admin.CreateExperimentRequest(experiment=message), metadata=client.metadata)
    await client.admin.StartExperiment(admin.StartExperimentRequest(experiment_id="flood"), metadata=client.metadata)


async def _pour(client: Client) -> int:
    """Return how many users were answered."""
    rng = np.random.default_rng(_SEED)
    poured = users = 0
    while poured < _RANDOM:
        chance = 0.0 if poured < _RANDOM / 2 else len(_REAL) * _REAL_SHARE
        sources = [str(rng.choice(_REAL)) if rng.random() < chance else rng.bytes(6).hex() for _ in range(_BATCH)]
        requests = [_request(f"flood-{poured}-{n}", source) for n, source in enumerate(sources)]
        await client.allocation.AllocateUsers(pb.AllocateUsersRequest(requests=requests), metadata=client.metadata)
        users += _BATCH
        poured += sum(source not in _REAL for source in sources)
    return users


async def _drain(redis: "Redis[Any]") -> tuple[float, float]:
    """Wait until every event is stored. Return the seconds that took, and the greatest age of an event meanwhile."""
    begin, oldest = time.perf_counter(), 0.0
    while time.perf_counter() - begin < _PATIENCE_SECONDS:
        backlog = await streams.backlog(redis, 0)
        if not backlog.events:
            break
        oldest = max(oldest, backlog.age)
        await asyncio.sleep(0.2)
    return time.perf_counter() - begin, oldest


async def _stored(installation: Installation) -> int:
    """Return how many users of the flood PostgreSQL has."""
    stores = find_running(installation.path)
    assert stores is not None
    connection = await connect(stores.postgres_dsn)
    try:
        return int(
            await connection.fetchval("SELECT count(*) FROM assignments WHERE context ->> 'source' <> 'newsletter'")
        )
    finally:
        await connection.close()


async def _probe(client: Client, name: str) -> list[float]:
    """Return the seconds of unary calls for new users, made one after the other."""
    seconds = []
    for number in range(_PROBES):
        begin = time.perf_counter()
        await client.allocation.AllocateUser(_request(f"{name}-{number}", "newsletter"), metadata=client.metadata)
        seconds.append(time.perf_counter() - begin)
    return seconds


async def _segment(client: Client, user: str, source: str) -> str:
    answer: Any = await client.allocation.AllocateUser(_request(user, source), metadata=client.metadata)
    return str(answer.segment_key)


def _request(user: str, source: str) -> pb.AllocateUserRequest:
    return pb.AllocateUserRequest(
        experiment_id="flood", user_identifier=user, web=context_pb2.WebContext(utm_source=source)
    )
