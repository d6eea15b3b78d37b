"""Posteriors from counts, and decisions from posteriors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from allocator.decision import decide
from allocator.experiment import (
    Group,
    Reason,
    SegmentationConfig,
)
from allocator.hashing import user_key
from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import PosteriorTables, exploration_floor, posterior_tables
from tests.support.crossover import DAY, EXPERIMENT, USERS, crossover


def test_without_counts_all_variants_are_alike() -> None:
    tables = posterior_tables(0, 1, [0, 1, 2], [])
    assert tables.best[0] == pytest.approx(np.full(3, 1 / 3), abs=1e-9)


def test_a_crossover_is_found_and_the_global_table_sees_neither() -> None:
    tables = posterior_tables(7, 1, [0, 1, 2], crossover())
    assert tables.best[tables.rows[2]].argmax() == 1
    assert tables.best[tables.rows[3]].argmax() == 2
    assert tables.best[tables.rows[2]].max() > 0.99
    assert tables.best[0, 1] == pytest.approx(tables.best[0, 2], abs=0.01)
    assert list(tables.trials) == [12_000, 6_000, 6_000]


def test_a_thin_segment_leans_on_the_others() -> None:
    """One arm is best everywhere. A segment with 30 trials an arm and no successes prefers it too."""
    counts = [Count(s, v, DAY, 3_000, 600 if v == 1 else 300) for s in (2, 3, 4) for v in range(3)]
    counts += [Count(5, v, DAY, 30, 3) for v in range(3)]
    tables = posterior_tables(1, 1, [0, 1, 2], counts)
    assert tables.best[tables.rows[5]].argmax() == 1
    assert tables.best[tables.rows[5], 1] > 0.8


def test_a_falling_base_rate_does_not_speak_for_the_arm_that_was_played_early() -> None:
    early, late = DAY, DAY.replace(day=2)
    counts = [
        Count(0, 0, early, 9_000, 1_800),
        Count(0, 1, early, 1_000, 200),
        Count(0, 0, late, 1_000, 100),
        Count(0, 1, late, 9_000, 900),
    ]
    best = posterior_tables(1, 1, [0, 1], counts).best[0]
    assert best == pytest.approx([0.5, 0.5], abs=0.1)


def test_retired_variants_are_left_out() -> None:
    tables = posterior_tables(1, 1, [0, 2], crossover())
    assert tables.variants == (0, 2)
    assert {decide(EXPERIMENT, tables, user, 3).variant for user in USERS[:200]} <= {0, 2}


def test_the_same_inputs_decide_alike_and_the_version_matters() -> None:
    tables = posterior_tables(0, 1, [0, 1, 2], [])
    first = [decide(EXPERIMENT, tables, user, 2) for user in USERS[:200]]
    assert first == [decide(EXPERIMENT, tables, user, 2) for user in USERS[:200]]
    later = [decide(EXPERIMENT, replace(tables, version=1), user, 2) for user in USERS[:200]]
    assert first != later


def test_a_thin_segment_falls_back_and_says_so() -> None:
    tables = posterior_tables(1, 1, [0, 1, 2], [*crossover(), Count(9, 0, DAY, 99, 50)])
    assert decide(EXPERIMENT, tables, USERS[0], 9).reason is Reason.FALLBACK
    assert decide(EXPERIMENT, tables, USERS[0], 77).reason is Reason.FALLBACK
    assert decide(EXPERIMENT, tables, USERS[0], 2).reason is Reason.SAMPLED


def test_groups_have_their_shares_and_grow_as_nested_sets() -> None:
    tables = posterior_tables(1, 1, [0, 1, 2], crossover())

    def groups(holdout: float, baseline: float) -> dict[Group, set[bytes]]:
        shared = replace(EXPERIMENT, holdout_share=holdout, baseline_share=baseline)
        result: dict[Group, set[bytes]] = {group: set() for group in Group}
        for user in USERS:
            result[decide(shared, tables, user, 2).group].add(user)
        return result

    small, large = groups(0.1, 0.2), groups(0.2, 0.3)
    assert len(small[Group.HOLDOUT]) == pytest.approx(400, abs=80)
    assert len(small[Group.BASELINE]) == pytest.approx(0.2 * 3_600, abs=100)
    assert small[Group.HOLDOUT] < large[Group.HOLDOUT]
    assert small[Group.BASELINE] < large[Group.BASELINE]


def test_propensities_are_those_of_the_groups() -> None:
    tables = posterior_tables(1, 1, [0, 1, 2], crossover())
    experiment = replace(EXPERIMENT, holdout_share=0.1, baseline_share=0.2)
    floor = exploration_floor(3)
    seen = set()
    for user in USERS[:500]:
        decision = decide(experiment, tables, user, 2)
        seen.add(decision.group)
        own = {Group.ADAPTIVE: decision.q_segment, Group.BASELINE: decision.q_global, Group.HOLDOUT: 1.0}
        assert decision.propensity == own[decision.group]
        assert decision.q_segment >= floor
        control = decision.variant == 0
        mixture = 0.9 * (0.2 * decision.q_global + 0.8 * decision.q_segment)
        assert decision.marginal == pytest.approx(0.1 * control + mixture)
        if decision.group is Group.HOLDOUT:
            assert (decision.variant, decision.reason) == (0, Reason.HOLDOUT)
    assert seen == set(Group)


def late_arrival(trials: int) -> PosteriorTables:
    """Return counts in which arm 2 was added later, and has a high rate so far."""
    counts = [Count(0, 0, DAY, 2_000, 200), Count(0, 1, DAY, 2_000, 240), Count(0, 2, DAY, trials, trials // 3)]
    return posterior_tables(5, 1, [0, 1, 2], counts, added_later={2})


def test_a_variant_added_later_gets_at_most_its_share_until_it_has_trials() -> None:
    held = late_arrival(99)
    assert held.best[0, 2] > 0.9
    assert held.chance[0, 2] == pytest.approx(1 / 3)
    assert held.chance.sum(1) == pytest.approx(1)
    assert held.chance[0, 1] > held.chance[0, 0] > held.floor
    assert late_arrival(102).chance[0, 2] > 0.9
    worse = posterior_tables(5, 1, [0, 1], [Count(0, 0, DAY, 500, 100), Count(0, 1, DAY, 99, 1)], added_later={1})
    assert worse.chance[0, 1] == pytest.approx(worse.floor, abs=0.001)


def test_while_every_variant_is_young_none_is_held_back() -> None:
    assert posterior_tables(1, 1, [0, 1], [], added_later={0, 1}).held_back == ()


def test_held_back_variants_are_drawn_as_often_as_is_logged() -> None:
    """χ² over 40,000 decisions with one of three arms held back, at level 0.001."""
    tables = late_arrival(99)
    experiment = replace(EXPERIMENT, segmentation=SegmentationConfig())
    decisions = [decide(experiment, tables, user_key(b"k" * 32, str(n)), 0) for n in range(40_000)]
    drawn = np.bincount([decision.variant for decision in decisions], minlength=3)
    assert stats.chisquare(drawn, tables.chance[0] * 40_000).pvalue > 0.001
    assert all(decision.propensity == tables.chance[0, decision.variant] for decision in decisions[:100])


def test_the_floor_is_a_share_of_all_arms() -> None:
    assert exploration_floor(2) == 0.025
    assert exploration_floor(10) == 0.01
    assert exploration_floor(100) == 0.0005
