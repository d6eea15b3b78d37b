"""The table of audit events."""

import io
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from samplit.admin.v1.audit_service_pb2 import AuditEvent

from server.cli.views.audit import audit_table


def event(before: dict[str, Any], after: dict[str, Any], **fields: Any) -> AuditEvent:
    message = AuditEvent(
        at=Timestamp(seconds=1_800_000_000), actor="5f0c2a9b", action="experiment.update", experiment_id="cta"
    )
    message.MergeFrom(AuditEvent(**fields))
    ParseDict(before, message.before)
    ParseDict(after, message.after)
    return message


def printed(*events: AuditEvent) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(audit_table(events))
    lines = [line.rstrip() for line in console.export_text().splitlines() if line.strip()]
    assert max(map(len, lines)) <= 80
    return lines[2:]


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The last column, which short texts leave in one piece."""
    begin = len(" 2027-01-15 08:00  5f0c2a9b  experiment.update     ")
    return [line[begin:].strip() for line in printed(event(before, after)) if line[begin:].strip()]


def test_a_change_has_its_time_its_actor_and_its_experiment() -> None:
    lines = printed(event({"holdout_share": 0}, {"holdout_share": 0.05}))
    assert lines[0].split(maxsplit=4) == [
        "2027-01-15", "08:00", "5f0c2a9b", "experiment.update", "holdout share: 0 → 0.05"
    ]  # fmt: skip
    assert lines[1].strip() == "cta"
    long = event({}, {}, experiment_id="x" * 63, action="segmentation.serves", actor="samplit")
    assert "".join(line.strip() for line in printed(long)[1:]) == "x" * 63


def test_values_are_said_in_short() -> None:
    assert changes({"a_b": []}, {"a_b": ["x", "y"]}) == ["a b: – → x, y"]
    assert changes({"a": True, "b": None}, {"a": 1, "b": "[bold]"}) == ["a: true → 1", "b: – → [bold]"]
    assert changes({"a": "x"}, {}) == ["a: x → –"]
    assert changes({}, {"a": "x", "b": "", "c": 0}) == ["a: x", "c: 0"]
    assert changes({"v": {"a_b": {"n": 1}}}, {"v": {"a_b": {"n": {"m": "x"}}}}) == ['v.a_b.n: 1 → {"m": "x"}']
    assert changes({"same": 1}, {"same": 1}) == ["–"]


def test_what_is_long_is_cut() -> None:
    line = "".join(changes({"a": "x" * 50}, {"a": "x" * 50 + "y"}))
    assert line.replace(" ", "") == f"a:{'x' * 39}…→{'x' * 39}…"
    many = {f"n{n}": n for n in range(9)} | {"state": "DRAFT"}
    assert changes({}, many) == ["state: DRAFT", "n0: 0", "n1: 1", "n2: 2", "and 6 more"]
