"""Kill processes while users arrive, return and convert. Afterwards compare every answer with the log."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import numpy as np
import psutil
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from allocator.hashing import user_key
from server.runtime.supervision.endpoints import Endpoints
from storage.encryption import load_secrets
from storage.engines.embedded import find_running
from storage.redis import keys
from tests.faults.installation import Client, Installation, cli
from tests.support.service import experiment

EXPERIMENT = "cta"
_VISITORS, _PAUSE = 12, 0.002
_DEADLINE = 2.0
_RECOVERY_SECONDS, _DRAIN_SECONDS = 60.0, 60.0
_CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
_ACKNOWLEDGED = pb.CONVERSION_OUTCOME_RECORDED, pb.CONVERSION_OUTCOME_DUPLICATE


_LOG = """
    SELECT user_key, variant_id, converted_at IS NOT NULL AS converted,
        (SELECT count(*) FROM samplit.conversions c WHERE c.user_key = a.user_key) AS events
    FROM samplit.assignments a JOIN samplit.element_variants USING (experiment_no, variant_no)
"""


@dataclass
class Witness:
    """Everything that the visitors were answered."""

    variants: dict[str, tuple[str, str]] = field(default_factory=dict)  # by user: (assignment id, variant id)
    tried: set[str] = field(default_factory=set)  # users whose conversion was sent, answered or not
    converted: set[str] = field(default_factory=set)  # users whose conversion was acknowledged
    changed: int = 0  # answers that differ from the user's first one
    denied: int = 0  # conversions of acknowledged assignments that were unknown
    degraded: int = 0  # answers that were not recorded
    failed: Counter[str] = field(default_factory=Counter)  # by status

    def take(self, user: str, answer: pb.AllocateUserResponse) -> None:
        if not answer.assignment_id:
            self.degraded += 1
            return
        given = answer.assignment_id, answer.variant_id
        self.changed += self.variants.setdefault(user, given) != given


@dataclass(frozen=True)
class Verdict:
    """The answers compared with the log. Every field but the first five must be 0."""

    kills: int
    assignments: int
    conversions: int
    degraded: int
    failed: int
    assignments_lost: int  # acknowledged, and not in the log
    assignments_changed: int  # answered or logged with another variant than the first answer
    conversions_lost: int  # acknowledged, and not in the log
    conversions_invented: int  # in the log, and never sent
    miscounted: int  # by how many allocations and conversions the results differ from the log
    differences: int  # 1 if `rebuild-posteriors --check` finds a difference
    set_aside: int  # events in the dead-letter stream

    @property
    def faults(self) -> dict[str, int]:
        names = list(self.__dataclass_fields__)[5:]
        return {name: getattr(self, name) for name in names}


async def start_experiment(client: Client) -> None:
    """Create and start the experiment that all users of the test are in."""
    call = {"metadata": client.metadata}
    await client.admin.CreateExperiment(
        experiment_service_pb2.CreateExperimentRequest(experiment=experiment(experiment_id=EXPERIMENT)), **call
    )
    await client.admin.StartExperiment(experiment_service_pb2.StartExperimentRequest(experiment_id=EXPERIMENT), **call)


async def undergo(installation: Installation, endpoints: Endpoints, rounds: Iterable[Sequence[str]]) -> Verdict:
    """Kill the processes of each round at about the same time, and wait until the service has recovered."""
    client = Client(endpoints, installation.key)
    await start_experiment(client)
    witness, kills = Witness(), 0
    chance = np.random.default_rng(1)
    async with visitors(endpoints, client.metadata, witness):
        for number, names in enumerate(rounds):
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            victims = {name: installation.recorded(name) for name in names}
            for victim in victims.values():
                victim.kill()
                await asyncio.sleep(chance.choice((0, 0, 0.05, 0.5)))
            kills += len(victims)
            await recovered(installation, client, f"probe-{number}", victims)
    verdict = await judge(installation, client, witness, kills)
    await client.close()
    return verdict


async def recovered(installation: Installation, client: Client, user: str, dead: dict[str, Any]) -> None:
    """Wait until others have taken the places of the dead, both planes answer, and new users are recorded."""
    async with asyncio.timeout(_RECOVERY_SECONDS):
        while not await _has_recovered(installation, client, user, dead):
            await asyncio.sleep(0.1)


@asynccontextmanager
async def visitors(endpoints: Endpoints, metadata: Any, witness: Witness) -> AsyncIterator[None]:
    """Let users come, return and convert while the block runs."""
    over = asyncio.Event()

    async def visitor(number: int) -> None:
        chance, visits = np.random.default_rng(number), 0
        async with grpc.aio.insecure_channel(endpoints.allocation, options=_CHANNEL) as channel:
            stub: Any = AllocationServiceStub(channel)
            while not over.is_set():
                user = f"u{number}-{visits if chance.random() < 0.6 else chance.integers(0, visits, endpoint=True)}"
                visits += 1
                try:
                    await _visit(stub, metadata, witness, user, converts=chance.random() < 0.4)
                except grpc.aio.AioRpcError as error:
                    witness.failed[error.code().name] += 1
                await asyncio.sleep(_PAUSE)

    visitors = [asyncio.create_task(visitor(number)) for number in range(_VISITORS)]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*visitors)


async def _visit(stub: Any, metadata: Any, witness: Witness, user: str, *, converts: bool) -> None:
    call = {"metadata": metadata, "timeout": _DEADLINE}
    answer = await stub.AllocateUser(pb.AllocateUserRequest(experiment_id=EXPERIMENT, user_identifier=user), **call)
    witness.take(user, answer)
    if answer.assignment_id and converts:
        witness.tried.add(user)
        conversion = pb.RecordConversionRequest(assignment_id=answer.assignment_id, event_id="e")
        (result,) = (await stub.RecordConversion(conversion, **call)).results
        if result.outcome in _ACKNOWLEDGED:
            witness.converted.add(user)
        else:
            witness.denied += 1


async def _has_recovered(installation: Installation, client: Client, user: str, dead: dict[str, Any]) -> bool:
    """Return whether other processes replaced the killed ones, both planes answer, and new users are recorded."""
    try:
        if any(installation.recorded(name).pid == process.pid for name, process in dead.items()):
            return False
        request = pb.AllocateUserRequest(experiment_id=EXPERIMENT, user_identifier=user)
        call = {"metadata": client.metadata, "timeout": _DEADLINE}
        answer = await client.allocation.AllocateUser(request, **call)
        await _totals(client)
    except (grpc.aio.AioRpcError, KeyError, psutil.NoSuchProcess):  # not recorded yet
        return False
    return bool(answer.assignment_id)


async def _totals(client: Client) -> Any:
    """Return the counts of each variant."""
    request = experiment_service_pb2.GetExperimentResultsRequest(
        experiment_id=EXPERIMENT, view=experiment_service_pb2.RESULTS_VIEW_COUNTS
    )
    results = await client.admin.GetExperimentResults(request, metadata=client.metadata, timeout=_DEADLINE)
    return results.totals


async def judge(installation: Installation, client: Client, witness: Witness, kills: int) -> Verdict:
    """Wait until everything is stored, and compare it with what was answered."""
    stores = find_running(installation.path)
    assert stores is not None
    redis = Redis.from_url(stores.redis_url)
    async with asyncio.timeout(_DRAIN_SECONDS):
        while await redis.xlen(keys.stream(0)):
            await asyncio.sleep(0.1)
    set_aside = await redis.xlen(keys.dead_letters(0))
    await redis.aclose()
    again = Witness(dict(witness.variants))
    for user in witness.variants:
        request = pb.AllocateUserRequest(experiment_id=EXPERIMENT, user_identifier=user)
        again.take(user, await client.allocation.AllocateUser(request, metadata=client.metadata))
    connection = await asyncpg.connect(stores.postgres_dsn)
    log = {row["user_key"]: row for row in await connection.fetch(_LOG)}
    await connection.close()
    identity = load_secrets(installation.path / "secrets").identity
    found = {user: log.get(user_key(identity, user)) for user in witness.variants}
    counted: Counter[tuple[str, str]] = Counter()
    for row in log.values():
        counted[row["variant_id"], "allocations"] += 1
        counted[row["variant_id"], "conversions"] += row["converted"]
    published = Counter({(v.variant_id, n): getattr(v, n) for v in await _totals(client) for _, n in [*counted]})
    check = cli("rebuild-posteriors", "--check", "--data-dir", str(installation.path))
    return Verdict(
        kills=kills,
        assignments=len(witness.variants),
        conversions=len(witness.converted),
        degraded=witness.degraded,
        failed=witness.failed.total(),
        assignments_lost=sum(row is None for row in found.values()),
        assignments_changed=witness.changed
        + again.changed
        + sum(row is not None and row["variant_id"] != witness.variants[user][1] for user, row in found.items()),
        conversions_lost=witness.denied + sum(not (found[u] and found[u]["converted"]) for u in witness.converted),
        conversions_invented=sum(row["events"] for row in log.values())
        - sum(found[user]["events"] for user in witness.tried if found[user]),
        miscounted=sum(abs(published[each] - counted[each]) for each in published | counted),
        differences=int("the counts agree with the log" not in check.stdout),
        set_aside=set_aside,
    )
