"""Users of three audiences that clusters find, and an experiment whose first cluster model serves."""

import asyncio
import random
from typing import Any

from samplit.admin.v1 import clustering_service_pb2, experiment_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1 import context_pb2

from tests.support.segmentation import allocate, serving
from tests.support.service import Service

AUTO = experiment_pb2.SEGMENTATION_MODE_AUTO
BY_CLUSTERS = experiment_pb2.SegmentationConfig(mode=AUTO, min_samples_per_segment=0)
FAILED, RUNNING, SUCCEEDED = (
    clustering_service_pb2.ClusteringJobState.Value(f"CLUSTERING_JOB_STATE_{name}")
    for name in ("FAILED", "RUNNING", "SUCCEEDED")
)
# The values that most users of an audience have: source, device, country, language, plan, tier.
AUDIENCES = (
    ("instagram", "mobile", "BR", "pt", "free", "bronze"),
    ("google", "desktop", "DE", "de", "pro", "silver"),
    ("newsletter", "tablet", "US", "en", "team", "gold"),
)
PURITY = 0.9


def member(audience: int, n: int, purity: float = PURITY) -> pb.AllocateUserRequest:
    """Return a user of an audience. Each dimension has another audience's value by chance."""
    chance = random.Random(f"{audience}-{n}")  # noqa: S311
    own = zip(*AUDIENCES, strict=True)
    values = [each[audience] if chance.random() < purity else chance.choice(each) for each in own]
    source, device, country, language, plan, tier = values
    return pb.AllocateUserRequest(
        experiment_id="cta",
        user_identifier=f"a{audience}-{n}",
        web=context_pb2.WebContext(utm_source=source, device=device, country_code=country, language=language),
        attributes={"plan": plan, "tier": tier},
    )


def crowd(many: int, first: int = 0) -> list[pb.AllocateUserRequest]:
    """Return `many` users: five in ten of the first audience, three of the second, two of the third."""
    sizes = (many // 2, many * 3 // 10, many - many // 2 - many * 3 // 10)
    return [member(audience, n) for audience, size in enumerate(sizes) for n in range(first, first + size)]


async def status(service: Service) -> Any:
    return await service.call("GetClusteringStatus", experiment_id="cta")


async def trained(service: Service) -> Any:
    """Wait until the last training has ended. Return its job."""
    async with asyncio.timeout(180):
        while True:
            answer = await status(service)
            if answer.HasField("job") and answer.job.HasField("finished_at"):
                return answer.job
            await asyncio.sleep(0.05)


async def clustered(service: Service) -> list[pb.AllocateUserResponse]:
    """Start an experiment in mode AUTO and wait until its first model serves. Return the answers of its 1,200 users."""
    await service.running(segmentation=BY_CLUSTERS)
    answers = await allocate(service, crowd(1_200))
    assert {answer.segment_key for answer in answers} == {"global"}
    await service.learned("cta", 1_200)
    await service.call("TrainClusterModel", experiment_id="cta")
    assert (await trained(service)).state == SUCCEEDED
    await serving(service, 2)
    return answers
