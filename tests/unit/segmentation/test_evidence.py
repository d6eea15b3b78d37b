"""Evidence that a segmentation pays: checked by hand, independent of order, and none where there is no effect."""

import math
from collections.abc import Sequence
from itertools import permutations
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from allocator.defects import InvalidCountsError
from allocator.segmentation.evidence import LARGEST_LOG, Counts, SegmentationEvidence, Winner, segmentation_evidence

SHAPES = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 4))
Table = Sequence[Sequence[Sequence[int]]]


def _slow_lead(n: Table, y: Table, value: int, arm: int, other: int) -> tuple[float, float] | None:
    """Return ρ_x and s²_x of one arm over another in one value; None where nothing is known."""
    days = [(n[d][value][arm], n[d][value][other], y[d][value][arm], y[d][value][other]) for d in range(len(n))]
    information = sum(a * b / (a + b) for a, b, _, _ in days if a + b)
    users, converted = sum(sum(day[value]) for day in n), sum(sum(day[value]) for day in y)
    if not information or converted in (0, users):
        return None
    difference = sum((c * b - e * a) / (a + b) for a, b, c, e in days if a + b) / information
    rate = converted / users
    return difference / rate, (1 - rate) / (rate * information)


def _slow_log_likelihood(leads: list[tuple[float, float]], tau: float) -> float:
    weights = [1 / (s2 + tau**2) for _, s2 in leads]
    mean = sum(w * rho for w, (rho, _) in zip(weights, leads, strict=True)) / sum(weights)
    squares = sum(w * (rho - mean) ** 2 for w, (rho, _) in zip(weights, leads, strict=True))
    return -math.log(sum(weights)) / 2 + sum(math.log(w) for w in weights) / 2 - squares / 2


def _slow_e_value(n: Table, y: Table, values: int, arm: int, other: int) -> float:
    leads = [lead for x in range(values) if (lead := _slow_lead(n, y, x, arm, other))]
    if not leads:
        return 1.0
    null = _slow_log_likelihood(leads, 0)
    logs = [_slow_log_likelihood(leads, tau) - null for tau in (0.05, 0.1, 0.2, 0.4)]
    return sum(math.exp(min(log, LARGEST_LOG)) for log in logs) / 4


def _slow_beaten(n: Table, y: Table, value: int, arms: int) -> tuple[int, ...]:
    beaten = set()
    for arm, other in permutations(range(arms), 2):
        lead = _slow_lead(n, y, value, arm, other)
        if lead and lead[0] / math.sqrt(lead[1]) >= 1.645:
            beaten.add(other)
    return tuple(sorted(beaten))


def _slow_overall(n: Table, y: Table, values: int, arm: int, other: int) -> float | None:
    """Return by how many standard errors one arm leads another over all values."""
    difference, variance = 0.0, 0.0
    for value in range(values):
        days = [(n[d][value][arm], n[d][value][other], y[d][value][arm], y[d][value][other]) for d in range(len(n))]
        users, converted = sum(sum(day[value]) for day in n), sum(sum(day[value]) for day in y)
        rate = converted / users if users else 0
        difference += sum((c * b - e * a) / (a + b) for a, b, c, e in days if a + b)
        variance += sum(a * b / (a + b) for a, b, _, _ in days if a + b) * rate * (1 - rate)
    return difference / math.sqrt(variance) if variance else None


def _slow_leader(n: Table, y: Table, values: int, arms: int) -> int | None:
    """Return the arm whose closest comparable rival is farthest behind; the first of equals."""
    closest: dict[int, float] = {}
    for arm in range(arms):
        leads = [_slow_overall(n, y, values, arm, other) for other in range(arms) if other != arm]
        known = [lead for lead in leads if lead is not None]
        if known:
            closest[arm] = min(known)
    return max(closest, key=lambda arm: closest[arm]) if closest else None


def _slow_beating(n: Table, y: Table, values: int, arms: int, leader: int | None) -> list[int]:
    """Return the arms that beat the leader in some value."""
    least = 1.645 if arms == 2 else NormalDist().inv_cdf(1 - 0.05 / max(values, 1))
    leads = {
        arm: [lead for x in range(values) if (lead := _slow_lead(n, y, x, arm, leader))]
        for arm in range(arms)
        if leader is not None and arm != leader
    }
    return [arm for arm, found in leads.items() if any(rho / math.sqrt(s2) >= least for rho, s2 in found)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_rule_written_out_cell_by_cell(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    trials = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 300)))
    share = data.draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0, 0.1, 0.15, 0.2, 0.5, 1])))
    successes = np.floor(trials * share).astype(np.int64)
    evidence = segmentation_evidence(trials, successes, looked_at=3)
    n, y = trials.tolist(), successes.tolist()
    _, values, arms = shape
    leader = _slow_leader(n, y, values, arms)
    beating = _slow_beating(n, y, values, arms, leader)
    rivals = beating or [arm for arm in range(arms) if arm != leader]
    slow = 1.0 if leader is None else max(_slow_e_value(n, y, values, arm, leader) for arm in rivals)
    assert evidence.e_value == pytest.approx(slow, rel=1e-6)
    assert evidence.needed == pytest.approx(3 * max(arms * (arms - 1) / 2, 1) / 0.05)
    beaten = [_slow_beaten(n, y, value, arms) for value in range(values)]
    assert [winner.beaten for winner in evidence.winners] == beaten
    assert evidence.every_arm_is_beaten == (bool(beating) and set().union(*beaten) == set(range(arms)))


def _experiment(rates: Sequence[Sequence[float]], users: int, days: int = 10) -> tuple[Counts, Counts]:
    """Return counts that equal their expectation: rates (values, arms), users of each cell and day."""
    table = np.tile(np.array(rates, float), (days, 1, 1))
    return np.full(table.shape, users), np.round(users * table).astype(np.int64)


def test_equal_arms_speak_for_the_null() -> None:
    evidence = segmentation_evidence(*_experiment([[0.1, 0.1], [0.3, 0.3]], 500))
    assert evidence.e_value < 0.7
    assert not evidence.every_arm_is_beaten


def test_one_arm_better_everywhere_is_no_reason() -> None:
    """Risk differences are .01 and .06, but the relative effect is the same."""
    evidence = segmentation_evidence(*_experiment([[0.05, 0.06], [0.30, 0.36]], 2_000))
    assert evidence.e_value < 0.5
    assert [winner.arm for winner in evidence.winners] == [1, 1]
    assert all(winner.z > 1.645 for winner in evidence.winners)
    assert not evidence.is_enough


def test_different_effects_with_one_winner_are_no_reason_either() -> None:
    evidence = segmentation_evidence(*_experiment([[0.10, 0.11], [0.10, 0.20]], 2_000))
    assert evidence.e_value > evidence.needed
    assert {arm for winner in evidence.winners for arm in winner.beaten} == {0}
    assert not evidence.is_enough


def test_a_crossover_is_a_reason() -> None:
    evidence = segmentation_evidence(*_experiment([[0.10, 0.12], [0.12, 0.10]], 500), looked_at=8)
    assert evidence.needed == pytest.approx(160)
    assert evidence.is_enough
    assert [(winner.arm, winner.beaten) for winner in evidence.winners] == [(1, (0,)), (0, (1,))]
    z = 0.02 * math.sqrt(2_500 / (0.11 * 0.89))
    assert [winner.z for winner in evidence.winners] == pytest.approx([z, z])


def test_more_than_two_arms_need_more_and_control_need_not_cross() -> None:
    evidence = segmentation_evidence(*_experiment([[0.10, 0.14, 0.10], [0.14, 0.10, 0.10]], 500))
    assert evidence.needed == pytest.approx(3 / 0.05)
    assert evidence.is_enough
    assert [winner.beaten for winner in evidence.winners] == [(0, 2), (1, 2)]
    others = segmentation_evidence(*_experiment([[0.10, 0.10, 0.14], [0.10, 0.14, 0.10]], 500))
    assert others.is_enough, "the evidence must compare the arms that cross, whichever is the control"


def test_control_may_vary_while_the_best_arms_are_tied() -> None:
    evidence = segmentation_evidence(*_experiment([[0.04, 0.14, 0.14], [0.13, 0.14, 0.14]], 2_000))
    assert not evidence.every_arm_is_beaten, "no arm beats the leader, and the other is tied with it"
    assert not evidence.is_enough


def test_an_arm_that_nothing_beats_would_do_for_everyone() -> None:
    evidence = segmentation_evidence(*_experiment([[0.10, 0.14, 0.18], [0.14, 0.10, 0.18]], 500))
    assert evidence.e_value > evidence.needed
    assert [winner.arm for winner in evidence.winners] == [2, 2]
    assert not evidence.is_enough


def test_days_are_not_taken_for_arms() -> None:
    """Base rates and allocation of the values move in opposite directions, so summed counts seem to cross."""
    trials = np.array([[[900, 100], [900, 100]], [[100, 900], [100, 900]]]) * 10
    rates = np.array([[[0.05], [0.15]], [[0.15], [0.05]]])
    successes = np.round(trials * rates).astype(np.int64)
    evidence = segmentation_evidence(trials, successes)
    assert evidence.e_value < 1
    assert [winner.z for winner in evidence.winners] == pytest.approx([0, 0])
    summed = segmentation_evidence(trials.sum(0, keepdims=True), successes.sum(0, keepdims=True))
    assert summed.is_enough


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trials = rng.integers(0, 200, (4, 3, 3))
    successes = rng.binomial(trials, 0.2)
    days, values, arms = rng.permutation(4), rng.permutation(3), rng.permutation(3)
    one = segmentation_evidence(trials, successes)
    shuffle = np.ix_(days, values, arms)
    other = segmentation_evidence(trials[shuffle], successes[shuffle])
    assert other.e_value == pytest.approx(one.e_value, rel=1e-9)
    assert [winner.z for winner in other.winners] == pytest.approx([one.winners[value].z for value in values])
    assert [arms[winner.arm] for winner in other.winners] == [one.winners[value].arm for value in values]
    assert (other.is_enough, other.every_arm_is_beaten) == (one.is_enough, one.every_arm_is_beaten)


def _nothing(trials: Counts, successes: Counts) -> SegmentationEvidence:
    evidence = segmentation_evidence(trials, successes)
    assert evidence.e_value == pytest.approx(1, abs=1e-12)
    assert not evidence.is_enough
    return evidence


@pytest.mark.parametrize("shape", [(0, 0, 1), (0, 2, 2), (3, 0, 2), (3, 2, 1), (3, 2, 2), (3, 1, 3)])
def test_no_data_say_nothing(shape: tuple[int, int, int]) -> None:
    none = np.zeros(shape, np.int64)
    evidence = _nothing(none, none)
    assert evidence.winners == (Winner(None, 0.0, ()),) * shape[1]


def test_one_value_or_one_arm_cannot_differ() -> None:
    assert _nothing(*_experiment([[0.10, 0.20]], 1_000)).winners[0].arm == 1
    assert _nothing(*_experiment([[0.10], [0.20]], 1_000)).winners[0].arm is None


def test_arms_that_never_met_on_a_day_are_not_compared() -> None:
    trials = np.array([[[100, 0], [100, 0]], [[0, 100], [0, 100]]])
    evidence = _nothing(trials, trials // 10)
    assert not evidence.every_arm_is_beaten
    apart = np.array([[[100, 0, 100], [100, 0, 100]]])
    successes = np.array([[[30, 0, 10], [10, 0, 30]]])
    evidence = segmentation_evidence(apart, successes)
    assert [winner.arm for winner in evidence.winners] == [0, 2]
    assert not evidence.every_arm_is_beaten, "there are no trials of the arm in the middle"


@pytest.mark.parametrize("rate", [0, 1])
def test_values_where_nobody_or_everybody_converts_tell_nothing(rate: int) -> None:
    trials, successes = _experiment([[0.10, 0.12], [0.12, 0.10], [rate, rate]], 500)
    with_it = segmentation_evidence(trials, successes)
    without = segmentation_evidence(trials[:, :2], successes[:, :2])
    assert with_it.e_value == pytest.approx(without.e_value)
    assert with_it.winners[2].beaten == ()
    _nothing(trials, trials * rate)


def test_overwhelming_evidence_is_still_a_number() -> None:
    evidence = segmentation_evidence(*_experiment([[0.1, 0.4], [0.4, 0.1]], 10_000_000))
    assert math.isfinite(evidence.e_value)
    assert evidence.is_enough


def test_what_is_refused() -> None:
    good = np.full((1, 2, 2), 5)
    for trials, successes, looked_at in [
        (good[0], good[0], 1),
        (good, good[:, :1], 1),
        (good[:, :, :0], good[:, :, :0], 1),
        (good, good + 1, 1),
        (good, -good, 1),
        (good, good, 0),
    ]:
        with pytest.raises(InvalidCountsError):
            segmentation_evidence(trials, successes, looked_at=looked_at)
