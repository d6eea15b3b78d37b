"""Texts of other people cannot steer the terminal, whichever command prints them."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from samplit.admin.v1 import (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    segmentation_service_pb2,
)

from allocator.printable import escaped, has_controls
from server.cli.escaping import escape_message
from server.cli.views.alerts import alerts_table
from server.cli.views.assignment import explanation_fields
from server.cli.views.audit import audit_table
from server.cli.views.clusters import clusters_table
from server.cli.views.experiments import experiment_fields, experiments_table, variants_table
from server.cli.views.keys import keys_table
from server.cli.views.results import results_table
from server.cli.views.segments import segments_table
from storage.postgres.operations.api_keys import ApiKey

EVIL = "\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\x9b31m\u2028"
VISIBLE = r"\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\x9b31m\u2028"


def variant() -> experiment_pb2.Variant:
    made = experiment_pb2.Variant(variant_id="a", name=EVIL)
    made.content[EVIL] = EVIL
    return made


EXPERIMENT = experiment_pb2.Experiment(
    experiment_id="x", name=EVIL, description=EVIL, owner=EVIL, variants=[variant(), variant()]
)
RESULTS = experiment_service_pb2.GetExperimentResultsResponse(
    segments=[
        experiment_service_pb2.SegmentResult(
            segment_key=EVIL,
            segment_display_name=EVIL,
            variants=[experiment_service_pb2.VariantResult(variant_id="a", name=EVIL)],
        )
    ]
)
TABLES = {
    "experiments": experiments_table([EXPERIMENT]),
    "experiment": experiment_fields(EXPERIMENT),
    "variants": variants_table(EXPERIMENT),
    "results": results_table(RESULTS),
    "segments": segments_table([segmentation_service_pb2.Segment(segment_display_name=EVIL)]),
    "alerts": alerts_table([alert_service_pb2.Alert(experiment_id="x", summary=EVIL)]),
    "audit": audit_table([audit_service_pb2.AuditEvent(actor=EVIL, action="key.created", after={"name": EVIL})]),
    "clusters": clusters_table(
        clustering_service_pb2.ClusterModel(
            clusters=[clustering_service_pb2.Cluster(segment_key="cluster:1", name=EVIL)]
        )
    ),
    "assignment": explanation_fields(
        experiment_service_pb2.ExplainAssignmentResponse(
            variant={"variant_id": "a", "name": EVIL}, context={"source": EVIL}
        )
    ),
    "keys": keys_table([ApiKey("5f0c2a9b", EVIL, ("admin",), datetime.now(UTC), None, None, None)]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    stream = io.StringIO()
    Console(file=stream, width=400, color_system=None).print(TABLES[name])
    printed = stream.getvalue()
    assert not has_controls(printed, breaks=True)
    assert "evil" in printed


def test_every_text_of_an_answer() -> None:
    """So that no command can forget one."""
    answer = experiment_service_pb2.GetExperimentResponse(experiment=EXPERIMENT)
    explained = experiment_service_pb2.ExplainAssignmentResponse(context={EVIL: EVIL})
    segmentation = experiment_pb2.SegmentationConfig(segment_by=[EVIL, "source"])
    for message in (answer, explained, segmentation):
        escape_message(message)
    assert answer.experiment.name == VISIBLE
    assert dict(answer.experiment.variants[1].content) == {VISIBLE: VISIBLE}
    assert dict(explained.context) == {VISIBLE: VISIBLE}
    assert list(segmentation.segment_by) == [VISIBLE, "source"]


@pytest.mark.parametrize("text", ["Größe", "日本語", "שלום", "می\u200cخواهم", "👩\u200d💻", "a\nb\tc"])
def test_texts_of_people_stay(text: str) -> None:
    assert escaped(text) == text
    assert not has_controls(text, breaks=True)
