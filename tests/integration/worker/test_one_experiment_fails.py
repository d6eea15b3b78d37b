"""Whatever the data of one experiment are, everything goes on for the others, and people are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from importlib.resources import as_file, files
from pathlib import Path
from shutil import copy
from typing import Any

import asyncpg
import pytest
from pogo_core.util import migrate as pogo
from redis.asyncio import Redis
from samplit.admin.v1 import alert_service_pb2, experiment_pb2

from allocator.time_zones import time_zones
from server.alerts.faults import Faults
from server.alerts.watch import AlertWatch
from server.maintenance import rebuild_counts, rebuild_redis
from server.worker import maturity_finder, posterior_publisher, reconciler, resegmenter, segment_admission
from server.worker.maturity_finder import MaturityFinder
from server.worker.posterior_publisher import PosteriorPublisher
from server.worker.reconciler import Reconciler
from server.worker.resegmenter import Resegmenter
from server.worker.segment_admission import SegmentAdmission
from storage.encryption import load_secrets
from storage.postgres.counts import traffic
from storage.postgres.events.labels import Labeller
from storage.postgres.pool import SCHEMA, connect, create_pool
from storage.postgres.schema import drop_schema, migrate
from storage.redis import completeness, keys, published
from tests.conftest import Clock
from tests.support.service import Service, experiment
from tests.support.status import refused
from tests.support.waiting import PATIENCE_SECONDS, eventually

_BAD, _GOOD = "bad", "good"  # in this order in every list
_BY_SOURCE = experiment_pb2.SegmentationConfig(mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"])
_FAILS = alert_service_pb2.ALERT_KIND_EXPERIMENT_FAILS


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await create_pool(dsn, size=4)
    yield pool
    await pool.close()


@pytest.fixture
def faults(clock: Clock) -> Faults:
    return Faults(clock)


def failing_for_bad(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, done: list[str], id_of: Callable[..., str]
) -> None:
    """Let a function fail for one experiment, and note for which other ones it was called."""
    real = getattr(where, name)

    async def fail(*arguments: Any, **named: Any) -> Any:
        experiment_id = id_of(*arguments)
        if experiment_id == _BAD:
            raise ArithmeticError("bad data")
        done.append(experiment_id)
        return await real(*arguments, **named)

    monkeypatch.setattr(where, name, fail)


async def faults_of(service: Service, **wanted: Any) -> list[tuple[str, str]]:
    listed = (await service.call("ListAlerts", **wanted)).alerts
    return [(alert.experiment_id, alert.key) for alert in listed if alert.kind == _FAILS]


async def check(
    service: Service, monkeypatch: pytest.MonkeyPatch, run: Callable[[], Awaitable[object]], activity: str
) -> None:
    """The alert is raised once, and resolved when the experiment fails no more."""
    for _ in range(2):
        await run()
        assert await faults_of(service) == [(_BAD, activity)]
    monkeypatch.undo()
    await run()
    assert await faults_of(service, open_only=True) == []


async def test_posteriors_of_the_others_are_published(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {(await service.running(experiment_id=name), await number_of(pool, name))[1] for name in (_BAD, _GOOD)}
    secrets = load_secrets(service.settings.secrets_directory)
    publisher = PosteriorPublisher(pool, redis, secrets, clock, 0.0, faults)
    done: list[str] = []
    failing_for_bad(monkeypatch, posterior_publisher, "advance_posterior", done, lambda _c, _s, e, _k: e.experiment_id)
    await check(service, monkeypatch, lambda: publisher._publish(numbers), "publish its posterior")
    assert done == [_GOOD, _GOOD]


async def test_the_others_are_reconciled_and_redis_becomes_complete(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
    await redis.delete(keys.experiment(_BAD), keys.experiment(_GOOD), keys.INDEX)
    await completeness.forget_all(redis)
    done: list[str] = []
    failing_for_bad(
        monkeypatch, reconciler.posteriors, "load_publication", done, lambda _c, experiment_id: experiment_id
    )
    one = Reconciler(pool, redis, load_secrets(service.settings.secrets_directory), clock, lambda _: None, faults)
    await check(service, monkeypatch, one.run_once, "publish its configuration")
    assert done == [_GOOD]
    assert await completeness.is_complete(redis)
    assert await redis.exists(keys.experiment(_BAD), keys.experiment(_GOOD)) == 2


async def test_the_others_are_segmented_anew(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
        mask = {"paths": ["mode", "segment_by"]}
        await service.call("UpdateSegmentationConfig", experiment_id=name, config=_BY_SOURCE, update_mask=mask)
    done: list[str] = []
    failing_for_bad(
        monkeypatch, resegmenter.Resegmenter, "_choose_segments", done, lambda _s, _c, _t, experiment_id: experiment_id
    )
    secrets = load_secrets(service.settings.secrets_directory)
    one = Resegmenter(pool, redis, secrets, Labeller(secrets), clock, faults)
    await check(service, monkeypatch, one.run_once, "prepare its segmentation")
    assert done == [_GOOD]
    modes = await pool.fetch("SELECT mode FROM experiment_segmentation_config")
    assert [row["mode"] for row in modes] == ["MANUAL", "MANUAL"]


async def test_segments_and_maturities_of_the_others_are_revised(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name, segmentation=_BY_SOURCE, auto_maturity=True)
    done: list[str] = []
    admission = SegmentAdmission(pool, redis, clock, faults)
    failing_for_bad(monkeypatch, segment_admission.SegmentAdmission, "_revise", done, lambda _s, _c, e: e.experiment_id)
    await check(service, monkeypatch, admission.run_once, "revise its segments")
    finder = MaturityFinder(pool, clock, lambda _: None, faults)
    failing_for_bad(monkeypatch, maturity_finder.MaturityFinder, "_update_maturity", done, lambda _s, _c, name: name)
    await finder.run_once()
    assert (_BAD, "find its maturity") in await faults_of(service, open_only=True)
    assert done == [_GOOD] * 3


async def test_a_time_zone_that_postgresql_does_not_know_stops_no_check(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
    await pool.execute("UPDATE experiments SET time_zone = 'posixrules' WHERE experiment_id = $1", _BAD)
    today = clock().date()
    for name in (_BAD, _GOOD):
        number = await number_of(pool, name)
        await traffic.add_bot_requests(pool, {(number, today): 50_000})
        await traffic.note_activity(pool, [(number, clock())], [(number, clock() - timedelta(days=2))])
        await pool.execute("INSERT INTO segment_counts VALUES ($1, 1, 0, 0, $2, 9, 9, 1)", number, today)
    one = AlertWatch(pool, redis, 1, clock, faults)
    for _ in range(2):
        await one.run_once()
        surges = (await service.call("ListAlerts", open_only=True)).alerts
        assert [a.experiment_id for a in surges if a.kind == alert_service_pb2.ALERT_KIND_BOT_SURGE] == [_GOOD]
        assert sorted(await faults_of(service)) == [
            (_BAD, "check it for BOT_SURGE"),
            (_BAD, "check it for CONVERSIONS_STOPPED"),
        ]
    await pool.execute("UPDATE experiments SET time_zone = 'UTC'")
    await one.run_once()
    assert await faults_of(service, open_only=True) == []


async def test_an_alert_that_cannot_be_raised_keeps_no_other_from_being_raised(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
        await traffic.add_bot_requests(pool, {(await number_of(pool, name), clock().date()): 50_000})
    done: list[str] = []
    from server.alerts import watch as watching

    failing_for_bad(monkeypatch, watching, "update_alert", done, lambda _c, e, *_: "" if e is None else e.experiment_id)
    await AlertWatch(pool, redis, 1, clock, faults).run_once()
    assert done == [_GOOD]


async def test_the_others_are_rebuilt(
    service: Service, pool: asyncpg.Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
        await pool.execute(
            "INSERT INTO segment_counts VALUES ($1, 1, 0, 0, $2, 9, 9, 1)", await number_of(pool, name), clock().date()
        )
    bad = await number_of(pool, _BAD)
    done: list[str] = []
    for name in ("differences", "repair"):
        failing_for_bad(
            monkeypatch, rebuild_counts.dimensions, name, done, lambda _c, number: _BAD if number == bad else _GOOD
        )
    async with pool.acquire() as connection:
        found = await rebuild_counts.compare(connection)
        assert list(found.failed) == [bad]
        assert list(await rebuild_counts.repair(connection, found, clock())) == [bad]
        assert done == [_GOOD, _GOOD]
        monkeypatch.undo()
        assert {each.experiment for each in (await rebuild_counts.compare(connection)).counts} == {bad}


async def test_an_assignment_that_fits_in_no_record_keeps_no_shard_closed(
    service: Service, worker: None, redis: Redis, pool: asyncpg.Pool
) -> None:
    await service.running()
    for user in ("u1", "u2"):
        await service.allocate("cta", user)
    await service.learned("cta", 2)
    await pool.execute(
        "UPDATE assignments SET segment_no = 100000 WHERE user_key = (SELECT min(user_key) FROM assignments)"
    )
    await redis.delete(*await redis.keys("{s00}:a:*"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await rebuild_redis.rebuild(redis, service.settings.shards)
    assert len(await redis.keys("{s00}:a:*")) == 1


async def test_servers_load_the_others(
    service: Service, worker: None, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both when a change notice comes and when it was lost."""
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
        await service.allocate(name, "u0")
        await service.learned(name, 1)
    catalog = service.application.data_plane.catalog
    real = published.load

    async def load(client: Any, secrets: Any, experiment_id: str) -> Any:
        if experiment_id == _BAD:
            raise ArithmeticError("bad data")
        return await real(client, secrets, experiment_id)

    monkeypatch.setattr(published, "load", load)
    before = {name: await version_of(service, name) for name in (_BAD, _GOOD)}
    for user in ("u1", "u2"):
        for name in (_BAD, _GOOD):
            await service.allocate(name, user)
        await eventually(lambda: newer(service, _GOOD, before[_GOOD]))
        before[_GOOD] = await version_of(service, _GOOD)
    await catalog._compare([_BAD, _GOOD])
    assert await version_of(service, _BAD) == before[_BAD]
    monkeypatch.undo()
    await eventually(lambda: newer(service, _BAD, before[_BAD]))


async def version_of(service: Service, experiment_id: str) -> int:
    return (await service.application.data_plane.catalog.get(experiment_id)).tables.version


async def newer(service: Service, experiment_id: str, version: int) -> bool:
    return await version_of(service, experiment_id) > version


async def test_damaged_entries_in_redis_hide_no_other(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults
) -> None:
    for name in (_BAD, "worse", _GOOD):
        await service.running(experiment_id=name)
    await redis.hset(keys.experiment(_BAD), "posterior:version", "many")
    await redis.set(keys.experiment("worse"), "not a hash")
    await redis.hset(keys.INDEX, "\xff", "?")
    await redis.hset(keys.INDEX, "1", "SOMETIMES bad")
    versions = await published.load_versions(redis, [_BAD, "worse", _GOOD])
    assert [each.posterior_version for each in versions][:2] == [-1, -1]
    assert versions[2].revision > 0
    assert {entry.experiment_id for entry in (await published.load_index(redis)).values()} == {"worse", _GOOD}
    await redis.delete(keys.experiment(_GOOD))
    secrets = load_secrets(service.settings.secrets_directory)
    await Reconciler(pool, redis, secrets, clock, lambda _: None, faults).run_once()
    assert await redis.exists(keys.experiment(_GOOD))


async def test_faults_of_completed_experiments_are_over(
    service: Service, pool: asyncpg.Pool, redis: Redis, clock: Clock, faults: Faults
) -> None:
    await service.running(experiment_id=_BAD)
    async with pool.acquire() as connection:
        async with faults.isolate(connection, _BAD, "do something"):
            raise ArithmeticError("bad data")
        one = AlertWatch(pool, redis, 1, clock, faults)
        await one.run_once()
        assert await faults_of(service, open_only=True) == [(_BAD, "do something")]
        await service.call("CompleteExperiment", experiment_id=_BAD, winner_variant_id="a")
        await one.run_once()
    assert await faults_of(service, open_only=True) == []


async def test_outages_are_no_faults(service: Service, pool: asyncpg.Pool, faults: Faults) -> None:
    await service.running(experiment_id=_BAD)
    async with pool.acquire() as connection:
        with pytest.raises(ConnectionRefusedError):
            async with faults.isolate(connection, _BAD, "do something"):
                raise ConnectionRefusedError
    assert await faults_of(service) == []


async def test_the_drain_goes_on_where_the_machine_does_not_know_a_time_zone(
    service: Service, worker: None, pool: asyncpg.Pool
) -> None:
    for name in (_BAD, _GOOD):
        await service.running(experiment_id=name)
    await pool.execute("UPDATE experiments SET time_zone = 'Mars/Olympus' WHERE experiment_id = $1", _BAD)
    for name in (_BAD, _GOOD):
        await service.allocate(name, "u1")
        await service.learned(name, 1)


@pytest.mark.parametrize(
    "name", ["posixrules", "localtime", "posix/UTC", "right/UTC", "UTC+3", "utc", "/etc/localtime"]
)
async def test_time_zones_that_are_not_the_same_everywhere_are_refused(service: Service, name: str) -> None:
    refusal = await refused(service.call("CreateExperiment", experiment=experiment(time_zone=name)))
    assert refusal.fields == ["experiment.time_zone"]


async def test_postgresql_knows_each_time_zone_or_the_experiment_is_refused(
    service: Service, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {row["name"] for row in await pool.fetch("SELECT name FROM pg_timezone_names")}
    assert len(time_zones() - known) < 10, time_zones() - known
    monkeypatch.setattr("server.api.admin.experiments.validation.time_zones", lambda: {"Mars/Olympus"})
    refusal = await refused(service.call("CreateExperiment", experiment=experiment(time_zone="Mars/Olympus")))
    assert refusal.fields == ["experiment.time_zone"]
    etag = (await service.call("CreateExperiment", experiment=experiment())).experiment.etag
    changed = experiment_pb2.Experiment(experiment_id="cta", time_zone="Mars/Olympus", etag=etag)
    refusal = await refused(service.call("UpdateExperiment", experiment=changed, update_mask={"paths": ["time_zone"]}))
    assert refusal.fields == ["experiment.time_zone"]


async def number_of(pool: asyncpg.Pool, experiment_id: str) -> int:
    number: int = await pool.fetchval("SELECT experiment_no FROM experiments WHERE experiment_id = $1", experiment_id)
    return number


async def test_stored_time_zones_that_postgresql_does_not_know_are_replaced(dsn: str, tmp_path: Path) -> None:
    await drop_schema(dsn)
    with as_file(files("storage.postgres") / "migrations") as folder:
        for path in folder.glob("*.sql"):
            if path.name < "0012":
                copy(path, tmp_path)
    connection = await connect(dsn)
    await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    await pogo.apply(connection, tmp_path, schema_name=SCHEMA)
    replaced = {
        "right/Europe/Berlin": "Europe/Berlin",
        "posix/UTC": "UTC",
        "posixrules": "UTC",
        "Asia/Tokyo": "Asia/Tokyo",
    }
    for number, zone in enumerate(replaced):
        async with connection.transaction():
            await connection.execute(
                """
                INSERT INTO experiments (experiment_id, name, description, owner, control_variant_no, primary_metric,
                    holdout_share, baseline_share, time_zone, salt, created_at, updated_at)
                VALUES ($1, 'x', '', '', 0, 'conversion', 0, 0, $2, decode(repeat('00', 16), 'hex'), now(), now())
                """,
                f"x{number}",
                zone,
            )
            await connection.execute(
                "INSERT INTO element_variants VALUES ($1, 0, 'control', 'x', '{}', 0, now())", number + 1
            )
    await migrate(dsn)
    rows = await connection.fetch("SELECT time_zone, revision FROM experiments ORDER BY experiment_no")
    await connection.close()
    assert [row["time_zone"] for row in rows] == list(replaced.values())
    assert [row["revision"] for row in rows] == [2, 2, 2, 1]
