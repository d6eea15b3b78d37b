"""Whether an experiment should be segmented, condition by condition, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from allocator.context import DIMENSIONS, UNKNOWN
from allocator.estimates import Estimate
from allocator.segmentation.dimension_counts import DimensionCounts
from allocator.segmentation.evidence import SegmentationEvidence, segmentation_evidence
from allocator.segmentation.expected_lift import expected_lift

_LEAST_COVERAGE = 0.8  # share of users of whom the dimension is known
_LARGEST_SHARE = 0.95  # of one value
_LEAST_SEGMENTS = 2  # with samples enough
_LEAST_DAYS = 2


@dataclass(frozen=True)
class Condition:
    """One thing that must hold. `detail` has its figure, and what is missing where it does not hold."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class DimensionReport:
    """What speaks for segmenting by one dimension, named as in contexts.

    coverage: share of users of whom it is known. largest_share: of users with the most frequent value. segments:
    values that have trials enough for a posterior of their own. trials, days: that all this rests on.
    evidence: None where the dimension is not looked at, since too few are known, or nearly all are alike.
    expected: what segmenting by it would bring; asked for only where the evidence is there.
    problem: why it is not recommended; empty if it is.
    """

    dimension: str
    coverage: float
    largest_share: float
    segments: int
    trials: int
    days: int
    evidence: SegmentationEvidence | None
    expected: Estimate | None
    problem: str


@dataclass(frozen=True)
class Eligibility:
    """The conditions, every dimension with the strongest evidence first, and what to segment by, if anything."""

    conditions: tuple[Condition, ...]
    dimensions: tuple[DimensionReport, ...]
    best: DimensionReport | None

    @property
    def is_eligible(self) -> bool:
        """Whether every condition holds."""
        return all(condition.holds for condition in self.conditions)


def check_eligibility(
    preconditions: Sequence[Condition],
    visitors: int,
    threshold: int,
    counts: Sequence[DimensionCounts],
    min_samples: int,
) -> Eligibility:
    """Look at everything that is known.

    Args:
        preconditions: what else must hold, first in the list.
        visitors, threshold: distinct users of the busiest full day of late, and how many there must be.
        counts: everyone under dimension '' and value '', then every dimension, all with the same days and arms.
        min_samples: trials that a segment needs.
    """
    everyone = next((each for each in counts if not each.dimension), None)
    days = 0 if everyone is None else int((everyone.trials.sum((1, 2)) > 0).sum())
    reports: list[DimensionReport] = []
    if everyone is not None and days:
        full = sorted((each.with_unknown(everyone) for each in counts if each.dimension), key=_rank)
        unfit = _unfit(full)
        looked_at = sum(not problem for problem in unfit)
        reports = [
            _report(each, problem, looked_at, min_samples, days) for each, problem in zip(full, unfit, strict=True)
        ]
        reports.sort(key=_strength, reverse=True)
    best = max((each for each in reports if not each.problem and each.expected), key=_expected_value, default=None)
    conditions = (
        *preconditions,
        _traffic(visitors, threshold),
        Condition("days", days >= _LEAST_DAYS, f"{days} full days with mature users; {_LEAST_DAYS} are needed"),
        _fitness(reports),
        _samples(reports, min_samples),
        _evidence(reports),
        _lift(reports, best),
    )
    return Eligibility(conditions, tuple(reports), best)


def _rank(counts: DimensionCounts) -> int:
    """Where a dimension is in the list that people know; custom attributes come last."""
    return DIMENSIONS.index(counts.dimension) if counts.dimension in DIMENSIONS else len(DIMENSIONS)


def _unfit(dimensions: Sequence[DimensionCounts]) -> list[str]:
    """Why each is not looked at; empty if it is."""
    found = []
    seen: dict[tuple[bytes, ...], str] = {}
    for each in dimensions:
        coverage, largest = _coverage(each), _largest_share(each)
        if coverage < _LEAST_COVERAGE:
            found.append(f"known of {coverage:.0%} of users; {_LEAST_COVERAGE:.0%} are needed")
        elif largest > _LARGEST_SHARE:
            found.append(f"{largest:.0%} of users have one value; at most {_LARGEST_SHARE:.0%} may")
        else:
            same = seen.setdefault(each.division, each.dimension)
            found.append("" if same == each.dimension else f"it divides users as {same} does")
    return found


def _report(counts: DimensionCounts, problem: str, looked_at: int, min_samples: int, days: int) -> DimensionReport:
    trials = counts.trials.sum((0, 2))
    segments = int((trials >= max(min_samples, 1)).sum())
    evidence, expected = None, None
    if not problem:
        evidence = segmentation_evidence(counts.trials, counts.successes, looked_at=looked_at)
        if evidence.is_enough:
            expected = expected_lift(counts.trials, counts.successes)
        problem = _unproven(evidence, expected, segments)
    return DimensionReport(
        counts.dimension,
        _coverage(counts),
        _largest_share(counts),
        segments,
        int(trials.sum()),
        days,
        evidence,
        expected,
        problem,
    )


def _unproven(evidence: SegmentationEvidence, expected: Estimate | None, segments: int) -> str:
    if evidence.e_value < evidence.needed:
        return f"evidence {evidence.e_value:,.3g} of {evidence.needed:,.0f}"
    if not evidence.every_arm_is_beaten:
        return "one variant leads everywhere or nearly so"
    if segments < _LEAST_SEGMENTS:
        return "fewer than two values have users enough"
    if expected is None or expected.value <= 0:
        return "no lift is to be expected"
    return ""


def _coverage(counts: DimensionCounts) -> float:
    trials = counts.trials.sum((0, 2))
    unknown = sum(trials[place] for place, value in enumerate(counts.values) if value == UNKNOWN)
    return 1 - float(unknown / max(trials.sum(), 1))


def _largest_share(counts: DimensionCounts) -> float:
    trials = counts.trials.sum((0, 2))
    return float(trials.max(initial=0) / max(trials.sum(), 1))


def _strength(report: DimensionReport) -> float:
    return report.evidence.e_value if report.evidence else 0.0


def _expected_value(report: DimensionReport) -> float:
    return report.expected.value if report.expected else 0.0


def _traffic(visitors: int, threshold: int) -> Condition:
    missing = threshold - visitors
    detail = f"{visitors:,} visitors on the busiest of the last seven full days; {threshold:,} are needed"
    return Condition("traffic", missing <= 0, detail + (f", {missing:,} more" if missing > 0 else ""))


def _fitness(reports: Sequence[DimensionReport]) -> Condition:
    fit = [each.dimension for each in reports if each.evidence]
    if fit:
        return Condition("dimensions", True, f"{', '.join(sorted(fit))} are known and divide users")
    why = "; ".join(f"{each.dimension}: {each.problem}" for each in reports[:3])
    return Condition("dimensions", False, f"nothing divides users that is known of them ({why or 'no users yet'})")


def _samples(reports: Sequence[DimensionReport], min_samples: int) -> Condition:
    most = max(reports, key=lambda each: each.segments if each.evidence else 0, default=None)
    if most is None or not most.evidence:
        return Condition("samples", False, f"no segments; {_LEAST_SEGMENTS} with {min_samples:,} users are needed")
    detail = f"{most.dimension} has {most.segments} segments with {min_samples:,} users; {_LEAST_SEGMENTS} are needed"
    return Condition("samples", most.segments >= _LEAST_SEGMENTS, detail)


def _evidence(reports: Sequence[DimensionReport]) -> Condition:
    enough = [each for each in reports if each.evidence and each.evidence.is_enough]
    shown = next(iter(enough or [each for each in reports if each.evidence]), None)
    if shown is None or shown.evidence is None:
        return Condition("evidence", False, "none: no dimension is looked at")
    found = shown.evidence
    detail = f"{shown.dimension}: {found.e_value:,.3g} of {found.needed:,.0f} needed"
    if not found.every_arm_is_beaten:
        detail += "; some variant is beaten nowhere, so that one for everyone would do"
    return Condition("evidence", bool(enough), detail)


def _lift(reports: Sequence[DimensionReport], best: DimensionReport | None) -> Condition:
    if best is not None and best.expected is not None:
        lift = best.expected
        return Condition(
            "lift",
            True,
            f"{best.dimension}: {lift.value:+.2%} expected, 90 % interval {lift.lower:+.2%} to {lift.upper:+.2%}",
        )
    tried = next((each for each in reports if each.evidence and each.evidence.is_enough), None)
    if tried is None:
        return Condition("lift", False, "told once the evidence is there")
    return Condition("lift", False, f"{tried.dimension}: {tried.problem}")
