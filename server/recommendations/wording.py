"""How numbers of recommendations are written for people. It imports nothing, so that the command line starts fast."""

_OVERWHELMING = 1_000.0  # times the evidence that is needed


def lift_text(value: float, lower: float, upper: float) -> str:
    """Write a lift in conversion rate (0.01 is one point) with its 90 % interval, in percentage points."""
    return f"{100 * value:+.2f} points (90 % interval {100 * lower:+.2f} to {100 * upper:+.2f})"


def evidence_text(e_value: float, needed: float) -> str:
    """Write an e-value beside the one that is needed. One far beyond it is a word, since its digits tell nothing."""
    if e_value >= _OVERWHELMING * needed:
        return f"overwhelming (needed {needed:,.0f})"
    digits = f"{e_value:,.0f}" if e_value >= 100 else f"{e_value:.3g}"
    return f"{digits} (needed {needed:,.0f})"
