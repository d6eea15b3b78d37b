"""Damaged data are reported as a fault of the server: the status is INTERNAL and names no field of the request."""

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from samplit.admin.v1 import experiment_pb2

from storage.postgres.pool import connect
from tests.conftest import Clock
from tests.support.service import Service
from tests.support.status import Refusal, refused

MANUAL = experiment_pb2.SEGMENTATION_MODE_MANUAL


async def damaged(dsn: str, statement: str) -> None:
    connection = await connect(dsn)
    assert (await connection.execute(statement)).split()[-1] != "0"
    await connection.close()


def internal(refusal: Refusal) -> bool:
    """Return whether the status says only that the server failed."""
    said = refusal.code, refusal.reason, refusal.fields, refusal.message
    return said == (grpc.StatusCode.INTERNAL, "INTERNAL", [], "the server failed; its log says why")


@pytest.mark.parametrize(
    "damage",
    ["UPDATE assignments SET q_segment = 'NaN'", "UPDATE assignments SET q_segment = 'Infinity'"],
)
async def test_results_of_a_damaged_log(service: Service, worker: None, dsn: str, damage: str) -> None:
    await service.running()
    for n in range(6):
        await service.allocate("cta", f"u{n}")
    await service.learned("cta", 6)
    await damaged(dsn, damage)
    assert internal(await refused(service.call("GetExperimentResults", experiment_id="cta")))


async def test_eligibility_of_damaged_counts(service: Service, worker: None, dsn: str, clock: Clock) -> None:
    await service.running()
    for n in range(6):
        await service.allocate("cta", f"u{n}", attributes={"plan": ("free", "gold")[n % 2]})
    await service.learned("cta", 6)
    clock.advance(days=2)  # only full days are counted
    await damaged(dsn, "UPDATE dimension_counts SET successes = -1")
    assert internal(await refused(service.call("CheckEligibility", experiment_id="cta")))


async def test_an_update_beside_a_damaged_configuration(service: Service, dsn: str) -> None:
    await service.running(segmentation=experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["source"]))
    await damaged(dsn, "UPDATE experiment_segmentation_config SET segment_by = '{sauce}'")

    async def update(*paths: str, **fields: object) -> Refusal:
        return await refused(
            service.call(
                "UpdateSegmentationConfig",
                experiment_id="cta",
                config=experiment_pb2.SegmentationConfig(**fields),
                update_mask=FieldMask(paths=paths),
            )
        )

    assert internal(await update("max_segments", max_segments=7))
    refusal = await update("segment_by", segment_by=["spice"])
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["config.segment_by[0]"])
