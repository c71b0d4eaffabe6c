"""The Dagster code location: what runs, when, and because of what.

What belongs here: jobs, schedules, sensors and the list of all there is. What does not: assets
(`orchestration/assets.py`), resources and partitions (`orchestration/resources.py`).
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from pipelines import lake, warehouse
from pipelines.orchestration import assets, checks, service
from pipelines.orchestration.resources import (
    DAYS,
    FIRST_DAY,
    WEEKS,
    BookResource,
    range_tags,
    resources,
    runs_by_itself,
    source_names,
)

BUILD_HOUR_UTC = 5
PULL_HOUR_UTC = 4
CATCH_UP_INTERVAL = timedelta(hours=4)
SCHEDULES = (
    dg.DefaultScheduleStatus.RUNNING if runs_by_itself() else dg.DefaultScheduleStatus.STOPPED
)
SENSORS = dg.DefaultSensorStatus.RUNNING if runs_by_itself() else dg.DefaultSensorStatus.STOPPED


def pack_hour(time_zone: str) -> int:
    """The local hour of packs: from 08:00, and an hour after the build of the day all year."""
    january = datetime(2026, 1, 1, tzinfo=ZoneInfo(time_zone))
    offsets = [january.replace(month=month).utcoffset() for month in range(1, 13)]
    # Full hours up, for zones that are half an hour off.
    ahead = -(-max(offset for offset in offsets if offset is not None) // timedelta(hours=1))
    return max(8, BUILD_HOUR_UTC + 1 + ahead)


PACK_HOUR = pack_hour(WEEKS.timezone)
landing_files = dg.define_asset_job(
    "landing_files",
    selection=dg.AssetSelection.groups("landing") - dg.AssetSelection.checks(checks.findings),
    description="Load whatever is new in landing/.",
)
book_of_the_day = dg.define_asset_job(
    "book_of_the_day",
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets(assets.packs)
    - dg.AssetSelection.groups("sources"),
    description="Load what is new, build the days of the run and publish.",
)
packs_of_the_week = dg.define_asset_job(
    "packs_of_the_week",
    selection=dg.AssetSelection.assets(assets.packs),
    description="Publish the week's packs and send them where channels are set.",
)


@dg.schedule(
    job=book_of_the_day,
    cron_schedule=f"0 {BUILD_HOUR_UTC} * * *",
    default_status=SCHEDULES,
    description=f"Build yesterday at {BUILD_HOUR_UTC:02}:00 UTC, where the book has data of it.",
)
def every_morning(
    context: dg.ScheduleEvaluationContext, book: BookResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where there is anything to build: a day without data is no day of the book."""
    yesterday = context.scheduled_execution_time.astimezone(UTC).date() - timedelta(days=1)
    has_data = yesterday in warehouse.touched_dates(book.book) or not lake.is_as_seen(book.book)
    if yesterday < FIRST_DAY or not has_data:
        return dg.SkipReason(f"No file tells of {yesterday} yet: it is built once one does.")
    return dg.RunRequest(partition_key=yesterday.isoformat())


pulled = [assets.pulled(name, number) for number, name in enumerate(source_names())]
pulls_of_the_day = dg.define_asset_job(
    "pulls_of_the_day",
    selection=dg.AssetSelection.assets(*pulled),
    description="Ask every source of sources.yml for what is new.",
)
before_the_build = dg.ScheduleDefinition(
    name="before_the_build",
    job=pulls_of_the_day,
    cron_schedule=f"0 {PULL_HOUR_UTC} * * *",
    default_status=SCHEDULES,
    description=f"Pull the sources at {PULL_HOUR_UTC:02}:00 UTC, an hour before the build.",
)
every_monday = dg.build_schedule_from_partitioned_job(
    packs_of_the_week,
    name="every_monday",
    hour_of_day=PACK_HOUR,
    minute_of_hour=0,
    default_status=SCHEDULES,
    description="Publish the packs of the week that ended, after the build of Sunday: on Monday at"
    f" {PACK_HOUR:02}:00 of the organization.",
)


@dg.schedule(
    job=landing_files,
    cron_schedule="*/15 * * * *",
    default_status=SCHEDULES,
    description="Loads what is new in landing/, where anything is.",
)
def every_quarter_of_an_hour(book: BookResource) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run only where landing is not as it was last loaded: most looks find nothing."""
    if lake.is_as_seen(book.book):
        return dg.SkipReason("Nothing came to landing/ or went since it was last loaded.")
    return dg.RunRequest()


@dg.op
def forget_old_runs(context: dg.OpExecutionContext) -> None:
    """Delete runs, events and logs that are older than they are kept."""
    deleted = service.forget(context.instance, service.kept_from(datetime.now(UTC)))
    context.add_output_metadata(deleted)


@dg.job(description=f"Forget runs and events of Dagster older than {service.KEPT_DAYS} days.")
def housekeeping() -> None:
    """One step: what is forgotten is shown beside it."""
    forget_old_runs()


every_night = dg.ScheduleDefinition(
    name="every_night",
    job=housekeeping,
    cron_schedule="30 3 * * *",
    default_status=SCHEDULES,
    description="Forget old runs, at 03:30 UTC.",
)


@dg.sensor(
    job=book_of_the_day,
    minimum_interval_seconds=60,
    default_status=SENSORS,
    description="Builds the days that late or corrected files touched, at most every"
    f" {CATCH_UP_INTERVAL // timedelta(hours=1)} hours.",
)
def late_files(
    context: dg.SensorEvaluationContext, book: BookResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask for one run over all days whose loads the warehouse does not hold yet.

    Files may come at any minute, and a build for each would be the same days again: what came since
    the last one waits until its time is over, and for a build that is under way.
    """
    now = datetime.now(UTC)
    if context.cursor and (rest := datetime.fromisoformat(context.cursor) - now) > timedelta(0):
        return dg.SkipReason(f"Late files are built again in {rest // timedelta(minutes=1)} min.")
    todo = warehouse.plan(book.book)
    if not todo.is_needed:
        return dg.SkipReason("The warehouse holds every load.")
    days = todo.dates if todo.dates is not None else warehouse.touched_dates(book.book)
    partitions = set(DAYS.get_partition_keys())
    days = [day for day in days if day.isoformat() in partitions]
    if not days:
        return dg.SkipReason("The new loads touch none of the days that have a partition.")
    under_way = dg.RunsFilter(job_name=book_of_the_day.name, statuses=service.NOT_FINISHED)
    if context.instance.get_runs_count(under_way):
        return dg.SkipReason("A build is under way, or waits to be.")
    context.update_cursor((now + CATCH_UP_INTERVAL).isoformat())
    return dg.RunRequest(tags=range_tags(days))


@dg.run_failure_sensor(
    default_status=SENSORS,
    description="Tells people of runs that failed, where WATTBOOK_ALERT_WEBHOOK_URL says so.",
)
def failed_runs(context: dg.RunFailureSensorContext, book: BookResource) -> None:
    """One message per run that failed and is not tried again by itself."""
    run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
    webhook = book.alerts()
    if webhook is not None and not run.is_complete_and_waiting_to_retry:
        steps = [event.step_key for event in context.get_step_failure_events() if event.step_key]
        webhook.send(service.alert(run, steps))


defs = dg.Definitions(
    assets=[
        assets.landing,
        assets.reference_data,
        assets.roll_ups,
        assets.models,
        assets.published,
        assets.packs,
        *pulled,
    ],
    asset_checks=[checks.findings],
    jobs=[
        *(landing_files, book_of_the_day, packs_of_the_week, housekeeping),
        *([pulls_of_the_day] if pulled else []),
    ],
    schedules=[
        *(every_quarter_of_an_hour, every_morning, every_monday, every_night),
        *([before_the_build] if pulled else []),
    ],
    sensors=[late_files, failed_runs],
    resources=resources(),
    executor=dg.in_process_executor,
)
