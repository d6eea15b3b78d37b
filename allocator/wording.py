"""How figures are written for people. This module imports nothing, so that the command line starts fast."""

_OVERWHELMING = 1_000.0  # times the evidence that is needed; the digits of more say nothing to people


def evidence_text(e_value: float, needed: float) -> str:
    """Write an e-value beside the one that is needed: "210 (needed 160)", or "overwhelming (needed 160)"."""
    if e_value >= _OVERWHELMING * needed:
        return f"overwhelming (needed {needed:,.0f})"
    figure = f"{e_value:,.0f}" if e_value >= 100 else f"{e_value:.3g}"
    return f"{figure} (needed {needed:,.0f})"


def lift_text(value: float, lower: float, upper: float) -> str:
    """Write a lift in conversion rate (0.01 is one point) with its 90 % interval, in percentage points."""
    return f"{100 * value:+.2f} points (90 % interval {100 * lower:+.2f} to {100 * upper:+.2f})"


def percent_text(share: float) -> str:
    """Write a share of 1 as a whole percentage: "95 %"."""
    return f"{100 * share:.0f} %"


def count_text(count: int, noun: str) -> str:
    """Write a count with its noun, which has a plural in -s: "1 day", "2 days"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
