"""A Redis Cluster of three nodes. A shard is on one node; shards move, and nodes fail and return."""

import asyncio
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.errors import StoreUnavailableError
from server.settings import Settings
from storage.engines.binaries import find_binaries
from storage.redis import function_library, keys
from storage.redis.client import create_client
from tests.support.service import Service
from tests.support.waiting import eventually

SHARDS, SLOTS = 4, 16_384
WORKING = pb.ASSIGNMENT_STATE_NEW


@dataclass
class Node:
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        binary = find_binaries(self.folder, None).valkey
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--appendonly", "yes", "--save", "''"]
        address = ["--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1"]
        self.process = subprocess.Popen([binary, *address, *options], stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@dataclass
class Cluster:
    nodes: list[Node]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    async def ask(self, node: Node, *command: str | int) -> object:
        async with Redis(port=node.port, decode_responses=True) as client:
            return await client.execute_command(*command)

    async def is_whole(self) -> bool:
        try:
            states = [await self.ask(node, "CLUSTER", "INFO") for node in self.nodes]
        except OSError:
            return False
        return all("cluster_state:ok" in str(state) for state in states)

    async def owner(self, shard: int) -> Node:
        slot = await self.ask(self.nodes[0], "CLUSTER", "KEYSLOT", keys.epoch(shard))
        return self.nodes[int(str(slot)) * len(self.nodes) // SLOTS]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster([Node(tmp_path / f"n{number}", _free_port()) for number in range(3)])
    for node in cluster.nodes:
        node.folder.mkdir()
        node.start()
    try:
        await eventually(lambda: _all_answer(cluster))
        bounds = [-(-number * SLOTS // 3) for number in range(4)]
        for node, (first, end) in zip(cluster.nodes, pairwise(bounds), strict=True):
            await cluster.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            await cluster.ask(node, "CLUSTER", "MEET", "127.0.0.1", cluster.nodes[0].port)
        await eventually(cluster.is_whole)
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()


@pytest.fixture
def settings(settings: Settings, dsn: str, cluster: Cluster) -> Settings:
    changed = settings.model_copy(update={"shards": SHARDS, "redis_timeout": 0.5, "poll_interval": 0.2})
    return changed.with_stores(dsn, cluster.url)


async def test_users_of_all_shards_are_served_and_counted(service: Service, worker: None, cluster: Cluster) -> None:
    await service.running()
    answers = [await service.allocate("cta", f"u{number}") for number in range(40)]
    for answer in answers[:10]:
        await service.convert(assignment_id=answer.assignment_id, event_id="e")
    await service.learned("cta", 40, 10)
    batch = pb.AllocateUsersRequest(
        requests=[pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}") for n in range(50)]
    )
    items = (await service.allocation.AllocateUsers(batch, metadata=service.metadata)).items
    assert [item.allocation.variant_id for item in items[:40]] == [answer.variant_id for answer in answers]
    async with RedisCluster.from_url(cluster.url.replace("+cluster", "")) as client:
        for node in client.get_primaries():
            assert await client.execute_command("FUNCTION LIST", "LIBRARYNAME", "samplit_*", target_nodes=node)
        for shard in range(SHARDS):
            assert [k async for k in client.scan_iter(match=f"{keys.record_prefix(shard)}*")]


async def test_a_shard_moves_to_another_node(service: Service, worker: None, cluster: Cluster) -> None:
    await service.running()
    before = {f"u{n}": (await service.allocate("cta", f"u{n}")).variant_id for n in range(40)}
    source = await cluster.owner(0)
    target = next(node for node in cluster.nodes if node is not source)
    slot = int(str(await cluster.ask(source, "CLUSTER", "KEYSLOT", keys.epoch(0))))
    name = str(await cluster.ask(target, "CLUSTER", "MYID"))
    await cluster.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)
    await eventually(lambda: _owns(cluster, target, slot))
    service.application.data_plane.returning.clear()
    await eventually(lambda: _all_recorded(service))
    after = {user: (await service.allocate("cta", user)).variant_id for user in before}
    assert after == before
    assert not await cluster.ask(source, "CLUSTER", "COUNTKEYSINSLOT", slot)


async def test_users_of_other_shards_do_not_notice_that_a_node_is_gone(
    service: Service, worker: None, cluster: Cluster
) -> None:
    await service.running()
    before = {f"u{n}": (await service.allocate("cta", f"u{n}")).variant_id for n in range(40)}
    await service.learned("cta", 40)
    for node in cluster.nodes:  # else a cluster without replicas stops as a whole
        await cluster.ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    owners = [await cluster.owner(shard) for shard in range(SHARDS)]
    victim = next(node for node in owners if node is not cluster.nodes[0])
    victim.kill()
    states = Counter([(await service.allocate("cta", f"new{n}")).assignment_state for n in range(60)])
    share = states[WORKING] / 60
    expected = 1 - owners.count(victim) / SHARDS
    assert abs(share - expected) < 0.25
    service.application.data_plane.returning.clear()
    assert {
        user: (await service.allocate("cta", user)).variant_id for user in before
    } == before  # answered from PostgreSQL
    victim.start()
    await eventually(lambda: _all_recorded(service))
    assert {user: (await service.allocate("cta", user)).variant_id for user in before} == before


async def test_a_cluster_must_be_called_one(cluster: Cluster) -> None:
    client = create_client(cluster.url.replace("+cluster", ""))
    with pytest.raises(StoreUnavailableError, match=r"redis\+cluster://"):
        await function_library.prepare(client)
    await client.aclose()


async def _all_recorded(service: Service) -> bool:
    names = [f"probe-{asyncio.get_running_loop().time()}-{n}" for n in range(24)]
    answers = [await service.allocate("cta", name) for name in names]
    return {answer.assignment_state for answer in answers} == {WORKING}


async def _owns(cluster: Cluster, node: Node, slot: int) -> bool:
    return f"[{slot}" in str(await cluster.ask(node, "CLUSTER", "SLOTS")) and bool(
        await cluster.ask(node, "CLUSTER", "COUNTKEYSINSLOT", slot)
    )


async def _all_answer(cluster: Cluster) -> bool:
    try:
        return all([await cluster.ask(node, "PING") for node in cluster.nodes])
    except OSError:
        return False


def _free_port() -> int:
    """Return a free port whose cluster bus, 10,000 above it, is free too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port > 55_000:
            continue
        with socket.socket() as bus:
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        return port


async def test_a_cluster_that_was_gone_as_a_whole_is_found_again(
    service: Service, worker: None, cluster: Cluster
) -> None:
    await service.running()
    before = {f"u{n}": (await service.allocate("cta", f"u{n}")).variant_id for n in range(20)}
    await service.learned("cta", 20)
    for node in cluster.nodes:
        node.kill()
    service.application.data_plane.returning.clear()
    assert {
        user: (await service.allocate("cta", user)).variant_id for user in before
    } == before  # answered from PostgreSQL
    await asyncio.sleep(2)  # long enough for some attempts to connect to fail
    for node in cluster.nodes:
        node.start()
    await eventually(lambda: _all_recorded(service))
    assert {user: (await service.allocate("cta", user)).variant_id for user in before} == before
    assert not service.application.background.done()
