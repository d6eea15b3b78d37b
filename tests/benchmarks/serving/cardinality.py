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

from server.runtime.endpoints import read_endpoints
from storage.redis import keys, segment_registry
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.faults.installation import Client, Installation

_SEED = 17
_RANDOM, _BATCH = 100_000, 500
_REAL = ("instagram", "google", "facebook")
_REAL_SHARE = 0.1  # each, in the second half of the users; in the first half all sources are random
_MAX_SEGMENTS = 200
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
    await _pour(client)
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


async def _pour(client: Client) -> None:
    rng = np.random.default_rng(_SEED)
    poured = 0
    while poured < _RANDOM:
        chance = 0.0 if poured < _RANDOM / 2 else len(_REAL) * _REAL_SHARE
        sources = [str(rng.choice(_REAL)) if rng.random() < chance else rng.bytes(6).hex() for _ in range(_BATCH)]
        requests = [_request(f"flood-{poured}-{n}", source) for n, source in enumerate(sources)]
        await client.allocation.AllocateUsers(pb.AllocateUsersRequest(requests=requests), metadata=client.metadata)
        poured += sum(source not in _REAL for source in sources)


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
