"""Whether an experiment should be segmented: every condition, with a sentence for people."""

from collections.abc import Sequence
from dataclasses import dataclass

from allocator.context import DIMENSIONS, UNKNOWN
from allocator.estimates import Estimate
from allocator.segmentation.dimension_counts import DimensionCounts
from allocator.segmentation.evidence import SegmentationEvidence, segmentation_evidence
from allocator.segmentation.expected_lift import expected_lift
from allocator.wording import count_text, evidence_text, lift_text, percent_text

_LEAST_COVERAGE = 0.8  # share of users for whom the dimension is known
_LARGEST_SHARE = 0.95  # of users with the same value
_LEAST_SEGMENTS = 2  # values with enough trials for a posterior of their own
_LEAST_DAYS = 2


@dataclass(frozen=True)
class Condition:
    """One thing that must hold. `detail` says the figure, and what is missing if it does not hold."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class DimensionReport:
    """What speaks for segmenting by one dimension, and what speaks against it.

    dimension: its name in contexts. coverage: the share of users for whom it is known.
    largest_share: the share of users with the most frequent value.
    segments: how many values have enough trials for a posterior of their own.
    trials, days: how many mature users the report rests on, and of how many days.
    evidence: None if the dimension is not usable: it is known for too few users, nearly all users have the same value,
        or another dimension divides the users in the same way.
    expected: the lift that segmenting by it would bring; computed only if there is enough evidence.
    problem: why the dimension is not recommended; empty if it is.
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
    """The conditions, all dimensions with the strongest evidence first, and the best one to segment by, if any."""

    conditions: tuple[Condition, ...]
    dimensions: tuple[DimensionReport, ...]
    best: DimensionReport | None

    @property
    def is_eligible(self) -> bool:
        """Return whether every condition holds."""
        return all(condition.holds for condition in self.conditions)


def check_eligibility(
    preconditions: Sequence[Condition],
    visitors: int,
    threshold: int,
    counts: Sequence[DimensionCounts],
    min_samples: int,
) -> Eligibility:
    """Check whether to segment, and by which dimension.

    Args:
        preconditions: conditions of the caller; they come first in the result.
        visitors, threshold: distinct users on the busiest of the last full days, and how many are needed.
        counts: all users under the dimension '' and the value '', and every dimension, with the same days and arms.
        min_samples: trials that a segment needs for a posterior of its own.
    """
    everyone = next((each for each in counts if not each.dimension), None)
    days = 0 if everyone is None else int((everyone.trials.sum((1, 2)) > 0).sum())
    reports: list[DimensionReport] = []
    if everyone is not None and days:
        full = sorted((each.with_unknown(everyone) for each in counts if each.dimension), key=_rank)
        problems = _usability_problems(full)
        usable = sum(not problem for problem in problems)
        reports = [
            _report(each, problem, usable, min_samples, days) for each, problem in zip(full, problems, strict=True)
        ]
        reports.sort(key=_strength, reverse=True)
    best = max((each for each in reports if not each.problem and each.expected), key=_expected_value, default=None)
    conditions = (
        *preconditions,
        _traffic(visitors, threshold),
        _days(days),
        _usability(reports),
        _samples(reports, min_samples),
        _evidence(reports),
        _lift(reports, best),
    )
    return Eligibility(conditions, tuple(reports), best)


def _rank(counts: DimensionCounts) -> int:
    """Return the position of a dimension in DIMENSIONS; custom attributes come last."""
    return DIMENSIONS.index(counts.dimension) if counts.dimension in DIMENSIONS else len(DIMENSIONS)


def _usability_problems(dimensions: Sequence[DimensionCounts]) -> list[str]:
    """Return for each dimension why it is not usable; an empty text if it is."""
    found = []
    seen: dict[tuple[bytes, ...], str] = {}
    for each in dimensions:
        coverage, largest = _coverage(each), _largest_share(each)
        if coverage < _LEAST_COVERAGE:
            found.append(f"known for {percent_text(coverage)} of users; {percent_text(_LEAST_COVERAGE)} are needed")
        elif largest > _LARGEST_SHARE:
            found.append(
                f"{percent_text(largest)} of users have the same value; at most {percent_text(_LARGEST_SHARE)} may"
            )
        else:
            same = seen.setdefault(each.division, each.dimension)
            found.append("" if same == each.dimension else f"divides users in the same way as {same}")
    return found


def _report(counts: DimensionCounts, problem: str, usable: int, min_samples: int, days: int) -> DimensionReport:
    trials = counts.trials.sum((0, 2))
    segments = int((trials >= max(min_samples, 1)).sum())
    evidence, expected = None, None
    if not problem:
        evidence = segmentation_evidence(counts.trials, counts.successes, looked_at=usable)
        if evidence.is_enough:
            expected = expected_lift(counts.trials, counts.successes)
        problem = _benefit_problem(evidence, expected, segments)
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


def _benefit_problem(evidence: SegmentationEvidence, expected: Estimate | None, segments: int) -> str:
    if evidence.e_value < evidence.needed:
        return f"too little evidence: {evidence_text(evidence.e_value, evidence.needed)}"
    if not evidence.every_arm_is_beaten:
        return "one variant is good enough for every value"
    if segments < _LEAST_SEGMENTS:
        return "fewer than two values have enough users"
    if expected is None or expected.value <= 0:
        return "no lift is expected"
    return ""


def _coverage(counts: DimensionCounts) -> float:
    trials = counts.trials.sum((0, 2))
    unknown = sum(trials[index] for index, value in enumerate(counts.values) if value == UNKNOWN)
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


def _days(days: int) -> Condition:
    detail = f"{count_text(days, 'full day')} with mature users; {_LEAST_DAYS} are needed"
    return Condition("days", days >= _LEAST_DAYS, detail)


def _usability(reports: Sequence[DimensionReport]) -> Condition:
    usable = sorted(each.dimension for each in reports if each.evidence)
    if usable:
        return Condition("dimensions", True, f"users can be divided by {', '.join(usable)}")
    problems = "; ".join(f"{each.dimension}: {each.problem}" for each in reports[:3])
    return Condition("dimensions", False, f"no dimension can divide the users ({problems or 'no users yet'})")


def _samples(reports: Sequence[DimensionReport], min_samples: int) -> Condition:
    most = max(reports, key=lambda each: each.segments if each.evidence else 0, default=None)
    if most is None or not most.evidence:
        return Condition("samples", False, f"no segments; {_LEAST_SEGMENTS} with {min_samples:,} users each are needed")
    segments = count_text(most.segments, "segment")
    detail = f"{most.dimension} has {segments} with at least {min_samples:,} users; {_LEAST_SEGMENTS} are needed"
    return Condition("samples", most.segments >= _LEAST_SEGMENTS, detail)


def _evidence(reports: Sequence[DimensionReport]) -> Condition:
    enough = [each for each in reports if each.evidence and each.evidence.is_enough]
    shown = next(iter(enough or [each for each in reports if each.evidence]), None)
    if shown is None or shown.evidence is None:
        return Condition("evidence", False, "none, because no dimension can divide the users")
    found = shown.evidence
    detail = f"{shown.dimension}: {evidence_text(found.e_value, found.needed)}"
    if not found.every_arm_is_beaten:
        detail += "; one variant is good enough for every value"
    return Condition("evidence", bool(enough), detail)


def _lift(reports: Sequence[DimensionReport], best: DimensionReport | None) -> Condition:
    if best is not None and best.expected is not None:
        lift = best.expected
        return Condition(
            "lift",
            True,
            f"{best.dimension}: {lift_text(lift.value, lift.lower, lift.upper)} expected",
        )
    tried = next((each for each in reports if each.evidence and each.evidence.is_enough), None)
    if tried is None:
        return Condition("lift", False, "computed once there is enough evidence")
    return Condition("lift", False, f"{tried.dimension}: {tried.problem}")
