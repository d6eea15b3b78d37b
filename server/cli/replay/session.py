"""A whole replay: one run, or an unsegmented and a segmented one over the same users in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from samplit.admin.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from samplit.allocation.v1.allocation_service_pb2_grpc import AllocationServiceStub

from server.cli.replay.client import ReplayClient
from server.cli.replay.errors import ReplayError
from server.cli.replay.log.columns import Columns
from server.cli.replay.log.users import LoggedUser
from server.cli.replay.plan import Plan
from server.cli.replay.report.tables import ending
from server.cli.replay.run import Run, run


@dataclass(frozen=True)
class Session:
    """Who is replayed, in which order (`seed`), how many a call (`batch`), and how many at most (`limit`)."""

    users: Sequence[LoggedUser]
    columns: Columns
    seed: int
    batch: int
    limit: int | None


def plans(plan: Plan, compare: bool) -> dict[str, Plan]:
    """Return the experiments to create, by the names that the report gives them."""
    if not compare:
        return {"adaptive": plan}
    unsegmented = replace(
        plan, experiment_id=f"{plan.experiment_id}-all", name=f"{plan.name}, unsegmented", segment_by=()
    )
    segmented = replace(plan, experiment_id=f"{plan.experiment_id}-segmented", name=f"{plan.name}, segmented")
    return {"unsegmented": unsegmented, "segmented": segmented}


def replay(
    session: Session,
    wanted: dict[str, Plan],
    experiments: ExperimentServiceStub,
    allocations: AllocationServiceStub,
    console: Console,
) -> dict[str, Run]:
    """Run each plan on the server, with progress on the console. Raises ReplayError, grpc.RpcError."""
    arrivals = min(len(session.users), session.limit or len(session.users))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("users"))
    runs: dict[str, Run] = {}
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        for name, plan in wanted.items():
            client = ReplayClient(experiments, allocations, plan, session.columns)
            client.start()
            task = progress.add_task(name, total=arrivals)
            finished = run(
                client,
                session.users,
                session.seed,
                session.batch,
                session.limit,
                lambda so_far, task=task: progress.update(task, completed=len(so_far.steps)),  # type: ignore[misc]
            )
            progress.update(task, total=len(finished.steps))
            if not finished.steps:
                raise ReplayError(f"{name}: {ending(finished)}")
            runs[name] = finished
    return runs
