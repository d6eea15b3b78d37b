"""`samplit backup` and `samplit restore`: under load, onto another data directory, and what they refuse."""

import asyncio
import json
import shutil
import signal
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_service_pb2 as admin_pb
from samplit.allocation.v1 import allocation_service_pb2 as pb

from storage.engines.embedded import find_running
from storage.redis import keys
from tests.faults.installation import SAMPLIT, Client, Installation, cli, environment
from tests.support.service import experiment
from tests.support.waiting import eventually


async def command(*arguments: str) -> str:
    """Run a command beside the load, which must succeed. Return its output."""
    process = await asyncio.create_subprocess_exec(
        *SAMPLIT, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment()
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def start_experiment(client: Client) -> None:
    made = admin_pb.CreateExperimentRequest(experiment=experiment())
    await client.admin.CreateExperiment(made, metadata=client.metadata)
    await client.admin.StartExperiment(admin_pb.StartExperimentRequest(experiment_id="cta"), metadata=client.metadata)


async def allocate(client: Client, user: str) -> pb.AllocateUserResponse:
    request = pb.AllocateUserRequest(experiment_id="cta", user_identifier=user)
    answer: pb.AllocateUserResponse = await client.allocation.AllocateUser(request, metadata=client.metadata)
    return answer


class Load:
    """New users who come one after the other, some of whom convert. `variants` and `converted` were acknowledged."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._users = (f"{name}-{n}" for n in count())
        self._stopping = False
        self.variants: dict[str, str] = {}
        self.converted: set[str] = set()
        self._callers = [asyncio.create_task(self._call()) for _ in range(4)]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._callers)

    async def _call(self) -> None:
        while not self._stopping:
            user = next(self._users)
            answer = await allocate(self._client, user)
            if not answer.assignment_id:  # Redis was slow, while the backup kept the disk busy: nothing is recorded
                continue
            self.variants[user] = answer.variant_id
            if len(self.variants) % 3 == 0:
                request = pb.RecordConversionRequest(assignment_id=answer.assignment_id, event_id="e")
                await self._client.allocation.RecordConversion(request, metadata=self._client.metadata)
                self.converted.add(user)
            await asyncio.sleep(0.005)


async def stored(path: Path) -> dict[str, int]:
    """Return how many assignments and conversions PostgreSQL has, and how many are counted."""
    found = find_running(path)
    assert found is not None
    connection = await asyncpg.connect(found.postgres_dsn)
    try:
        row = await connection.fetchrow(
            """
            SELECT (SELECT count(*) FROM samplit.assignments) AS assignments,
                (SELECT count(*) FROM samplit.conversions) AS conversions,
                (SELECT sum(trials)::bigint FROM samplit.segment_counts) AS trials,
                (SELECT sum(successes)::bigint FROM samplit.segment_counts) AS successes
            """
        )
    finally:
        await connection.close()
    assert row is not None
    return dict(row)


async def redis_of(path: Path) -> Redis:
    found = find_running(path)
    assert found is not None
    return Redis.from_url(found.redis_url)


async def epoch(path: Path) -> Any:
    async with await redis_of(path) as redis:
        return await redis.get(keys.epoch(0))


async def test_a_backup_under_load_is_restored_onto_another_data_directory(folder: Path) -> None:
    """Every user whose assignment was acknowledged before the backup began keeps their variant, and counts agree."""
    first = Installation(folder)
    client = Client(await first.start(), first.key)
    await start_experiment(client)
    async with await redis_of(folder) as redis:
        await redis.xadd(keys.dead_letters(0), {"reason": "made by a test", "event": b"\x01\xff"})
    load = Load(client, "first")
    await eventually(lambda: len(load.converted) > 100)
    variants, converted = dict(load.variants), set(load.converted)
    target = folder.with_name("backup")
    said = await command("backup", str(target), "--data-dir", str(folder))
    assert "everything that was acknowledged" in said
    assert len(load.variants) > len(variants), "the load stood still during the backup"
    await load.stop()
    old_epoch = await epoch(folder)
    await client.close()
    await first.stop()
    assert {path.name for path in target.iterdir()} == {"backup.json", "dead-letters.json", "postgres", "secrets"}
    assert target.stat().st_mode & 0o077 == 0

    other = folder.with_name("other")
    await command("restore", str(target), "--data-dir", str(other))
    second = Installation(other)
    client = Client(await second.start(), first.key)
    load = Load(client, "second")
    again = {user: await allocate(client, user) for user in variants}
    assert {user: answer.variant_id for user, answer in again.items()} == variants
    assert {answer.assignment_state for answer in again.values()} == {pb.ASSIGNMENT_STATE_EXISTING}
    for user in converted:  # counted already, so this changes nothing
        request = pb.RecordConversionRequest(assignment_id=again[user].assignment_id, event_id="e")
        await client.allocation.RecordConversion(request, metadata=client.metadata)
    await load.stop()
    async with await redis_of(other) as redis:
        await eventually(lambda: _is_drained(redis))
        ((_, letter),) = await redis.xrange(keys.dead_letters(0))
        assert letter == {b"reason": b"made by a test", b"event": b"\x01\xff"}
    assert await epoch(other) not in (None, old_epoch)
    counted = await stored(other)
    assert counted["assignments"] == counted["trials"] >= len(variants) + len(load.variants)
    assert counted["conversions"] == counted["successes"] >= len(converted) + len(load.converted)
    await command("rebuild-posteriors", "--check", "--data-dir", str(other))
    await client.close()
    await second.stop()


async def test_a_backup_waits_for_events_that_are_not_stored_yet(folder: Path) -> None:
    """The worker stands still while users come. What they were told is in the backup nevertheless."""
    first = Installation(folder)
    client = Client(await first.start(), first.key)
    await start_experiment(client)
    worker = first.recorded("worker")
    worker.send_signal(signal.SIGSTOP)
    variants = {f"u{n}": (await allocate(client, f"u{n}")).variant_id for n in range(50)}
    target = folder.with_name("backup")
    backup = asyncio.create_task(command("backup", str(target), "--data-dir", str(folder)))
    await eventually(target.exists)
    await asyncio.sleep(1)
    assert not (target / "postgres").exists()
    worker.send_signal(signal.SIGCONT)
    await backup
    await client.close()
    await first.kill_everything()

    other = folder.with_name("other")
    await command("restore", str(target), "--data-dir", str(other))
    second = Installation(other)
    client = Client(await second.start(), first.key)
    assert {user: (await allocate(client, user)).variant_id for user in variants} == variants
    assert (await stored(other))["assignments"] == 50
    await client.close()
    await second.stop()


async def test_a_keyset_that_was_rotated_is_in_the_backup(folder: Path) -> None:
    """The old backup and the new one are restored, each with the keys that its posteriors need."""
    first = Installation(folder)
    client = Client(await first.start(), first.key)
    await start_experiment(client)
    load = Load(client, "first")
    await eventually(lambda: len(load.converted) > 10)
    before = folder.with_name("before")
    await command("backup", str(before), "--data-dir", str(folder))
    said = await command("secrets", "rotate", "--data-dir", str(folder))
    assert "a new key encrypts from now on" in said
    assert len(json.loads((folder / "secrets" / "keyset.json").read_text())["key"]) == 2
    many = len(load.converted)
    await eventually(lambda: len(load.converted) > many + 10)
    await load.stop()
    after = folder.with_name("after")
    await command("backup", str(after), "--data-dir", str(folder))
    await client.close()
    await first.stop()
    assert "decrypt" not in first.output.lower()
    for name, backup in (("b", before), ("a", after)):
        other = folder.with_name(name)
        await command("restore", str(backup), "--data-dir", str(other))
        installation = Installation(other)
        client = Client(await installation.start(), first.key)
        assert (await allocate(client, "first-1")).variant_id == load.variants["first-1"]
        assert (await allocate(client, "new")).variant_id
        assert "decrypt" not in installation.output.lower()
        await client.close()
        await installation.stop()


async def test_what_backup_and_restore_refuse(folder: Path) -> None:
    installation = Installation(folder)
    await installation.start()
    here = ("--data-dir", str(folder))
    parent = folder.parent
    refused(cli("backup", str(folder), *here), "has something in it")
    refused(cli("backup", str(parent / "x"), "--data-dir", str(parent / "none")), "no server runs")
    external = {"SAMPLIT_POSTGRES_DSN": "postgresql://u@localhost/d", "SAMPLIT_REDIS_URL": "redis://localhost"}
    refused(cli("backup", str(parent / "x"), **external), "with its own tools")
    assert cli("backup", str(parent / "backup"), *here).returncode == 0
    refused(cli("restore", str(parent / "backup"), *here), "in use")
    await installation.stop()
    refused(cli("restore", str(parent / "backup"), *here), "holds an installation already")
    refused(cli("backup", str(parent / "x"), *here), "no server runs")

    new = ("--data-dir", str(parent / "new"))
    refused(cli("restore", str(parent / "missing"), *new), "is no backup")
    unfinished = Path(shutil.copytree(parent / "backup", parent / "unfinished"))
    (unfinished / "backup.json").unlink()
    refused(cli("restore", str(unfinished), *new), "is no backup, or not a complete one")
    damaged = Path(shutil.copytree(parent / "backup", parent / "damaged"))
    largest = max((damaged / "postgres" / "base").rglob("*"), key=lambda path: path.stat().st_size)
    contents = bytearray(largest.read_bytes())
    contents[len(contents) // 2] ^= 1
    largest.write_bytes(contents)
    refused(cli("restore", str(damaged), *new), "pg_verifybackup failed")
    older = Path(shutil.copytree(parent / "backup", parent / "older"))
    (older / "postgres" / "PG_VERSION").write_text("17\n")
    refused(cli("restore", str(older), *new), "was made with PostgreSQL 17")
    assert not (parent / "new" / "postgres").exists()
    assert cli("restore", str(parent / "backup"), *new).returncode == 0


def refused(done: Any, words: str) -> None:
    """Expect one line that says what is wrong."""
    assert done.returncode == 1, done
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in done.stderr


async def _is_drained(redis: Redis) -> bool:
    return not await redis.xlen(keys.stream(0))
