"""Checks, recommendations and the page that explains, as text."""

import io

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, RenderableType
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import recommendation_service_pb2 as pb
from samplit.admin.v1.experiment_service_pb2 import Estimate
from samplit.admin.v1.segmentation_service_pb2 import Segmentation

from allocator.segmentation import VANISHED_BOUND
from server.cli.views.recommendations import VANISHED_FROM, check_lines, explanation, recommendations_table

LIFT = Estimate(value=0.0123, lower=0.004, upper=0.0206)
RECOMMENDATION = pb.Recommendation(
    recommendation_id="0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10",
    experiment_id="cta",
    summary="segment by attributes.[plan]",
    expected_lift=LIFT,
    e_value=1234.5,
    e_value_needed=160,
    trials=4_200,
    days=4,
    state=pb.RECOMMENDATION_STATE_OPEN,
)
CHECK = pb.CheckEligibilityResponse(
    summary="not eligible: traffic",
    conditions=[pb.EligibilityCondition(name="traffic", detail="812 visitors on the last full day; 188 more")],
    dimensions=[pb.DimensionEligibility(dimension="source", coverage=1, segments=2, e_value=3, e_value_needed=160)],
    recommendations=[RECOMMENDATION],
    action="segment by source",
    freshness=pb.Freshness(last_assignment_at=Timestamp(seconds=1_772_409_600), drain_lag_seconds=0),
)


def printed(what: RenderableType, width: int = 140) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_a_check_says_what_is_missing_recommended_and_done() -> None:
    text = printed(check_lines("cta", CHECK))
    assert "cta: not eligible: traffic" in text
    assert "NO traffic 812 visitors on the last full day; 188 more" in " ".join(text.split())
    assert (
        "recommended: segment by attributes.[plan]; expected lift +1.23 points (90 % interval +0.40 to +2.06)" in text
    )
    assert "evidence 1,234 (needed 160); 4,200 users of 4 days" in " ".join(text.split())
    assert "done: segment by source" in text


def test_recommendations_say_who_decided() -> None:
    accepted = pb.Recommendation(decided_by="samplit", state=pb.RECOMMENDATION_STATE_ACCEPTED)
    text = printed(recommendations_table([RECOMMENDATION, accepted]), 200)
    assert "segment by attributes.[plan]" in text
    assert "OPEN" in text
    assert "ACCEPTED by samplit" in text


def test_one_page_explains() -> None:
    config = experiment_pb2.SegmentationConfig(
        mode=experiment_pb2.SEGMENTATION_MODE_MANUAL, segment_by=["source"], auto_activation=True
    )
    metrics = pb.GetSegmentationMetricsResponse(segments_count=2, expected_lift=LIFT, basis="no users yet", vanished=12)
    text = " ".join(printed(explanation("cta", Segmentation(config=config), CHECK, metrics, None)).split())
    assert "cta: segmentation MANUAL, by source auto-activation is on" in text
    assert "expected lift +1.23 points (90 % interval +0.40 to +2.06) measured lift not enough data" in text
    assert "evidence that the lift vanished 12 (needed 500); with enough, turning off is recommended" in text
    assert "last assignment 2026-03-02 00:00:00 UTC last conversion never" in text
    assert "drain all events are stored" in text


def test_evidence_far_beyond_the_bound_is_a_word() -> None:
    certain = pb.Recommendation(e_value=3.18e84, e_value_needed=240, days=1)
    text = " ".join(printed(check_lines("cta", pb.CheckEligibilityResponse(recommendations=[certain]))).split())
    assert "evidence overwhelming (needed 240); 0 users of 1 day" in text


def test_the_bound_that_is_printed_is_the_one_that_decides() -> None:
    assert VANISHED_FROM == VANISHED_BOUND
