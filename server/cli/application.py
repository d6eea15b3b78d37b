"""The command `samplit`: which commands there are. The module of a command is imported when the command runs."""

import sys

import typer

from allocator.printable import escaped
from server.cli.errors import CommandError
from server.cli.lazy_group import LazyCommand, LazyGroup


class SamplitGroup(LazyGroup):
    """Every command in the order of the help, each with the first paragraph of its own help."""

    lazy_commands = (
        LazyCommand("serve", "server.cli.operations.serve:serve", "Start the server."),
        LazyCommand(
            "worker",
            "server.cli.operations.worker:worker",
            "Run one more worker, for an installation with external stores.",
        ),
        LazyCommand(
            "migrate",
            "server.cli.operations.migrate:migrate",
            "Bring the schema of SAMPLIT_POSTGRES_DSN up to date. `serve` does this too.",
        ),
        LazyCommand(
            "reset",
            "server.cli.operations.reset:reset",
            "Delete every experiment, assignment, conversion and key. Stop the server first.",
        ),
        LazyCommand(
            "rebuild-posteriors",
            "server.cli.operations.rebuild:rebuild_posteriors",
            "Recompute the counts from the log of assignments, show every difference, and repair it.",
        ),
        LazyCommand(
            "rebuild-redis",
            "server.cli.operations.rebuild:rebuild_redis",
            "Write into Redis again what PostgreSQL knows: users' variants, experiments, posteriors, API keys.",
        ),
        LazyCommand(
            "backup",
            "server.cli.operations.backup:backup",
            "Back up the installation that runs on this machine into a folder, while it serves.",
        ),
        LazyCommand(
            "restore",
            "server.cli.operations.backup:restore",
            "Restore a backup into a data directory that holds no installation. Start the server on it afterwards.",
        ),
        LazyCommand(
            "results",
            "server.cli.commands.results:show_results",
            "Show allocations and conversions for each segment and variant.",
        ),
        LazyCommand(
            "explain-assignment",
            "server.cli.commands.explain:explain_assignment",
            "Say why a user got the variant, and whether the log leads to it again.",
        ),
        LazyCommand(
            "segments",
            "server.cli.commands.segmentation:list_segments",
            "List the segments of an experiment, the largest first.",
        ),
        LazyCommand(
            "audience",
            "server.cli.commands.segmentation:show_audience",
            "Break an experiment's users down by one or two dimensions.",
        ),
        LazyCommand(
            "check-eligibility",
            "server.cli.commands.recommendations:check_eligibility",
            "Look whether experiments should be segmented, as a worker does every six hours.",
        ),
        LazyCommand(
            "explain",
            "server.cli.commands.explain:explain_segmentation",
            "Say why an experiment is or is not segmented, what would change it, and how fresh everything is.",
        ),
        LazyCommand(
            "notify-test",
            "server.cli.operations.notify_test:notify_test",
            "Send a test notice to the URLs that are set in this environment, and say what came of it.",
        ),
        LazyCommand("audit", "server.cli.commands.audit:show_audit", "Show who changed what, the newest change first."),
        LazyCommand(
            "replay",
            "server.cli.commands.replay:replay_log",
            "Replay a logged experiment through the running server.",
        ),
        LazyCommand("keys", "server.cli.operations.keys:app", "API keys: create, list, rotate, revoke."),
        LazyCommand(
            "secrets",
            "server.cli.operations.secrets:app",
            "The keys that encrypt stored state: prepare, rotate.",
        ),
        LazyCommand("experiments", "server.cli.commands.experiments:app", "Create experiments and change their state."),
        LazyCommand(
            "segmentation",
            "server.cli.commands.segmentation:app",
            "Show and change how an experiment is segmented.",
        ),
        LazyCommand("clusters", "server.cli.commands.clusters:app", "Find audiences, and see them."),
        LazyCommand(
            "recommendations",
            "server.cli.commands.recommendations:app",
            "See, accept and dismiss what is recommended.",
        ),
        LazyCommand("alerts", "server.cli.commands.alerts:app", "See what needs a look, and say that you have."),
    )


app = typer.Typer(
    name="samplit",
    cls=SamplitGroup,
    help="Allocates users to variants by Thompson sampling, per audience segment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _samplit() -> None:
    """Exists because typer refuses an application that has neither commands of its own nor a callback."""


def main() -> None:
    """Run the command that the arguments name. What a person can put right ends with a line on stderr and status 1."""
    try:
        app()
    except CommandError as error:
        typer.echo(escaped(f"samplit: {error}"), err=True)
        sys.exit(1)
