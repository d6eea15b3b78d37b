"""The report of a replay, as tables for a terminal of 80 columns. Texts of users are never taken as markup."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from server.cli.replay.log.users import LoggedUser
from server.cli.replay.report import summary
from server.cli.replay.report.intervals import Estimate
from server.cli.replay.run import Run
from server.cli.views.formats import plain

_NOTES = (
    "The adaptive rate includes the phase of learning. Intervals are 95 %: Wilson's for adaptive, normal for uniform "
    "(the mean of the variants' logged rates). All rows draw on the same logged users, so the difference is more "
    "certain than the intervals suggest."
)


def print_report(console: Console, users: Sequence[LoggedUser], runs: Mapping[str, Run]) -> None:
    """Print the runs, by name. None may be empty."""
    console.print(_rates(users, runs))
    for name, run in runs.items():
        console.print(plain(f"{name}: {ending(run)}"), soft_wrap=False)
    console.print(plain(_NOTES), style="dim")
    if len(runs) > 1:
        console.print(plain(comparison(runs)), style="bold")
    console.print(_arms(users, runs))
    for name, run in runs.items():
        if len({step.choice.segment_key for step in run.steps}) > 1:
            console.print(_segments(name, users, run))


def ending(run: Run) -> str:
    """Say which users are the sample, and why it ended there."""
    if run.stopped_at is None:
        return f"all {len(run.steps):,} users were replayed, each logged outcome used at most once."
    user, choice = run.stopped_at
    cell = ", ".join(user.cell) or "any user"
    return (
        f"stopped at user {len(run.steps) + 1:,}, the first for whom no logged outcome was left "
        f"({cell}; {choice.variant}). The {len(run.steps):,} before are the sample."
    )


def comparison(runs: Mapping[str, Run]) -> str:
    """Compare the last run with the first, over as many users of each."""
    count = min(len(run.steps) for run in runs.values())
    first, *_, last = runs
    rates = {name: summary.adaptive(summary.first_users(run, count)).rate for name, run in runs.items()}
    return (
        f"Over the first {count:,} users of both: {last} {rates[last]:.2%}, {first} {rates[first]:.2%}, "
        f"{relative(rates[last], rates[first])}."
    )


def relative(rate: float, reference: float) -> str:
    """Write the relative difference, such as "+12.3%"; "–" where the reference is 0."""
    return f"{rate / reference - 1:+.1%}" if reference else "–"


def _rates(users: Sequence[LoggedUser], runs: Mapping[str, Run]) -> Table:
    table = _table("", "Users", "Converted", "Rate", "95 % interval", "vs uniform")
    reference = summary.uniform(users)
    successes = sum(user.success for user in users)
    table.add_row("uniform", f"{len(users):,}", f"{successes:,}", *_estimate(reference), "")
    for name, run in runs.items():
        estimate = summary.adaptive(run)
        difference = relative(estimate.rate, reference.rate)
        table.add_row(name, f"{len(run.steps):,}", f"{run.successes:,}", *_estimate(estimate), difference)
    return table


def _arms(users: Sequence[LoggedUser], runs: Mapping[str, Run]) -> Table:
    table = _table("Variant", "Logged users", "Logged rate", *(f"Share, {name}" for name in runs))
    shares = [summary.shares(run) for run in runs.values()]
    for arm in summary.arms(users):
        of_runs = (f"{share.get(arm.variant, 0.0):.1%}" for share in shares)
        table.add_row(plain(arm.variant), f"{arm.users:,}", f"{arm.rate:.2%}", *of_runs)
    return table


def _segments(name: str, users: Sequence[LoggedUser], run: Run) -> Table:
    table = _table(f"Segment, {name}", "Users", "Most in last third", "Best in the log")
    for segment in summary.segments(users, run):
        table.add_row(
            plain(segment.name),
            f"{segment.users:,}",
            plain(f"{segment.favourite} ({segment.favourite_share:.0%})"),
            plain(f"{segment.best} ({segment.best_rate:.2%})"),
        )
    return table


def _estimate(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.rate:.2%}", f"{estimate.low:.2%} – {estimate.high:.2%}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
