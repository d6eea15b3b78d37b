"""Decisions are made again by the rules that applied then, not by today's."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from allocator.decision import decide
from allocator.experiment import DecisionRules, Experiment, Group, SegmentationConfig
from allocator.posterior.effective_trials import Count
from allocator.posterior.tables import posterior_tables
from allocator.redecide import LoggedDecision, agree, redecide
from tests.support.crossover import DAY, EXPERIMENT, USERS, crossover

LATE = replace(
    EXPERIMENT,
    variants=(*EXPERIMENT.variants[:2], replace(EXPERIMENT.variants[2], added_later=True)),
    holdout_share=0.1,
    baseline_share=0.2,
)
TODAY = replace(
    LATE,
    variants=(LATE.variants[2], replace(LATE.variants[1], retired=True), LATE.variants[0]),
    holdout_share=0.0,
    baseline_share=0.5,
    segmentation=SegmentationConfig(),
    segmentation_version=4,
    revision=9,
)
RULES = DecisionRules((2, 0, 1), LATE.holdout_share, LATE.baseline_share, LATE.segmentation)

FEW = [Count(segment, variant, DAY, 45, 8 + 4 * variant) for segment in (2, 3) for variant in range(3)]


def decided(
    experiment: Experiment, version: int, counts: Sequence[Count], added_later: Collection[int] = ()
) -> list[LoggedDecision]:
    """Return decisions for users of two segments with own posteriors and of one with too few users."""
    tables = posterior_tables(version, 1, RULES.variants, counts, added_later=added_later)
    return [
        LoggedDecision(user, 2 + n % 3, 1, version, 3, decide(experiment, tables, user, 2 + n % 3))
        for n, user in enumerate(USERS[:300])
    ]


def test_whatever_has_changed_since() -> None:
    logged = decided(LATE, 7, crossover(), added_later=[2])
    assert {each.decision.group for each in logged} == set(Group)
    assert all(agree(redecide(TODAY, RULES, each, crossover()), each.decision) for each in logged)


def test_a_variant_that_was_held_back() -> None:
    logged = decided(LATE, 7, FEW, added_later=[2])
    assert logged != decided(LATE, 7, FEW)
    assert all(agree(redecide(TODAY, RULES, each, FEW), each.decision) for each in logged)


def test_the_prior_holds_nobody_back() -> None:
    for each in decided(LATE, 0, []):
        assert agree(redecide(TODAY, RULES, each, []), each.decision)


def test_other_counts_are_noticed_but_by_the_holdout() -> None:
    other = [replace(FEW[0], successes=FEW[0].successes + 1), *FEW[1:]]
    for each in decided(LATE, 7, FEW):
        again = redecide(EXPERIMENT, RULES, each, other)
        assert agree(again, each.decision) == (each.decision.group is Group.HOLDOUT)


def test_another_user_is_another_draw() -> None:
    first = decided(LATE, 7, FEW, added_later=[2])[0]
    again = [redecide(TODAY, RULES, replace(first, user_key=user), FEW) for user in USERS[300:400]]
    assert 0 < sum(agree(each, first.decision) for each in again) < len(again)
