"""Users of sources and devices, and an experiment whose segmentation changes while they come."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from storage.postgres.counts import recount
from storage.postgres.pool import connect
from storage.redis import keys
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS

DISABLED, MANUAL = experiment_pb2.SEGMENTATION_MODE_DISABLED, experiment_pb2.SEGMENTATION_MODE_MANUAL
SOURCES = ("instagram", "google", "facebook")
DEVICES = ("mobile", "desktop")


def request(n: int, **web: Any) -> pb.AllocateUserRequest:
    known = {"utm_source": SOURCES[n % 3], "device": DEVICES[n % 2], **web}
    return pb.AllocateUserRequest(experiment_id="cta", user_identifier=f"u{n}", web=context_pb2.WebContext(**known))


async def allocate(service: Service, requests: Sequence[pb.AllocateUserRequest]) -> list[pb.AllocateUserResponse]:
    answers = []
    for begin in range(0, len(requests), 1_000):
        batch = pb.AllocateUsersRequest(requests=requests[begin : begin + 1_000])
        items = (await service.allocation.AllocateUsers(batch, metadata=service.metadata)).items
        assert not any(item.status.code for item in items)
        answers += [item.allocation for item in items]
    return answers


async def convert(service: Service, answers: Sequence[pb.AllocateUserResponse]) -> None:
    requests = [pb.RecordConversionRequest(assignment_id=a.assignment_id, event_id="e") for a in answers]
    items = (
        await service.allocation.RecordConversions(
            pb.RecordConversionsRequest(requests=requests), metadata=service.metadata
        )
    ).items
    assert not any(item.status.code for item in items)


async def update(service: Service, mode: int, segment_by: Sequence[str] = ()) -> Any:
    config = experiment_pb2.SegmentationConfig(mode=mode, segment_by=segment_by)
    mask = FieldMask(paths=["mode", "segment_by"])
    return (
        await service.call("UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask=mask)
    ).segmentation


async def serving(service: Service, version: int) -> Any:
    """Wait until this segmentation version serves and no other is being prepared. Return the segmentation."""
    async with asyncio.timeout(180):
        while True:
            found = (await service.call("GetSegmentationConfig", experiment_id="cta")).segmentation
            if found.segmentation_version == version and not found.HasField("pending"):
                return found
            await asyncio.sleep(0.05)


async def counts_agree(dsn: str) -> list[tuple[str, int, int]]:
    """Check the counts against the log. Return (segment key, trials, successes) of each segment."""
    connection = await connect(dsn)
    assert await recount.differences(connection) == []
    rows = await connection.fetch(
        """
        SELECT segment_key, sum(trials)::int, sum(successes)::int FROM segment_counts
            JOIN experiment_segments USING (experiment_no, segmentation_version, segment_no)
        GROUP BY 1 ORDER BY 1
        """
    )
    await connection.close()
    return [tuple(row) for row in rows]


@asynccontextmanager
async def load_on(service: Service) -> AsyncIterator[list[tuple[int, str]]]:
    """Send unary calls meanwhile, of new users and of users who return. Yield (user number, variant) of each answer.

    Callers pause after each call, because a training runs only when a core has nothing else to do.
    """
    answered: list[tuple[int, str]] = []
    users = count()
    stop = asyncio.Event()

    async def caller() -> None:
        while not stop.is_set():
            newest = next(users)
            for user in (newest, newest // 2):
                asked = request(user)
                answer = await service.allocation.AllocateUser(asked, metadata=service.metadata)
                answered.append((user, answer.variant_id))
            if newest % 4 == 0:
                await service.convert(assignment_id=answer.assignment_id, event_id="e")
            await asyncio.sleep(0.05)

    callers = [asyncio.create_task(caller()) for _ in range(4)]
    yield answered
    stop.set()
    await asyncio.gather(*callers)


async def drained(redis: Redis) -> None:
    """Wait until the worker has stored every event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await redis.xlen(keys.stream(0)):
            await asyncio.sleep(0.05)
