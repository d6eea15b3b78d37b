"""Rows a second that the drain stores and counts, against a bare COPY of the same rows into such a table."""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import numpy as np
from numpy.typing import NDArray

from allocator.experiment import ExperimentDraft, Group, Reason, SegmentationConfig, SegmentationMode, Variant
from storage.encryption import load_secrets
from storage.engines.directory import DataDirectory
from storage.engines.embedded import EmbeddedEngines
from storage.events import AssignmentEvent
from storage.postgres.events import drain
from storage.postgres.events.labels import Labeller
from storage.postgres.experiments import experiments
from storage.postgres.pool import SCHEMA, connect
from storage.postgres.schema import migrate
from tests.benchmarks.row import Row
from tests.benchmarks.testbed import bare_copy

Array = NDArray[np.float64]

_SEED = 11
_ROUNDS, _ROUND_ROWS = 11, 20_000
_BATCHES = 5_000, 1_000
_GOAL = 0.5
_FIRST_SECOND, _BATCH_SECONDS, _DAY_SECONDS = 1_770_000_000, 10, 86_400
_SOURCES = ("instagram", "google", "facebook", "newsletter", "direct", "bing", "tiktok", "partner")
_DEVICES = ("mobile", "desktop", "tablet")
_VARIANTS = 4
_FLOOD_USERS, _FLOOD_DIMENSIONS, _FLOOD_ROUNDS, _FLOOD_SECONDS = 5_000, 10, 5, 2.0


def rows() -> list[Row]:
    """Measure batches of two sizes, then of an experiment with a maturity, which has more to count, then a flood."""
    folder = Path(tempfile.mkdtemp(prefix="smp"))
    folder.chmod(0o711)
    try:
        return asyncio.run(_measure(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path) -> list[Row]:
    directory = DataDirectory.open(folder / "data")
    engines = EmbeddedEngines(directory, lambda _: None, appendfsync="everysec")
    dsn = (await engines.start()).postgres_dsn
    await migrate(dsn)
    ours = await connect(dsn)
    bare = await asyncpg.connect(dsn, server_settings={"search_path": SCHEMA, "jit": "off"})
    await bare_copy.create_table(bare)
    labeller = Labeller(load_secrets(folder / "secrets"))
    result = []
    generator = random.Random(_SEED)  # noqa: S311
    for maturity in (0, _DAY_SECONDS):
        for batch in _BATCHES:
            number = await _experiment(ours, f"{batch}-{maturity}", maturity)
            name = f"new assignments in batches of {batch:,}" + (", with a maturity" if maturity else "")
            result.append(_row(name, await _rounds(ours, bare, labeller, number, batch, generator)))
    result.append(await _flood(ours, labeller, await _experiment(ours, "flood", 0), generator))
    await ours.close()
    await bare.close()
    await engines.stop()
    directory.close()
    return result


async def _experiment(connection: asyncpg.Connection, name: str, maturity: int) -> int:
    draft = ExperimentDraft(
        experiment_id=name,
        name=name,
        variants=tuple(Variant(number, f"v{number}", "v", {}) for number in range(_VARIANTS)),
        control_variant_id="v0",
        segmentation=SegmentationConfig(SegmentationMode.MANUAL, ("source", "device")),
        time_zone="Europe/Berlin",
        maturity_seconds=maturity,
    )
    async with connection.transaction():
        return (await experiments.insert(connection, draft, datetime.now(UTC))).number


async def _rounds(
    ours: asyncpg.Connection,
    bare: asyncpg.Connection,
    labeller: Labeller,
    number: int,
    batch: int,
    generator: random.Random,
) -> Array:
    """Return the seconds of each round, ours and bare. Batches take turns, so that both tables grow alike."""
    seconds = np.zeros((1 + _ROUNDS, 2))
    for nth in range(len(seconds) * _ROUND_ROWS // batch):
        begin = _FIRST_SECOND + nth * _BATCH_SECONDS
        events = [_event(generator, number, begin) for _ in range(batch)]
        this_round = seconds[nth * batch // _ROUND_ROWS]
        this_round[0] += await _timed(drain.write(ours, events, labeller))
        rows = await bare_copy.read(bare, number, [event.user_key for event in events])
        this_round[1] += await _timed(bare_copy.copy(bare, rows))
    return seconds[1:]  # the first round warms up


async def _flood(connection: asyncpg.Connection, labeller: Labeller, number: int, generator: random.Random) -> Row:
    """Measure batches whose users have values of their own in every dimension: 50,000 values in each batch."""
    seconds = []
    for nth in range(_FLOOD_ROUNDS):
        begin = _FIRST_SECOND + nth * _BATCH_SECONDS
        events = [
            msgspec.structs.replace(
                _event(generator, number, begin),
                context={f"d{n}": generator.randbytes(6).hex() for n in range(_FLOOD_DIMENSIONS)},
            )
            for _ in range(_FLOOD_USERS)
        ]
        seconds.append(await _timed(drain.write(connection, events, labeller)))
    worst = max(seconds)
    return Row(
        figure=f"one batch with {_FLOOD_USERS * _FLOOD_DIMENSIONS:,} distinct values of {_FLOOD_DIMENSIONS} dimensions",
        reference=f"{_FLOOD_SECONDS:g} s",
        ours=f"{worst:.2f} s, the slowest",
        ratio=worst / _FLOOD_SECONDS,
        spread=f"[{min(seconds):.2f}, {worst:.2f}] s of {_FLOOD_ROUNDS} batches",
        goal=f"≤ {_FLOOD_SECONDS:g} s",
        holds=worst <= _FLOOD_SECONDS,
    )


def _row(figure: str, seconds: Array) -> Row:
    ratios = seconds[:, 1] / seconds[:, 0]
    ratio = float(np.median(ratios))
    ours, bare = _ROUND_ROWS / np.median(seconds, axis=0)
    return Row(
        figure=figure,
        reference=f"bare COPY: {bare:,.0f} rows/s",
        ours=f"{ours:,.0f} rows/s",
        ratio=ratio,
        spread=f"[{ratios.min():.2f}, {ratios.max():.2f}] of {_ROUNDS} rounds",
        goal=f"≥ {_GOAL}",
        holds=ratio >= _GOAL,
    )


async def _timed(work: Awaitable[object]) -> float:
    begin = time.perf_counter()
    await work
    return time.perf_counter() - begin


def _event(generator: random.Random, number: int, second: int) -> AssignmentEvent:
    """Return the event of a new user in one of 24 segments; the first segments are the most frequent."""
    source = min(int(generator.paretovariate(1.0)), len(_SOURCES)) - 1
    device = generator.randrange(len(_DEVICES))
    context = {
        "source": _SOURCES[source],
        "medium": "social",
        "device": _DEVICES[device],
        "browser": "chrome",
        "os": "android",
        "country": "DE",
    }
    return AssignmentEvent(
        experiment=number,
        user_key=generator.randbytes(16),
        variant=generator.randrange(_VARIANTS),
        segmentation_version=1,
        segment=2 + source * len(_DEVICES) + device,
        segment_key=f"source:{_SOURCES[source]}|device:{_DEVICES[device]}",
        reason=Reason.SAMPLED,
        group=Group.ADAPTIVE,
        posterior_version=17,
        revision=2,
        propensity=generator.uniform(0.1, 0.9),
        marginal=generator.uniform(0.1, 0.9),
        q_segment=generator.uniform(0.1, 0.9),
        q_global=generator.uniform(0.1, 0.9),
        context=context,
        assigned_at=second + generator.randrange(_BATCH_SECONDS),
    )
