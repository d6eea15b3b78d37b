"""The text of notices, their recipients, and alerts in a terminal."""

import io
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr, ValidationError
from rich.console import Console
from samplit.admin.v1.alert_service_pb2 import ALERT_KIND_BOT_SURGE, ALERT_KIND_DRAIN_LAG, Alert

from allocator.experiment import Experiment, ExperimentState, SegmentationConfig, Variant
from server.cli.views.alerts import alerts_table
from server.notifications.notices import NoticeKind, render, render_digest
from server.notifications.recipients import OWNER, Recipients
from server.settings import Settings

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
FIELDS = {
    NoticeKind.SEGMENTATION_ACTIVATED: {
        "what": "source and device",
        "expected": "+0.8 points [0.2, 1.4]",
        "evidence": "210, of 160 needed",
        "traffic": "2,300 visitors a day",
    },
    NoticeKind.SEGMENTATION_DEACTIVATED: {
        "what": "source",
        "why": "its benefit has vanished",
        "measured": "-0.1 points [-0.4, 0.2]",
    },
    NoticeKind.RECOMMENDATION_MADE: {"what": "segment by source", "why": "another variant wins on Instagram"},
    NoticeKind.ALERT_RAISED: {
        "problem": "bots have sent 5,000 requests today",
        "next_step": "Block these bots at the edge.",
    },
    NoticeKind.ALERT_RESOLVED: {"problem": "bots have sent 5,000 requests today"},
}


def experiment(name: str = "Homepage CTA") -> Experiment:
    variants = (Variant(0, "control", "Control", {}), Variant(1, "a", "A", {}))
    return Experiment(
        number=1,
        experiment_id="homepage-cta",
        name=name,
        description="",
        owner="",
        state=ExperimentState.RUNNING,
        variants=variants,
        control_variant_id="control",
        primary_metric="conversion",
        segmentation=SegmentationConfig(),
        segmentation_version=1,
        holdout_share=0,
        baseline_share=0,
        time_zone="UTC",
        salt=bytes(16),
        revision=1,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize("kind", NoticeKind)
def test_every_notice_says_what_where_and_what_next(kind: NoticeKind) -> None:
    subject, body = render(experiment(), kind, **FIELDS[kind])
    assert subject.startswith("Homepage CTA: ")
    assert len(subject.splitlines()) == 1
    for value in FIELDS[kind].values():
        assert value in body
    commands = [line for line in body.splitlines() if "samplit " in line]
    assert commands
    assert all("homepage-cta" in line for line in commands)
    assert "{" not in subject + body
    with pytest.raises(KeyError):
        render(experiment(), kind)


def test_names_are_text() -> None:
    subject, body = render(
        experiment("{id}\nBcc: x@example.com {0}"),
        NoticeKind.ALERT_RAISED,
        problem="{name} is " * 50,
        next_step="{id}",
    )
    assert subject.startswith("{id} Bcc: x@example.com {0}: {name} is {name}")
    assert len(subject) == 200
    assert "{id} Bcc: x@example.com {0} needs attention: {name} is" in body
    assert "What to do: {id}" in body


def test_of_the_installation() -> None:
    subject, body = render(None, NoticeKind.ALERT_RAISED, problem="events wait", next_step="Check the worker.")
    assert subject == "Samplit: events wait"
    assert body.endswith("samplit alerts list")


def test_a_digest_lists_subjects() -> None:
    subject, body = render_digest("CTA\n!", "cta", [f"CTA: {n}" for n in range(1_102)])
    assert subject == "CTA !: 1,102 notices of the last hour"
    assert "- CTA: 99\n- and 1,002 more" in body
    assert body.endswith("samplit alerts list cta")
    assert render_digest("", "", ["Samplit: a"])[0] == "Samplit: 1 notice of the last hour"


@pytest.mark.parametrize(
    ("owner", "gets"),
    [
        ("alice@example.com", True),
        ("o'neil+cta@mail.example.co.uk", True),
        ("", False),
        ("Alice", False),
        ("alice@localhost", False),
        ("alice@example.com,mallory@example.com", False),
        ("alice@example.com mallory@example.com", False),
        ("alice@example.com\n", False),
        ("Alice <alice@example.com>", False),
    ],
)
def test_owners_with_an_address_are_told(owner: str, gets: bool) -> None:
    recipients = Recipients(["a://", "b://"], "mailto://host?to={owner}")
    assert recipients.names == ("1", "2", OWNER)
    assert recipients.names_for(owner) == (("1", "2", OWNER) if gets else ("1", "2"))


def test_urls_by_name() -> None:
    settings = Settings(
        notify_urls=SecretStr(" slack://a/b/c\n\nmailto://d "), notify_owner_url=SecretStr("mailto://e?to={owner}&x=1")
    )
    recipients = Recipients.of(settings)
    assert recipients.names == ("1", "2", OWNER)
    assert [recipients.url(name, "") for name in ("1", "2", "3")] == ["slack://a/b/c", "mailto://d", ""]
    assert recipients.url(OWNER, "a&b=c@example.com") == "mailto://e?to=a%26b%3Dc%40example.com&x=1"
    assert Recipients.of(Settings()).names == ()
    assert Recipients.of(Settings(notify_urls=SecretStr(""), notify_owner_url=SecretStr(""))).names == ()
    assert "slack" not in f"{settings!r} {recipients!r}"
    assert settings.environment()["SAMPLIT_NOTIFY_URLS"] == " slack://a/b/c\n\nmailto://d "
    with pytest.raises(ValidationError, match=r"must have \{owner\}"):
        Settings(notify_owner_url=SecretStr("mailto://e"))


def test_alerts_fit_into_80_columns() -> None:
    stamp = Timestamp()
    stamp.FromDatetime(NOW)
    open_one = Alert(
        alert_id="0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10",
        experiment_id="cta",
        kind=ALERT_KIND_BOT_SURGE,
        summary="[b]bots have asked 5,000 times today, 300 times on a usual day, and there are 900 visitors",
        raised_at=stamp,
    )
    over = Alert(
        kind=ALERT_KIND_DRAIN_LAG, raised_at=stamp, resolved_at=stamp, acknowledged_at=stamp, acknowledged_by="5f0c2a9b"
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(alerts_table([open_one, over]))
    printed = console.export_text()
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 80
    for part in (
        "2026-11-25 10:00",
        "cta: [b]bots have asked",
        "BOT_SURGE",
        open_one.alert_id,
        "acknowledged by 5f0c2a9b, 2026-11-25 10:00:00 UTC",
        "over since 2026-11-25 10:00:00 UTC",
    ):
        assert part in printed
