"""`samplit replay`: runs the users of a logged experiment through the running server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.cli.client import Plane, open_service
from server.cli.errors import CommandError
from server.cli.options import DataDirectory
from server.cli.problems import describe_status
from server.cli.replay import plan, session
from server.cli.replay.errors import RefusedError, ReplayError
from server.cli.replay.log import demo as simulation
from server.cli.replay.log.columns import Columns, parse_attributes, parse_web
from server.cli.replay.log.users import parse_users, read_csv
from server.cli.replay.report.tables import print_report


def replay_log(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.csv[.gz]", help="a row for each logged user", show_default=False)
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="replay a SIMULATED population instead of a file, with --compare")
    ] = False,
    variant: Annotated[str | None, typer.Option(metavar="COLUMN", help="the variant that the user got")] = None,
    outcome: Annotated[str | None, typer.Option(metavar="COLUMN", help="whether the user converted: 0 or 1")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="user identifiers; row numbers if left out")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(metavar="[NAME=]COLUMN,…", help="columns to send as custom attributes")
    ] = None,
    web: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="a field of the web context, such as utm_source=src"),
    ] = None,
    segment_by: Annotated[
        list[str] | None, typer.Option(metavar="DIMENSION", help="source, device, attributes.NAME, …; repeat for more")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="replay twice, unsegmented and segmented")] = False,
    control: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="the control variant; the first one if left out")
    ] = None,
    min_samples: Annotated[int, typer.Option(min=0, help="users before a segment decides by itself")] = 100,
    baseline_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="share of users who are served unsegmented")
    ] = 0.0,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="users a call; the server learns after each")] = 200,
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many users")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the random order of users")] = 1,
    name: Annotated[str | None, typer.Option(help="name of the experiment")] = None,
    experiment_id: Annotated[
        str | None, typer.Option("--id", help="id of the experiment; made from its name if left out")
    ] = None,
    address: Annotated[
        str | None, typer.Option(envvar="SAMPLIT_ADDRESS", help="host:port of the data plane", show_default=False)
    ] = None,
    admin_address: Annotated[
        str | None,
        typer.Option(envvar="SAMPLIT_ADMIN_ADDRESS", help="host:port of the control plane", show_default=False),
    ] = None,
    data_dir: DataDirectory = None,
) -> None:
    """Replay a logged experiment through the running server.

    Users arrive in random order with their real contexts. The server chooses
    a variant; the outcome is taken from a logged user of the same context who
    had that variant, each at most once. It stops at the first user for whom
    no such logged user is left: the users before are the sample.
    """
    if demo and any((file, variant, outcome, user, attributes, web, segment_by, control)):
        raise CommandError("--demo brings its own log: leave out FILE and the options that describe it")
    if demo:
        control, segment_by, compare = simulation.CONTROL, list(simulation.SEGMENT_BY), True
    if compare and not segment_by:
        raise CommandError("--compare needs --segment-by")
    out, err = Console(), Console(stderr=True)
    try:
        if demo:
            out.print(simulation.EXPLANATION, highlight=False)
            rows, columns, title = simulation.simulate(seed), simulation.COLUMNS, "Demo"
        else:
            path, columns = _described(file, variant, outcome, user, attributes, web)
            rows, title = read_csv(path), f"Replay of {path.name.split('.')[0]}"
        title = name or title
        users = parse_users(rows, columns)
        variants = plan.variant_ids(users)
        wanted = session.plans(
            plan.Plan(
                experiment_id=experiment_id or plan.unique_id(title, datetime.now(UTC)),
                name=title,
                variants=variants,
                control_id=plan.find_control(variants, control),
                segment_by=tuple(segment_by or ()),
                min_samples=min_samples,
                baseline_share=baseline_share,
            ),
            compare,
        )
        with (
            open_service(ExperimentServiceStub, admin_address, data_dir) as experiments,
            open_service(AllocationServiceStub, address, data_dir, Plane.ALLOCATION) as allocations,
        ):
            task = session.Session(users, columns, seed, batch, limit)
            runs = session.replay(task, wanted, experiments, allocations, err)
    except RefusedError as error:
        raise CommandError(describe_status(error.status)) from None
    except ReplayError as error:
        raise CommandError(str(error)) from None
    print_report(out, users, runs)
    for each in wanted.values():
        out.print(f"samplit results {each.experiment_id}", style="dim", highlight=False)


def _described(
    file: Path | None,
    variant: str | None,
    outcome: str | None,
    user: str | None,
    attributes: str | None,
    web: list[str] | None,
) -> tuple[Path, Columns]:
    if not (file and variant and outcome):
        raise CommandError("a replay needs FILE, --variant and --outcome, or --demo")
    return file, Columns(variant, outcome, user, parse_web(web or ()), parse_attributes(attributes or ""))
