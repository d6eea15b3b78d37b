"""Experiments for which segmentation is recommended, and a count of the checks that were noted."""

from typing import Any

from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import recommendation_service_pb2 as pb

from tests.conftest import Clock
from tests.support.days import Days, of_sources, two_variants
from tests.support.service import Service

AUTO_ACTIVATION = experiment_pb2.SegmentationConfig(auto_activation=True)
MANUAL, DISABLED = experiment_pb2.SEGMENTATION_MODE_MANUAL, experiment_pb2.SEGMENTATION_MODE_DISABLED
OPEN, ACCEPTED, DISMISSED, WITHDRAWN = (
    pb.RecommendationState.Value(f"RECOMMENDATION_STATE_{name}")
    for name in ("OPEN", "ACCEPTED", "DISMISSED", "WITHDRAWN")
)
STRONG = of_sources({"instagram": {"control": 0.10, "b": 0.30}, "google": {"control": 0.30, "b": 0.10}})
REVERSED = of_sources({"instagram": {"control": 0.30, "b": 0.10}, "google": {"control": 0.10, "b": 0.30}})
B_IS_BEST = of_sources({source: {"control": 0.05, "b": 0.20} for source in ("instagram", "google")})


async def begin(service: Service, clock: Clock, **fields: Any) -> Days:
    """Start an experiment at midnight."""
    clock.now = clock.now.replace(hour=0, minute=0, second=0)
    created = (await service.call("CreateExperiment", experiment=two_variants(**fields))).experiment
    await service.call("StartExperiment", experiment_id=created.experiment_id)
    return Days(service, clock)


async def recommended(service: Service, clock: Clock, **fields: Any) -> tuple[Days, Any]:
    """Start an experiment; after two days it is recommended to segment it by source. Return that recommendation."""
    days = await begin(service, clock, **fields)
    for _ in range(2):
        await days.day(1_000, STRONG, parts=1)
    (found,) = (await days.check()).recommendations
    return days, found


async def listed(service: Service, *states: int) -> list[Any]:
    """Return the recommendations of the experiment that are in one of these states."""
    answer = await service.call("ListRecommendations", experiment_id="cta")
    return [each for each in answer.recommendations if each.state in states]


async def count_checks(connection: Any, pause: float = 0) -> None:
    """Have PostgreSQL add a row to `checks` whenever a check is noted, and take `pause` seconds for it."""
    await connection.execute(
        f"""
        CREATE TABLE checks (experiment_no integer);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO checks VALUES (new.experiment_no); PERFORM pg_sleep({pause}); RETURN NULL; END';
        CREATE TRIGGER note AFTER UPDATE OF checked_at ON experiment_segmentation_config
            FOR EACH ROW EXECUTE FUNCTION note();
        """  # noqa: S608
    )
