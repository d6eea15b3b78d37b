"""Tables of segments and audiences."""

import io

from rich.console import Console
from rich.table import Table
from samplit.admin.v1.experiment_service_pb2 import Estimate
from samplit.admin.v1.segmentation_service_pb2 import AudienceGroup, GetAudienceBreakdownResponse, Segment

from server.cli.views.segments import audience_table, segments_table

RATE = Estimate(value=0.108, lower=0.052, upper=0.211)


def printed(table: Table) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_segments_fit_into_80_columns() -> None:
    large = Segment(
        segment_display_name="Instagram · Mobile",
        allocations=34_567,
        traffic_share=0.987,
        rate=RATE,
        leading_variant_id="variant-a",
        leading_probability=0.97,
    )
    lines = printed(segments_table([large, Segment(segment_display_name="[b]Other")]))
    assert max(map(len, lines)) <= 80
    assert any(
        line.split()
        == ["Instagram", "·", "Mobile", "34,567", "98.7%", "10.8%", "[5.2%,", "21.1%]", "variant-a", "(97%)"]
        for line in lines
    )
    assert any("[b]Other" in line and line.endswith("–") for line in lines)


def test_an_audience_ends_with_the_rest() -> None:
    answer = GetAudienceBreakdownResponse(
        groups=[AudienceGroup(values=["[b]google", "mobile"], allocations=7, conversions=3, rate=RATE)],
        rest=AudienceGroup(allocations=5),
    )
    lines = [line for line in printed(audience_table(["source", "device"], answer)) if line]
    assert "source, device" in lines[0]
    assert "[b]google · mobile" in lines[2]
    assert lines[3].split() == ["all", "others", "5", "0", "–"]
