"""How the counts differ from the log that they summarise."""

from collections.abc import Sequence

from rich.table import Table

from server.maintenance.rebuild_counts import Differences
from storage.postgres.counts.recount import Difference


def differences_table(differences: Sequence[Difference]) -> Table:
    """Show a row for each count that differs, by the numbers of experiment, segment and variant, and the day."""
    table = Table("experiment", "segment", "variant", "day", "trials", "successes", title="the log less the counts")
    for each in differences:
        table.add_row(
            str(each.experiment),
            str(each.segment),
            str(each.variant),
            str(each.day),
            f"{each.trials:+}",
            f"{each.successes:+}",
        )
    return table


def differences_text(found: Differences) -> str:
    """Say how many counts differ, as the subject of a sentence."""
    return f"{len(found.counts)} counts, and {found.by_dimension} by dimension,"
