"""The command `samplit`. Each command imports what it needs when it runs, so that `samplit --help` answers at once."""

import sys

import typer

from server.cli.commands import (
    alerts,
    audit,
    clusters,
    experiments,
    explain,
    operations,
    recommendations,
    replay,
    results,
    segmentation,
)
from server.cli.errors import CommandError

app = typer.Typer(
    name="samplit",
    help="Allocates users to variants by Thompson sampling, per audience segment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
operations.register(app)
app.add_typer(experiments.app, name="experiments")
app.command("results")(results.show_results)
app.command("explain-assignment")(explain.explain_assignment)
app.add_typer(segmentation.app, name="segmentation")
app.add_typer(clusters.app, name="clusters")
app.command("segments")(segmentation.list_segments)
app.command("audience")(segmentation.show_audience)
app.command("check-eligibility")(recommendations.check_eligibility)
app.add_typer(recommendations.app, name="recommendations")
app.command("explain")(recommendations.explain)
app.add_typer(alerts.app, name="alerts")
app.command("notify-test")(alerts.notify_test)
app.command("audit")(audit.show_audit)
app.command("replay")(replay.replay_log)


def main() -> None:
    """Run the command that the arguments name; what a person can put right ends with a line on stderr and status 1."""
    try:
        app()
    except CommandError as error:
        typer.echo(f"samplit: {error}", err=True)
        sys.exit(1)
