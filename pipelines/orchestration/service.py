"""What keeps Dagster going as a service for good.

What belongs here: forgetting old runs and their events, ending runs that were cut off, and what
is told of runs that failed. What does not: when that is done (`definitions.py`), and the units and
settings of a machine (`deploy/`).

`python -m pipelines.orchestration.service` ends the runs that were cut off: the service does so as
it starts the process whose children all runs are.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as db
from dagster import DagsterRunStatus as Status
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Checks
from dagster._core.storage.event_log.schema import AssetEventTagsTable as Tags
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events
from dagster._daemon.controller import RELOAD_WORKSPACE_INTERVAL
from dagster._grpc.client import DagsterGrpcClient

KEPT_DAYS = 30
PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
FINISHED = [Status.SUCCESS, Status.FAILURE, Status.CANCELED]
NOT_FINISHED = [status for status in Status if status not in FINISHED]
UNDER_WAY = [Status.STARTING, Status.STARTED, Status.CANCELING]


def forget(instance: dg.DagsterInstance, before: datetime) -> dict[str, int]:
    """Delete runs that ended before an instant with their logs, and events that happened before it.

    What is kept for good is the last materialization of each asset and partition and the last
    outcome of each check: by these the UI shows what is there. Returns how much was deleted.
    """
    log = instance.event_log_storage
    assert isinstance(log, SqlEventLogStorage)
    until = before.astimezone(UTC).replace(tzinfo=None)
    ended = instance.get_runs(dg.RunsFilter(statuses=FINISHED, updated_before=before))
    run_ids = [run.run_id for run in ended]
    if isinstance(log, SqliteEventLogStorage):
        _forget_files(log, run_ids, until)
    for run_id in run_ids:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.run_storage.delete_run(run_id)
    last = db.select(db.func.max(Events.c.id)).where(
        Events.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value
    )
    last_outcome = db.select(db.func.max(Checks.c.id)).group_by(
        Checks.c.asset_key, Checks.c.check_name, Checks.c.partition
    )
    with log.index_connection() as connection:
        events = connection.execute(
            db.delete(Events).where(
                Events.c.timestamp < until,
                Events.c.id.not_in(last.group_by(Events.c.asset_key, Events.c.partition)),
            )
        )
        connection.execute(
            db.delete(Checks).where(
                Checks.c.evaluation_event_timestamp < until, Checks.c.id.not_in(last_outcome)
            )
        )
        connection.execute(
            db.delete(Tags).where(
                Tags.c.event_timestamp < until, Tags.c.event_id.not_in(db.select(Events.c.id))
            )
        )
    return {"run_count": len(run_ids), "event_count": events.rowcount}


def _forget_files(log: SqliteEventLogStorage, run_ids: Sequence[str], until: datetime) -> None:
    """Delete what SQLite keeps of runs, in a file each, and of what happened without a run."""
    for run_id in run_ids:
        file = Path(log.path_for_shard(run_id))
        for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
            file.with_name(name).unlink(missing_ok=True)
    with log.run_connection(RUNLESS_RUN_ID) as connection:
        connection.execute(db.delete(Events).where(Events.c.timestamp < until))


def end_cut_off_runs(instance: dg.DagsterInstance, wait: Callable[[], None]) -> int:
    """Mark as failed what was under way when the service was stopped or killed; how many runs.

    Nobody else would: they would keep all others waiting, since one run goes at a time. A run that
    is marked is tried again at once, so `wait` ends when that can be.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))
    if runs:
        wait()
    for run in runs:
        if run.status is Status.CANCELING:
            instance.report_run_canceled(run, "The service was stopped while this was canceled.")
        else:
            instance.report_run_failed(run, "The service was stopped while this run was under way.")
    return len(runs)


def alert(run: dg.DagsterRun, steps: Sequence[str]) -> str:
    """What to tell people of a run that failed, by the steps that did.

    What went wrong stands in the run alone: its words may hold what not everybody may see.
    """
    days = sorted({run.tags[tag] for tag in PARTITION_TAGS if tag in run.tags})
    of = f" of {' to '.join(days)}" if days else ""
    return (
        f"Wattbook: {run.job_name}{of} failed\n"
        + (f"Failed: {', '.join(steps)}\n" if steps else "It was cut off.\n")
        + f"Run {run.run_id} in the Dagster UI says why; from there it goes on where it failed."
    )


def kept_from(now: datetime) -> datetime:
    """The instant before which runs and events are forgotten."""
    return now - timedelta(days=KEPT_DAYS)


def wait_for_code() -> None:
    """Wait for the process of runs to answer, and for the daemon to have seen that it does."""
    code = DagsterGrpcClient(socket=os.environ["WATTBOOK_CODE_SOCKET"])
    answers = False
    while not answers:
        time.sleep(1)
        with suppress(DagsterUserCodeUnreachableError):
            code.ping("")
            answers = True
    time.sleep(1.2 * RELOAD_WORKSPACE_INTERVAL)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as running:
        print(f"{end_cut_off_runs(running, wait_for_code)} runs were cut off")
