"""An explained assignment as a page."""

import io

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from samplit.admin.v1 import experiment_service_pb2 as pb
from samplit.allocation.v1 import allocation_service_pb2

from server.cli.views.assignment import because, explanation_fields, replayed

INSTAGRAM = pb.SegmentName(segment_key="source:instagram", segment_display_name="Instagram")
EVERYONE = pb.SegmentName(segment_key="global", segment_display_name="Everyone")


def explanation(reason: str = "SAMPLED", **fields: object) -> pb.ExplainAssignmentResponse:
    values = {
        "assignment_id": "AbC",
        "variant": pb.AssignedVariant(variant_id="b", name="[b]B"),
        "answered_segment": INSTAGRAM,
        "credited_segment": INSTAGRAM,
        "reason": allocation_service_pb2.Reason.Value(f"REASON_{reason}"),
        "group": pb.ASSIGNMENT_GROUP_ADAPTIVE,
        "segmentation_version": 2,
        "posterior_version": 1_234,
        "config_revision": 3,
        "assigned_at": Timestamp(seconds=1_767_571_200),
        "context": {"source": "instagram", "device": "[i]mobile"},
        "propensities": pb.Propensities(drawn=0.624, marginal=0.602, q_segment=0.624, q_global=0.402),
        "replay": pb.AssignmentReplay(variant_id="b", agrees=True, propensity=0.624),
    }
    return pb.ExplainAssignmentResponse(**{**values, **fields})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "in the segment Instagram it had a chance of 62.4% and was drawn."),
        ({"answered_segment": EVERYONE}, "it had a chance of 62.4% and was drawn."),
        (
            {"answered_segment": EVERYONE, "posterior_version": 0},
            "it had a chance of 62.4% and was drawn before anything was learned.",
        ),
        (
            {"reason": "FALLBACK"},
            "the segment Instagram had too few users, so that everyone's posterior decided; it had a chance of 62.4% "
            "and was drawn.",
        ),
        (
            {"reason": "BASELINE"},
            "the user is in the baseline, which is served as if there were no segments; it had a chance of 62.4% and "
            "was drawn.",
        ),
        (
            {"reason": "HOLDOUT"},
            "the user is in the holdout, which gets the control variant whatever is learned.",
        ),
        (
            {"variant": pb.AssignedVariant(variant_id="b", name="B", retired=True), "reason": "HOLDOUT"},
            "the user is in the holdout, which gets the control variant whatever is learned. It is retired by now: the "
            "user is given the control variant.",
        ),
    ],
)
def test_the_reason_is_a_sentence(fields: dict[str, object], sentence: str) -> None:
    assert because("alice [x]", explanation(**fields)) == f"alice [x] got b because {sentence}"


def test_a_page_has_what_is_on_record() -> None:
    moved = explanation(credited_segment=EVERYONE, converted=False, converted_at=Timestamp(seconds=1_767_657_600))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(explanation_fields(moved))
    lines = [line.strip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= 80
    for expected in (
        "variant                     b ([b]B)",
        "assigned                    2026-01-05 00:00:00 UTC",
        "converted                   2026-01-06 00:00:00 UTC, too late to count",
        "segment                     Instagram (source:instagram)",
        "now counted in              Everyone (global)",
        "reason                      SAMPLED",
        "before the group is known   60.2%",
        "posterior version           1,234",
        "configuration               r3",
        "context                     device: [i]mobile",
    ):
        assert expected in lines


@pytest.mark.parametrize(
    ("reason", "replay", "sentence"),
    [
        ("SAMPLED", {"variant_id": "b", "agrees": True}, "draws the same variant, with the same probability."),
        ("HOLDOUT", {"variant_id": "b", "agrees": True}, "gives the same variant, with the same probability."),
        (
            "SAMPLED",
            {"variant_id": "c", "propensity": 0.25, "problem": "why"},
            "draws c, with a probability of 25.0%: why.",
        ),
        (
            "SAMPLED",
            {"variant_id": "b", "propensity": 0.25, "problem": "why"},
            "draws the same variant, with a probability of 25.0%: why.",
        ),
    ],
)
def test_a_replay_is_a_sentence(reason: str, replay: dict[str, object], sentence: str) -> None:
    answer = explanation(reason, replay=pb.AssignmentReplay(**replay))
    assert replayed(answer) == f"A replay from the log {sentence}"


def test_where_no_replay_is_possible_it_says_why() -> None:
    assert replayed(explanation(replay=pb.AssignmentReplay(problem="why"))) == "No replay is possible: why."
