"""`samplit serve` as an operator uses it: a first start, clear refusals, kill -9, and a clean stop."""

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from samplit.admin.v1 import experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from storage.engines.embedded import StoreUrls
from tests.faults.installation import (
    SAMPLIT,
    Client,
    Installation,
    cli,
    environment,
    first_call,
    scrape,
    still_running,
)
from tests.support.certificates import make_authority, make_signed
from tests.support.service import experiment
from tests.support.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture
async def installation(folder: Path) -> AsyncIterator[Installation]:
    installation = Installation(folder)
    yield installation
    if installation.process is not None and installation.process.returncode is None:
        await installation.stop()


async def started(client: Client) -> None:
    await client.admin.CreateExperiment(
        experiment_service_pb2.CreateExperimentRequest(experiment=experiment()), metadata=client.metadata
    )
    await client.admin.StartExperiment(
        experiment_service_pb2.StartExperimentRequest(experiment_id="cta"), metadata=client.metadata
    )


async def allocate(client: Client, user: str) -> pb.AllocateUserResponse:
    request = pb.AllocateUserRequest(experiment_id="cta", user_identifier=user)
    answer: pb.AllocateUserResponse = await client.allocation.AllocateUser(request, metadata=client.metadata)
    return answer


async def counted(client: Client) -> tuple[int, int]:
    request = experiment_service_pb2.GetExperimentResultsRequest(experiment_id="cta")
    results = await client.admin.GetExperimentResults(request, metadata=client.metadata)
    return sum(v.allocations for v in results.totals), sum(v.conversions for v in results.totals)


async def test_a_kill_of_everything_loses_nothing_acknowledged(installation: Installation) -> None:
    """Every process is killed while users are allocated and convert. The second time only the supervisor is killed."""
    endpoints = await installation.start()
    client = Client(endpoints, installation.key)
    await started(client)
    had: dict[str, str] = {}
    converted: set[str] = set()
    room = asyncio.Semaphore(100)  # fewer calls than a server lets wait

    async def visit(user: str) -> None:
        async with room:
            answer = await allocate(client, user)
            if not answer.assignment_id:  # Valkey was killed before the server, so the user was not recorded
                return
            had[user] = answer.variant_id
            request = pb.RecordConversionRequest(assignment_id=answer.assignment_id, event_id=user)
            await client.allocation.RecordConversion(request, metadata=client.metadata)
            converted.add(user)

    for attempt in range(2):
        visits = [asyncio.create_task(visit(f"u{attempt}-{n}")) for n in range(600)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(converted) < 200 * (attempt + 1):
                await asyncio.sleep(0.005)
        if attempt == 0:
            await installation.kill_everything()
        else:
            installation.process.kill()
            await installation.process.wait()
        failures = await asyncio.gather(*visits, return_exceptions=True)
        assert {type(f) for f in failures} <= {type(None), grpc.aio.AioRpcError}
        await client.close()
        client = Client(await installation.start(), installation.key)
        for user, variant in had.items():
            assert (await allocate(client, user)).variant_id == variant
        for user in converted:  # send the same event again
            request = pb.RecordConversionRequest(user_identifier=user, experiment_id="cta", event_id=user)
            answer = await client.allocation.RecordConversion(request, metadata=client.metadata)
            assert answer.results[0].outcome == pb.CONVERSION_OUTCOME_DUPLICATE
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            allocations, conversions = await counted(client)
            if allocations >= len(had) and conversions >= len(converted):
                break
            await asyncio.sleep(0.1)
    assert len(had) <= allocations <= 1200
    assert (
        len(converted) <= conversions <= len(had)
    )  # one that was not acknowledged may have been counted, but only once
    await client.close()


async def test_a_first_session(installation: Installation) -> None:
    """The calls and commands of a new operator's first minutes, on one installation."""
    endpoints = await installation.start()
    secrets = installation.path / "secrets"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {
        "api.key": 0o600,
        "identity.key": 0o600,
        "keyset.json": 0o600,
    }
    assert installation.key not in installation.output  # a journal would keep it
    pasted = subprocess.run(["sh", "-c", first_call(installation.output)], capture_output=True, text=True, check=True)
    assert '"state": "EXPERIMENT_STATE_DRAFT"' in pasted.stdout
    async with grpc.aio.insecure_channel(endpoints.allocation) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "samplit.allocation.v1.AllocationService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    data = ("--data-dir", str(installation.path))
    created = cli("experiments", "create", "CLI", "--variant", "Control", "--variant", "A", "--start", *data)
    assert created.returncode == 0, created.stderr
    made = cli("keys", "create", "edge", *data)
    assert made.returncode == 0, made.stderr
    client = Client(endpoints, made.stdout.strip())
    request = pb.AllocateUserRequest(experiment_id="cli", user_identifier="u1")
    answer = await client.allocation.AllocateUser(request, metadata=client.metadata)
    conversion = pb.RecordConversionRequest(assignment_id=answer.assignment_id, event_id="e")
    await client.allocation.RecordConversion(conversion, metadata=client.metadata)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "100" not in cli("results", "cli", *data).stdout:
            await asyncio.sleep(0.1)
    key_id = made.stdout.split("_")[1]
    assert key_id in cli("keys", "list", *data).stdout
    assert cli("keys", "revoke", key_id, *data).returncode == 0

    async def is_refused() -> bool:
        try:
            await client.allocation.AllocateUser(request, metadata=client.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                raise
            return True
        return False

    await eventually(is_refused)
    await client.close()
    assert "segmented by source" in cli("segmentation", "set", "cli", "--segment-by", "source", *data).stdout
    assert "MANUAL" in cli("segmentation", "show", "cli", *data).stdout
    assert "source unknown" in cli("segments", "cli", *data).stdout
    assert "unknown" in cli("audience", "cli", "--by", "device", "--by", "source", *data).stdout
    assert "the counts agree with the log" in cli("rebuild-posteriors", "--check", *data).stdout
    assert "Redis is rebuilt" in cli("rebuild-redis", *data).stdout
    busy = cli("serve", *data, "--port", "0", "--admin-port", "0")
    assert (busy.returncode, "is in use by process" in busy.stderr) == (1, True)
    family = [process.pid for process in installation.family()]
    assert await installation.stop() == 0
    assert not list(still_running(family))
    assert cli("reset", "--yes", *data).returncode == 0
    assert not (installation.path / "postgres").exists()


async def test_dead_processes_come_back(installation: Installation) -> None:
    """Each engine, the worker and the server are killed in turn. The service recovers, and no user changes variant."""
    endpoints = await installation.start()
    client = Client(endpoints, installation.key)
    await started(client)
    had = {f"u{n}": (await allocate(client, f"u{n}")).variant_id for n in range(20)}
    for name in ("worker", "postgres", "valkey", "server-0"):
        victim = installation.recorded(name)
        victim.send_signal(signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    had[name] = (await allocate(client, name)).variant_id
                    if (await counted(client))[0] == len(had) and installation.recorded(name).pid != victim.pid:
                        break
                except (grpc.aio.AioRpcError, KeyError):
                    pass
                await asyncio.sleep(0.1)
        assert {user: (await allocate(client, user)).variant_id for user in had} == had
    found = scrape(endpoints)  # counters of killed processes remain, their gauges do not
    assert found["samplit_call_seconds_count", "OK", "AllocateUser"] >= 4 * len(had)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while scrape(endpoints).get(("samplit_redis_connected",)) != 1:
            await asyncio.sleep(0.1)
    await client.close()


async def test_a_prepared_process_takes_the_place_of_a_dead_server(installation: Installation) -> None:
    """It has imported everything before, so the port answers again in less than the three seconds of a start."""
    await installation.start()
    standby: list[psutil.Process] = []
    async with asyncio.timeout(30):
        while not standby:
            with suppress(psutil.NoSuchProcess):
                standby = [process for process in installation.family() if process.cmdline()[-1:] == ["standby"]]
            await asyncio.sleep(0.1)
    installation.recorded("server-0").kill()
    async with asyncio.timeout(30):
        while installation.recorded_pid("server-0") != standby[0].pid:
            await asyncio.sleep(0.05)


async def test_processes_share_the_ports_and_drain_at_the_end(folder: Path) -> None:
    installation = Installation(folder, "--processes", "2")
    endpoints = await installation.start()
    client = Client(endpoints, installation.key)
    await started(client)
    for n in range(16):  # a connection each, which the kernel spreads over the processes
        async with grpc.aio.insecure_channel(
            endpoints.allocation, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            request = pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"c{n}")
            await AllocationServiceStub(channel).AllocateUser(request, metadata=client.metadata)
    assert scrape(endpoints)["samplit_call_seconds_count", "OK", "AllocateUser"] == 16
    answers = [asyncio.create_task(allocate(client, f"u{n}")) for n in range(200)]
    await asyncio.gather(*answers[:20])
    stopping = asyncio.create_task(installation.stop())
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert await stopping == 0
    refused = [r for r in results if isinstance(r, BaseException)]
    codes = {r.code() if isinstance(r, grpc.aio.AioRpcError) else r for r in refused}
    # CANCELLED: the call had reached the process, but no handler had taken it up when it closed.
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert len(refused) < len(results) - 20
    await client.close()


async def test_replacing_the_processes_fails_no_call(folder: Path) -> None:
    """Callers with and without pauses send calls while SIGUSR2 makes the supervisor replace every process."""
    installation = Installation(folder, "--processes", "2", SAMPLIT_CONNECTION_AGE="1")
    endpoints = await installation.start()
    client = Client(endpoints, installation.key)
    await started(client)
    names = ("server-0", "server-1", "worker")
    before = [installation.recorded(name) for name in names]
    over = asyncio.Event()

    async def caller(number: int) -> int:
        calls = 0
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
        async with grpc.aio.insecure_channel(endpoints.allocation, options=options) as channel:
            stub = AllocationServiceStub(channel)
            while not over.is_set():
                request = pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{number}-{calls % 100}")
                await stub.AllocateUser(request, metadata=client.metadata)
                calls += 1
                await asyncio.sleep(0.01 * (number % 4))
        return calls

    callers = [asyncio.create_task(caller(n)) for n in range(16)]
    installation.replace()
    async with asyncio.timeout(180):
        while any(process.is_running() for process in before):
            await asyncio.sleep(0.1)
    over.set()
    calls = await asyncio.gather(*callers)
    assert min(calls) > 10
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await counted(client))[0] != sum(min(100, own) for own in calls):
            await asyncio.sleep(0.1)
    await client.close()
    family = [process.pid for process in installation.family()]
    assert await installation.stop() == 0
    assert not list(still_running(family))


async def test_external_stores_with_tls_and_one_more_worker(
    folder: Path, engines: StoreUrls, dsn: str, redis: object
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = folder.parent / "key.pem", folder.parent / "certificate.pem"
    subprocess.run(
        [
            openssl,
            *["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"],
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    stores = {"SAMPLIT_POSTGRES_DSN": dsn, "SAMPLIT_REDIS_URL": engines.redis_url}
    tls = {"SAMPLIT_TLS_PRIVATE_KEY_FILE": str(key), "SAMPLIT_TLS_CERTIFICATE_FILE": str(certificate)}
    installation = Installation(folder, **stores, **tls)
    await installation.start()
    assert not (folder / "postgres").exists()
    data = ("--data-dir", str(folder))
    created = cli("experiments", "create", "T", "--variant", "A", "--variant", "B", "--start", *data)
    assert created.returncode == 0, created.stderr
    assert cli("migrate", *data, **stores).returncode == 0
    second = await asyncio.create_subprocess_exec(
        *SAMPLIT, "worker", *data, stdout=asyncio.subprocess.PIPE, env=environment(**stores)
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert b"the worker runs" in await second.stdout.readline()
        assert b"metrics: http://127.0.0.1:" in await second.stdout.readline()
    second.send_signal(signal.SIGINT)
    await second.wait()
    assert await installation.stop() == 0
    assert cli("reset", "--yes", *data, **stores).returncode == 0
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT to_regclass('samplit.experiments')") is None
    await connection.close()
    assert await redis.keys("samplit:*") == []


async def test_commands_verify_a_server_that_listens_everywhere(folder: Path) -> None:
    """Its certificate has a name in DNS alone, and an authority of its own signed it."""
    authority = make_authority(folder.parent)
    pair = make_signed(folder.parent, authority, "DNS:samplit.example.com")
    tls = {
        "SAMPLIT_TLS_CERTIFICATE_FILE": str(pair.certificate),
        "SAMPLIT_TLS_PRIVATE_KEY_FILE": str(pair.key),
        "SAMPLIT_TLS_CA_FILE": str(authority.certificate),
    }
    installation = Installation(folder, "--host", "0.0.0.0", **tls)  # noqa: S104 (a port of this test)
    try:
        endpoints = await installation.start()
        assert endpoints.admin.startswith("127.0.0.1:")
        data = ("--data-dir", str(folder))
        created = await asyncio.to_thread(cli, "experiments", "create", "T", "--variant", "A", "--variant", "B", *data)
        assert created.returncode == 0, created.stderr
        pasted = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", first_call(installation.output)], capture_output=True, text=True, check=False
        )
        assert pasted.returncode == 0, pasted.stderr
    finally:
        await installation.stop()


def test_a_port_in_use_is_noticed(folder: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for ports in (
            ("--port", port, "--admin-port", "0"),
            ("--port", "0", "--admin-port", "0", "--metrics-port", port),
        ):
            failed = cli("serve", "--data-dir", str(folder), *ports)
            assert failed.returncode == 1
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in failed.stderr


def test_an_unusable_data_directory(folder: Path) -> None:
    folder.write_text("a file")
    failed = cli("serve", "--data-dir", str(folder), "--port", "0", "--admin-port", "0")
    assert (failed.returncode, f"the data directory {folder} is not usable" in failed.stderr) == (1, True)
    failed = cli("serve", "--data-dir", str(folder.with_name("x" * 120)), "--port", "0", "--admin-port", "0")
    assert (failed.returncode, "too long for unix sockets" in failed.stderr) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has an account to switch to")
def test_a_directory_that_the_engines_cannot_reach(folder: Path) -> None:
    folder.parent.chmod(0o700)
    failed = cli("serve", "--data-dir", str(folder), "--port", "0", "--admin-port", "0")
    assert (failed.returncode, "use --data-dir /var/lib/samplit" in failed.stderr) == (1, True)
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_a_public_address_needs_tls_or_a_word(folder: Path) -> None:
    failed = cli("serve", "--data-dir", str(folder), "--host", "0.0.0.0")  # noqa: S104
    assert (failed.returncode, "SAMPLIT_ALLOW_PLAINTEXT=true" in failed.stderr) == (1, True)


@pytest.mark.parametrize("broken", ["SAMPLIT_POSTGRES_DSN", "SAMPLIT_REDIS_URL"])
def test_a_store_that_does_not_answer_is_named(folder: Path, engines: StoreUrls, dsn: str, broken: str) -> None:
    stores = {"SAMPLIT_POSTGRES_DSN": dsn, "SAMPLIT_REDIS_URL": engines.redis_url}
    stores[broken] = {"SAMPLIT_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/x"}.get(broken, "redis://127.0.0.1:1")
    failed = cli("serve", "--data-dir", str(folder), "--port", "0", "--admin-port", "0", **stores)
    assert failed.returncode == 1
    assert f"does not answer at {broken}" in failed.stderr


async def test_a_redis_that_may_evict_is_refused(folder: Path, engines: StoreUrls, dsn: str, redis: object) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        failed = await asyncio.to_thread(
            cli,
            *("serve", "--data-dir", str(folder), "--port", "0", "--admin-port", "0"),
            SAMPLIT_POSTGRES_DSN=dsn,
            SAMPLIT_REDIS_URL=engines.redis_url,
        )
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert (failed.returncode, "maxmemory-policy is allkeys-lru" in failed.stderr) == (1, True)
