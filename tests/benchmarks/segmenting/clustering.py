"""Training clusters on a million assignments: time against scikit-learn alone, memory, calls meanwhile."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import asyncpg
import numpy as np
import psutil
import uvloop

from server.runtime.supervision.endpoints import Endpoints, read_endpoints
from storage.engines.embedded import find_running
from storage.postgres.pool import SCHEMA
from tests.benchmarks.load.generator import open_loop
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import running
from tests.benchmarks.testbed.testbed import Testbed, checked, closed, interval, new_users, testbed
from tests.faults.installation import Installation

_MILLION, _FIVE = 1_000_000, 5_000_000
_ROUNDS, _SECONDS, _RATE, _CROWD = 9, 4.0, 150.0, 32
_SERVING_ROUNDS = 15
_TIME_GOAL, _FLAT_GOAL, _LATENCY_GOAL, _SERVING_GOAL = 2.0, 1.1, 1.2, 1.1
# Users of four audiences, in the tables that the drain writes. A dimension sometimes has another audience's value.
_FILL = """
    WITH users AS (
        SELECT decode(md5($1::text || n), 'hex') AS user_key, n % 4 AS audience,
            ('x' || md5(n::text))::bit(31)::bigint AS dice, n
        FROM generate_series($2::bigint, $3::bigint) n
    ), contexts AS (
        SELECT user_key, jsonb_build_object(
            'channel', 'web',
            'source', (ARRAY['instagram', 'google', 'newsletter', 'tiktok'])[1 + (audience + (dice % 10 = 0)::int) % 4],
            'device', (ARRAY['mobile', 'desktop'])[1 + (audience + (dice / 10 % 10 = 0)::int) % 2],
            'country', (ARRAY['BR', 'DE', 'US', 'IN'])[1 + (audience + (dice / 100 % 10 = 0)::int) % 4],
            'language', (ARRAY['pt', 'de', 'en', 'hi'])[1 + (audience + (dice / 1000 % 10 = 0)::int) % 4],
            'hour', ((audience * 6 + dice / 10000 % 5) % 24)::text,
            'day_of_week', (ARRAY['monday', 'tuesday', 'friday', 'saturday'])[1 + (audience + dice / 50000 % 2) % 4],
            'is_weekend', (audience = 3)::text,
            'returning', (dice / 100000 % 3 = 0)::text,
            'plan', (ARRAY['free', 'pro', 'team', 'trial'])[1 + (audience + (dice / 300000 % 10 = 0)::int) % 4]
        ) AS context FROM users
    )
    INSERT INTO assignments (experiment_no, user_key, variant_no, segmentation_version, segment_no, reason,
        allocation_group, posterior_version, revision, propensity, marginal_propensity, q_segment, q_global, context,
        assigned_at, day, seen_on, counted_version, cells)
    SELECT experiment_no, user_key, 0, 1, 0, 'SAMPLED', 'ADAPTIVE', 0, 2, 0.4, 0.4, 0.4, 0.4, context,
        now(), current_date, current_date, 1, '{"1": 0}'
    FROM contexts, experiments WHERE experiment_id = $1
"""
_COUNT = """
    INSERT INTO segment_counts AS s (experiment_no, segmentation_version, segment_no, variant_no, day, trials,
        successes, pending_version)
    SELECT experiment_no, 1, 0, 0, current_date, $2, 0, 0 FROM experiments WHERE experiment_id = $1
    ON CONFLICT (experiment_no, segmentation_version, segment_no, variant_no, day)
        DO UPDATE SET trials = s.trials + excluded.trials
"""
# scikit-learn alone, on a matrix of the same size that is ready in memory, with a given K or choosing the best K.
_ALONE = """
import sys, time
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import silhouette_score
rows, width, least, most = map(int, sys.argv[1:])
generator = np.random.default_rng(0)
points = generator.random((4, width))[generator.integers(4, size=rows)] + generator.normal(0, 0.3, (rows, width))
begin = time.perf_counter()
if least == most:
    MiniBatchKMeans(least, n_init=10, batch_size=4096, random_state=0).fit(points)
else:
    for clusters in range(least, most + 1):
        labels = KMeans(clusters, n_init=1, random_state=0).fit_predict(points)
        silhouette_score(points, labels, sample_size=3000, random_state=0)
print(time.perf_counter() - begin)
"""
_WIDTH = 36  # about as many as the encoder makes of these contexts


def rows() -> list[Row]:
    """Measure time and memory of a training, calls meanwhile, and the cost of serving by clusters."""
    with running() as (installation, _):
        endpoints = read_endpoints(installation.path / "server.json")
        assert endpoints is not None
        return uvloop.run(_measure(installation, endpoints))


async def _measure(installation: Installation, endpoints: Endpoints) -> list[Row]:
    stores = find_running(installation.path)
    assert stores is not None
    connection = await asyncpg.connect(stores.postgres_dsn, server_settings={"search_path": SCHEMA})
    async with testbed(installation, endpoints) as bed:
        await bed.start("crowd")
        await bed.start("off")
        await _fill(connection, 0, _MILLION)
        found = await _job(bed, installation)
        found += await _beside(bed)
        await _fill(connection, _MILLION, _FIVE)
        found += await _flat(bed, installation, found)
        await bed.start_clustered("auto")
        found += await _serving(bed)
    await connection.close()
    return found


async def _fill(connection: asyncpg.Connection, first: int, end: int) -> None:
    for begin in range(first, end, 250_000):
        await connection.execute(_FILL, "crowd", begin, begin + 249_999)
    await connection.execute(_COUNT, "crowd", end - first)
    await connection.execute("ANALYZE assignments")


async def _job(bed: Testbed, installation: Installation) -> list[Row]:
    """Measure a training on a million assignments, and scikit-learn in its own process."""
    ours, peak = await _train(bed, installation)
    with _peak(psutil.Process()) as alone:
        asked, given = await _alone(2, 8), await _alone(4, 4)
    what = "a training among 1,000,000 assignments"
    return [
        _row(f"{what}: time", "scikit-learn, K-means for K = 2 to 8, silhouettes", asked, ours, "s", _TIME_GOAL),
        _row(f"{what}: peak memory", "scikit-learn", alone[0], peak, "MiB", _TIME_GOAL),
        _row(f"{what}: time", "scikit-learn, mini-batches for the K that is given", given, ours, "s", None),
    ]


async def _alone(least: int, most: int) -> float:
    """Return the seconds that scikit-learn takes."""
    arguments = (sys.executable, "-c", _ALONE, str(_MILLION), str(_WIDTH), str(least), str(most))
    output = await asyncio.to_thread(subprocess.run, arguments, check=True, capture_output=True)
    return float(output.stdout)


async def _flat(bed: Testbed, installation: Installation, found: list[Row]) -> list[Row]:
    _, peak = await _train(bed, installation)
    before = float(found[1].ours.split()[0].replace(",", ""))
    return [_row("peak memory among 5,000,000", "among 1,000,000", before, peak, "MiB", _FLAT_GOAL)]


async def _train(bed: Testbed, installation: Installation) -> tuple[float, float]:
    """Train. Return the seconds, and by how many MiB the worker and its training process grew at most."""
    begin = time.perf_counter()
    with _peak(installation.recorded("worker")) as peak:
        await bed.train("crowd")
    return time.perf_counter() - begin, peak[0]


@contextmanager
def _peak(process: psutil.Process) -> Iterator[list[float]]:
    """Return by how many MiB a process and its children grow at most."""
    most, over = [0.0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.02):
            total = -before
            with suppress(psutil.NoSuchProcess):
                total += sum(each.memory_info().rss for each in [process, *process.children()])
            most[0] = max(most[0], total / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


async def _beside(bed: Testbed) -> list[Row]:
    """Measure calls at a low rate, in turn with and without a training."""
    quiet, training = [], []
    for _ in range(_ROUNDS):
        quiet.append(await _p99(bed))
        job = asyncio.create_task(bed.train("crowd"))
        await asyncio.sleep(1.0)
        training.append(await _p99(bed))
        await job
        await bed.drained()
    ratio, low, high = interval(np.array(training) / np.array(quiet))
    return [
        Row(
            figure=f"AllocateUser at {_RATE:g} calls a second during trainings: p99",
            reference=f"between them: {np.median(quiet) * 1e3:.2f} ms",
            ours=f"{np.median(training) * 1e3:.2f} ms",
            ratio=ratio,
            spread=f"{low:.2f}–{high:.2f} of {_ROUNDS} rounds",
            goal=f"≤ {_LATENCY_GOAL}",
            holds=ratio <= _LATENCY_GOAL,
        )
    ]


async def _p99(bed: Testbed) -> float:
    async with bed.ours.connected(4) as connections:
        outcome = await open_loop(connections, new_users("off"), rate=_RATE, seconds=_SECONDS)
    return checked(outcome).quantile(0.99)


async def _serving(bed: Testbed) -> list[Row]:
    """Measure what finding the nearest centroid adds to a call."""
    microseconds = []
    for number in range(1 + _SERVING_ROUNDS):
        with bed.quiet():
            off, auto = [
                1e6 / (await closed(bed.ours, new_users(name, context=True), concurrency=_CROWD, seconds=1.5)).rate
                for name in ("off", "auto")
            ]
        await bed.drained()
        if number:
            microseconds.append((off, auto))
    off, auto = np.array(microseconds).T
    ratio, low, high = interval(auto / off)
    return [
        Row(
            figure=f"mode AUTO, {_CROWD} calls under way: time of a call",
            reference=f"unsegmented, same contexts: {np.median(off):.0f} µs",
            ours=f"{np.median(auto):.0f} µs",
            ratio=ratio,
            spread=f"{low:.2f}–{high:.2f} of {_SERVING_ROUNDS} rounds",
            goal=f"≤ {_SERVING_GOAL}",
            holds=ratio <= _SERVING_GOAL,
        )
    ]


def _row(figure: str, against: str, reference: float, ours: float, unit: str, goal: float | None) -> Row:
    return Row(
        figure=figure,
        reference=f"{against}: {reference:,.1f} {unit}",
        ours=f"{ours:,.1f} {unit}",
        ratio=ours / reference,
        spread="-",
        goal="-" if goal is None else f"≤ {goal}",
        holds=goal is None or ours <= goal * reference,
    )
