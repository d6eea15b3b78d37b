"""Recommended clusters are accepted, and later turned off because they bring nothing."""

import asyncpg
import pytest
from redis.asyncio import Redis
from samplit.admin.v1 import recommendation_service_pb2 as pb

from allocator.segmentation import Proposal, RecommendationKind
from server.recommendations.checker import Checker
from storage.encryption import load_secrets
from storage.postgres.experiments import experiments
from storage.postgres.pool import create_pool
from storage.postgres.segmentation import recommendations, serving_state
from tests.conftest import Clock
from tests.support.clusters import AUTO, SUCCEEDED, crowd, trained
from tests.support.segmentation import allocate, serving
from tests.support.service import Service


@pytest.fixture
async def pool(dsn: str) -> asyncpg.Pool:
    return await create_pool(dsn, size=2)


async def test_they_are_turned_off_after_a_month_without_evidence(
    service: Service, worker: None, clock: Clock, pool: asyncpg.Pool, redis: Redis
) -> None:
    """The clusters are trained first, and trained again meanwhile."""
    await service.running()
    await allocate(service, crowd(1_200))
    await service.learned("cta", 1_200)
    proposal = Proposal(RecommendationKind.USE_CLUSTERS, "find audiences by clusters", 70_000, 7)
    async with pool.acquire() as connection, connection.transaction():
        experiment = await experiments.get(connection, "cta", lock=True)
        assert experiment is not None
        ((found,), _) = await recommendations.propose(connection, experiment, [proposal], clock.now)
    await service.call("AcceptRecommendation", recommendation_id=str(found.recommendation_id))
    assert (await trained(service)).state == SUCCEEDED
    assert (await serving(service, 3)).config.mode == AUTO
    await service.call("TrainClusterModel", experiment_id="cta")
    assert (await serving(service, 4)).config.model_version == 2
    async with pool.acquire() as connection:
        state = await serving_state.state(connection, experiment.number)
    assert state.recommendation_id == found.recommendation_id
    checker = Checker(pool, redis, load_secrets(service.settings.secrets_directory), clock)
    clock.advance(days=1)
    assert (await checker.preview("cta")).proposals == []
    clock.advance(days=30)
    (off,) = (await service.call("CheckEligibility", experiment_id="cta")).recommendations
    assert off.kind == pb.RECOMMENDATION_KIND_TURN_OFF
    assert "there was no evidence that clusters want different variants" in off.summary
    await pool.close()
