"""Calls and commands about recommendations: pages, the command line, and what is refused."""

import asyncio
from typing import Any

import pytest
from grpc import StatusCode as Code
from samplit.admin.v1 import experiment_pb2

from tests.conftest import Clock
from tests.faults.installation import cli
from tests.support.days import two_variants
from tests.support.recommendations import (
    STRONG,
    recommended,
)
from tests.support.service import Service
from tests.support.status import refused


async def test_from_the_command_line(service: Service, worker: None, clock: Clock) -> None:
    _, found = await recommended(service, clock)
    address = {"SAMPLIT_ADMIN_ADDRESS": f"127.0.0.1:{service.application.admin_port}", "SAMPLIT_API_KEY": service.key}

    async def said(*arguments: str) -> str:
        done = await asyncio.to_thread(cli, *arguments, **address, COLUMNS="200")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cta: eligible: every condition holds" in await said("check-eligibility", "--look")
    assert "recommended: segment by source" in await said("check-eligibility", "cta")
    assert found.recommendation_id in await said("recommendations", "list")
    page = await said("explain", "cta")
    assert "auto-activation is off" in page
    assert "2,000 users of 2 days" in page
    assert "last check" in page
    assert "cta: segment by source" in await said("recommendations", "accept", found.recommendation_id)
    refusal = await asyncio.to_thread(cli, "recommendations", "dismiss", found.recommendation_id, **address)
    assert (refusal.returncode, "cannot be decided any more" in refusal.stderr) == (1, True)
    assert "not enough data" in await said("segmentation", "metrics", "cta")
    assert "ACCEPTED by" in await said("recommendations", "list", "cta", "--all")
    await said("segmentation", "set", "cta", "--auto-activation", "--threshold", "500")
    config = (await service.call("GetSegmentationConfig", experiment_id="cta")).segmentation.config
    assert (config.auto_activation, config.auto_activation_threshold) == (True, 500)


@pytest.mark.parametrize(
    ("method", "fields", "code", "text"),
    [
        ("CheckEligibility", {"experiment_id": "none"}, Code.NOT_FOUND, "none"),
        ("CheckEligibility", {"experiment_id": ""}, Code.INVALID_ARGUMENT, "experiment_id"),
        ("ListRecommendations", {"experiment_id": "none"}, Code.NOT_FOUND, "none"),
        ("ListRecommendations", {"page_size": -1}, Code.INVALID_ARGUMENT, "page_size"),
        ("ListRecommendations", {"page_token": "x"}, Code.INVALID_ARGUMENT, "page_token"),
        ("AcceptRecommendation", {"recommendation_id": "x"}, Code.INVALID_ARGUMENT, "recommendation_id"),
        (
            "AcceptRecommendation",
            {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
            Code.NOT_FOUND,
            "no recommendation",
        ),
        (
            "DismissRecommendation",
            {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
            Code.NOT_FOUND,
            "no recommendation",
        ),
        (
            "DismissRecommendation",
            {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10", "reason": "x" * 513},
            Code.INVALID_ARGUMENT,
            "reason",
        ),
        ("GetSegmentationMetrics", {"experiment_id": "none"}, Code.NOT_FOUND, "none"),
    ],
)
async def test_bad_input(service: Service, method: str, fields: dict[str, Any], code: Code, text: str) -> None:
    refusal = await refused(service.call(method, **fields))
    assert refusal.code is code
    assert text in refusal.message


@pytest.mark.parametrize("threshold", [0, 2_000_000_000])
async def test_thresholds_are_numbers_of_visitors(service: Service, threshold: int) -> None:
    config = experiment_pb2.SegmentationConfig(auto_activation_threshold=threshold)
    refusal = await refused(service.call("CreateExperiment", experiment=two_variants(segmentation=config)))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert "segmentation.auto_activation_threshold" in refusal.message


async def test_pages_of_recommendations(service: Service, worker: None, clock: Clock) -> None:
    days, found = await recommended(service, clock)
    await service.call("DismissRecommendation", recommendation_id=found.recommendation_id)
    clock.advance(days=20)
    for _ in range(2):
        await days.day(2_500, STRONG, parts=1)
    await days.check()
    first = await service.call("ListRecommendations", page_size=1)
    second = await service.call("ListRecommendations", page_size=1, page_token=first.next_page_token)
    assert second.recommendations[0].recommendation_id == found.recommendation_id
    assert not second.next_page_token
    refusal = await refused(service.call("ListRecommendations", experiment_id="cta", page_token=first.next_page_token))
    assert refusal.code is Code.INVALID_ARGUMENT
