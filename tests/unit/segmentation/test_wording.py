"""Numbers in messages to people."""

import pytest

from allocator.wording import count_text, evidence_text, lift_text, percent_text


@pytest.mark.parametrize(
    ("e_value", "needed", "text"),
    [
        (3.18e84, 240, "overwhelming (needed 240)"),
        (240_000.0, 240, "overwhelming (needed 240)"),
        (239_999.0, 240, "239,999 (needed 240)"),
        (210.4, 160, "210 (needed 160)"),
        (6.578, 20, "6.58 (needed 20)"),
        (0.0004321, 1_200, "0.000432 (needed 1,200)"),
    ],
)
def test_evidence(e_value: float, needed: float, text: str) -> None:
    assert evidence_text(e_value, needed) == text


def test_lifts_shares_and_counts() -> None:
    assert lift_text(0.0071, -0.0025, 0.0117) == "+0.71 points (90 % interval -0.25 to +1.17)"
    assert percent_text(0.954) == "95 %"
    assert [count_text(count, "day") for count in (0, 1, 1_000)] == ["0 days", "1 day", "1,000 days"]
