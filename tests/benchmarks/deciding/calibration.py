"""How often nominal 90 % intervals contain the truth, over whole simulated experiments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from allocator.estimates import Array, Estimate, adaptive_lift, segmentation_lift, variant_contrast, variant_rate
from tests.benchmarks.row import Row
from tests.support.simulate_experiment import CONTROL, Design, Simulated, simulate

_SEED = 3
_REPETITIONS = 1_000
_USERS = 10_000
_DAYS = 25
_RATES = np.array([0.08, 0.10, 0.12])
_SEGMENT_SCALES = np.array([0.6, 0.9, 1.2, 1.5])
_BASELINE_SHARE = 0.1
_HOLDOUT_SHARE = 0.1
_NOMINAL = 0.9
_LOWEST, _HIGHEST = 0.86, 0.94
_MOST_FALSE = 0.115

# (estimate's name, its arm or segment, the estimate, sample mean or None, truth)
_Claim = tuple[str, str, Estimate | None, Estimate | None, float]


@dataclass(frozen=True)
class _Case:
    """One design. The day's rates fall from 1 + drift to 1 − drift times the mean while allocation converges."""

    segmented: bool
    floor: float
    drift: float
    equal: bool

    @property
    def name(self) -> str:
        """Return the description of the design in the figure."""
        kind = "4 segments" if self.segmented else "unsegmented"
        drift = f"±{self.drift:.0%} drift" if self.drift else "stationary"
        return f"{kind}, floor {self.floor:.0%}, {drift}{', equal arms' if self.equal else ''}"

    def design(self) -> Design:
        """Return the design. In each segment another arm is the best, unless all are equal."""
        arms = np.full(3, _RATES.mean()) if self.equal else _RATES
        scales = _SEGMENT_SCALES if self.segmented else np.ones(1)
        table = np.stack([scale * np.roll(arms, segment) for segment, scale in enumerate(scales)])
        day = 1 + self.drift * np.linspace(1, -1, _DAYS)
        baseline_share = _BASELINE_SHARE if self.segmented else 0.0
        return Design(day[:, None, None] * table, _USERS, self.floor, baseline_share, _HOLDOUT_SHARE)


def rows() -> list[Row]:
    """Measure the coverage of every estimate in eight designs, and false lifts in four designs without a lift."""
    cases = [_Case(s, f, d, False) for s, f, d in product((False, True), (0.01, 0.05), (0.0, 0.3))]
    cases += [_Case(True, f, d, True) for f, d in product((0.01, 0.05), (0.0, 0.3))]
    return [row for number, case in enumerate(cases) for row in _case_rows(number, case)]


def _case_rows(number: int, case: _Case) -> list[Row]:
    design = case.design()
    claims: dict[str, list[_Claim]] = {}
    for repetition in range(_REPETITIONS):
        simulated = simulate(design, np.random.default_rng([_SEED, number, repetition]))
        for claim in _claims(case, design, simulated):
            claims.setdefault(claim[0], []).append(claim)
    if case.equal:
        return [_false_row(case, what, made) for what, made in claims.items() if "lift" in what]
    return [_coverage_row(case, what, made) for what, made in claims.items()]


def _claims(case: _Case, design: Design, simulated: Simulated) -> Iterator[_Claim]:
    """Return every estimate of one experiment, with the truth for its users."""
    log = simulated.log
    users = log.users[:, :, None]
    total = users.sum()
    true = (users * design.rates).sum((0, 1)) / total
    means = [_sample_mean(log.successes[..., arm].sum(), log.trials[..., arm].sum()) for arm in range(true.size)]
    for arm in range(true.size):
        yield "rate", str(arm), variant_rate(log, arm), means[arm], true[arm]
    for one, other in combinations(range(true.size), 2):
        contrast = variant_contrast(log, one, other)
        yield "contrast", f"{one}-{other}", contrast, _difference(means[one], means[other]), true[one] - true[other]
    if case.segmented:
        for segment, arm in product(range(log.users.shape[1]), range(true.size)):
            mean = _sample_mean(log.successes[:, segment, arm].sum(), log.trials[:, segment, arm].sum())
            truth = (users * design.rates)[:, segment, arm].sum() / log.users[:, segment].sum()
            yield "rate in a segment", f"{segment}.{arm}", variant_rate(log, arm, segment), mean, truth
        policies = simulated.q_segment - simulated.q_global
        truth = (users * policies * design.rates).sum() / total
        yield "lift of segmentation", "", segmentation_lift(log), None, truth
    policies = simulated.q_segment - (np.arange(true.size) == CONTROL)
    yield "lift over control", "", adaptive_lift(log), None, (users * policies * design.rates).sum() / total


def _sample_mean(successes: float, trials: float) -> Estimate | None:
    """Return the mean as if the split had been fixed."""
    if not trials:
        return None
    mean = successes / trials
    return Estimate(mean, float(np.sqrt(mean * (1 - mean) / trials)))


def _difference(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    if one is None or other is None:
        return None
    return Estimate(one.value - other.value, float(np.hypot(one.standard_error, other.standard_error)))


def _coverage_row(case: _Case, what: str, claims: Sequence[_Claim]) -> Row:
    names = sorted({claim[1] for claim in claims})
    ours = np.array([_coverage([(c[2], c[4]) for c in claims if c[1] == name]) for name in names])
    naive = np.array([_coverage([(c[3], c[4]) for c in claims if c[1] == name]) for name in names])
    shown = sum(claim[2] is not None for claim in claims) / len(claims)
    lowest, highest = ours.min(), ours.max()
    error = np.sqrt(_NOMINAL * (1 - _NOMINAL) / _REPETITIONS)
    return Row(
        figure=f"{case.name}: {what}",
        reference=f"sample means {_range(naive)}" if not np.isnan(naive).any() else "nominal 90 %",
        ours=_range(ours),
        ratio=float(ours.mean()) / _NOMINAL,
        spread=f"SE {error:.1%} of each, {len(names)} of them, {shown:.1%} shown",
        goal=f"each covers {_LOWEST:.0%} to {_HIGHEST:.0%}",
        holds=bool(lowest >= _LOWEST and highest <= _HIGHEST),
    )


def _false_row(case: _Case, what: str, claims: Sequence[_Claim]) -> Row:
    estimates = [claim[2] for claim in claims if claim[2] is not None]
    false = sum(estimate.lower > 0 or estimate.upper < 0 for estimate in estimates) / len(estimates)
    return Row(
        figure=f"{case.name}: {what}",
        reference="nominal 10 %",
        ours=f"{false:.1%} exclude zero",
        ratio=false / (1 - _NOMINAL),
        spread=f"SE {np.sqrt(false * (1 - false) / len(estimates)):.1%}, {len(estimates) / _REPETITIONS:.1%} shown",
        goal=f"at most {_MOST_FALSE:.1%}",
        holds=false <= _MOST_FALSE,
    )


def _coverage(pairs: Sequence[tuple[Estimate | None, float]]) -> float:
    """Return the share of shown estimates whose interval contains the truth; NaN if none was shown."""
    covered = [estimate.lower <= truth <= estimate.upper for estimate, truth in pairs if estimate is not None]
    return float(np.mean(covered)) if covered else float("nan")


def _range(coverages: Array) -> str:
    if coverages.size == 1:
        return f"{coverages[0]:.1%}"
    return f"{coverages.mean():.1%} ({coverages.min():.1%} to {coverages.max():.1%})"
