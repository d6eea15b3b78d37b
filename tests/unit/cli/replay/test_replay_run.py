"""The queue-based evaluator, the run around it, and what its summary says, with a server that is a function."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import binomtest

from server.cli.replay.client import Choice
from server.cli.replay.log import demo
from server.cli.replay.log.users import LoggedUser, parse_users
from server.cli.replay.queues import ARRIVALS, OUTCOMES, Queues, shuffled
from server.cli.replay.report import summary
from server.cli.replay.report.intervals import mean_of_arms, wilson
from server.cli.replay.report.tables import comparison, ending
from server.cli.replay.run import Run, Step, run


class FakeServer:
    """Chooses by a function, and remembers what it was told."""

    def __init__(self, choose: Callable[[LoggedUser], str]):
        self.choose = choose
        self.allocated: list[str] = []
        self.converted: list[str] = []
        self.waited: list[tuple[int, int, int]] = []

    def allocate(self, users: Sequence[LoggedUser]) -> list[Choice]:
        self.allocated += [user.user for user in users]
        return [Choice(self.choose(user), user.cell[0], user.cell[0].title()) for user in users]

    def convert(self, users: Sequence[LoggedUser]) -> None:
        self.converted += [user.user for user in users]

    def wait_until_learned(self, allocations: int, conversions: int, after_version: int) -> int:
        self.waited.append((allocations, conversions, after_version))
        return after_version + 1


def logged(count: int, seed: int = 3) -> list[LoggedUser]:
    random = np.random.default_rng(seed)
    return [
        LoggedUser(row, f"u{row}", (f"c{random.integers(3)}",), f"v{random.integers(2)}", bool(random.random() < 0.3))
        for row in range(1, count + 1)
    ]


def nothing(_: Run) -> None:
    """No progress is shown."""


def test_every_logged_user_is_used_at_most_once_and_fits_cell_and_variant():
    users = logged(500)
    random = np.random.default_rng(4)
    finished = run(FakeServer(lambda _: f"v{random.integers(2)}"), users, 1, 20, None, nothing)
    rows = [step.outcome.row for step in finished.steps]
    assert len(rows) > 100
    assert len(set(rows)) == len(rows)
    assert all(
        (step.outcome.cell, step.outcome.variant) == (step.arrival.cell, step.choice.variant) for step in finished.steps
    )


def test_it_stops_at_the_first_user_whose_queue_is_empty():
    users = logged(300)
    finished = run(FakeServer(lambda _: "v0"), users, 1, 50, None, nothing)
    left = Counter(user.cell for user in users if user.variant == "v0")
    expected = 0
    for user in shuffled(users, 1, ARRIVALS):  # the rule, by counting
        if left[user.cell] == 0:
            break
        left[user.cell] -= 1
        expected += 1
    assert len(finished.steps) == expected
    assert finished.stopped_at is not None
    assert finished.stopped_at[0] == shuffled(users, 1, ARRIVALS)[expected]
    assert f"stopped at user {expected + 1}," in ending(finished)


def test_users_after_the_stop_are_no_sample_and_do_not_convert():
    server = FakeServer(lambda _: "v0")
    finished = run(server, logged(300), 1, 50, None, nothing)
    sample = [step.arrival.user for step in finished.steps]
    assert server.allocated[: len(sample)] == sample
    assert server.converted == [step.arrival.user for step in finished.steps if step.outcome.success]
    assert len(server.allocated) % 50 == 0


def test_each_batch_waits_for_all_that_was_sent():
    server = FakeServer(lambda user: user.variant)
    seen: list[int] = []
    finished = run(server, logged(100), 1, 30, 70, lambda so_far: seen.append(len(so_far.steps)))
    assert seen == [30, 60, 70]
    assert [(sent, after) for sent, _, after in server.waited] == [(30, 0), (60, 1), (70, 2)]
    assert server.waited[-1][1] == finished.successes == len(server.converted)
    assert finished.stopped_at is None
    assert "all 70 users" in ending(finished)


def test_the_same_seed_gives_the_same_run_and_another_does_not():
    users = logged(200)
    runs = [run(FakeServer(lambda _: "v1"), users, seed, 40, None, nothing) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert sorted(shuffled(users, 1, OUTCOMES), key=lambda user: user.row) == users
    assert shuffled(users, 1, OUTCOMES) != shuffled(users, 1, ARRIVALS)


def test_a_queue_keeps_its_order_and_an_unknown_one_is_empty():
    first, second = (LoggedUser(row, str(row), ("c",), "v", False) for row in (1, 2))
    queues = Queues([first, second])
    assert [queues.take(("c",), "v") for _ in range(3)] == [first, second, None]
    assert queues.take(("c",), "other") is None


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 50), (123, 4567)])
def test_wilson_agrees_with_scipy(successes: int, trials: int):
    ours = wilson(successes, trials)
    theirs = binomtest(successes, trials).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.rate == successes / trials


def test_the_interval_of_uniform_allocation_covers():
    random = np.random.default_rng(5)
    rates, trials = np.array([0.05, 0.1, 0.3]), np.array([400, 300, 500])
    draws = random.binomial(trials, rates, size=(4000, 3))
    estimates = [mean_of_arms(list(zip(draw.tolist(), trials.tolist(), strict=True))) for draw in draws]
    covered = np.mean([e.low <= rates.mean() <= e.high for e in estimates])
    assert binomtest(int(covered * 4000), 4000, 0.95).pvalue > 1e-3
    assert np.mean([e.rate for e in estimates]) == pytest.approx(rates.mean(), abs=1e-3)


def test_segments_show_what_is_chosen_lately_beside_what_is_best_in_the_log():
    def step(row: int, variant: str) -> Step:
        user = LoggedUser(row, str(row), ("a",), variant, False)
        return Step(user, Choice(variant, "source:a", "A"), user)

    users = [LoggedUser(i, str(i), ("a",), v, s) for i, (v, s) in enumerate([("x", True), ("x", False), ("y", False)])]
    shown = summary.segments(users, Run([step(i, v) for i, v in enumerate("yyyyxx")], None))
    assert shown == [summary.SegmentSummary("A", 6, "x", 1.0, "x", 0.5)]


def test_shares_and_rates_of_the_variants():
    users = [LoggedUser(i, str(i), ("a",), v, s) for i, (v, s) in enumerate([("x", True), ("x", False), ("y", False)])]
    steps = [Step(users[0], Choice(v, "global", "Everyone"), users[0]) for v in "xxxy"]
    assert summary.arms(users) == [summary.Arm("x", 2, 0.5), summary.Arm("y", 1, 0.0)]
    assert summary.shares(Run(steps, None)) == {"x": 0.75, "y": 0.25}
    assert summary.uniform(users).rate == 0.25


def test_two_runs_are_compared_over_as_many_users():
    yes, no = (LoggedUser(i, str(i), ("a",), "x", success) for i, success in enumerate([True, False]))
    choice = Choice("x", "global", "Everyone")
    short = Run([Step(yes, choice, outcome) for outcome in (yes, no)], None)
    long = Run([Step(yes, choice, outcome) for outcome in (yes, yes, no, no, no)], None)
    assert "first 2 users of both: long 100.00%, short 50.00%, +100.0%" in comparison({"short": short, "long": long})


def test_the_simulated_population_has_its_planted_rates():
    rows = demo.simulate(1)
    assert rows == demo.simulate(1) != demo.simulate(2)
    assert len(rows) == demo.USERS
    users = parse_users(rows, demo.COLUMNS)
    for (source, variant), rate in demo.RATES.items():
        outcomes = [user.success for user in users if user.cell[0] == source and user.variant == variant]
        assert binomtest(sum(outcomes), len(outcomes), rate).pvalue > 1e-3
        assert len(outcomes) == pytest.approx(demo.USERS / 6, rel=0.1)
    overall = {arm: np.mean([demo.RATES[source, arm] for source in demo.SOURCES]) for arm in demo.VARIANTS}
    assert overall["A"] == overall["B"] > overall["Control"]
