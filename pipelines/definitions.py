"""The Dagster code location: what runs, when, and because of what.

What belongs here: jobs, schedules, sensors and the list of all there is. What does not: assets
(`orchestration/assets.py`), resources and partitions (`orchestration/resources.py`).
"""

import hashlib
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from pipelines import warehouse
from pipelines.orchestration import assets, checks
from pipelines.orchestration.resources import DAYS, WEEKS, BookResource, range_tags, resources

BUILD_HOUR_UTC = 5


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
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets(assets.packs),
    description="Load what is new, build the days of the run and publish.",
)
packs_of_the_week = dg.define_asset_job(
    "packs_of_the_week",
    selection=dg.AssetSelection.assets(assets.packs),
    description="Publish the week's packs and send them where channels are set.",
)
every_quarter_of_an_hour = dg.ScheduleDefinition(
    name="every_quarter_of_an_hour",
    job=landing_files,
    cron_schedule="*/15 * * * *",
    description="Look for new files in landing/.",
)
every_morning = dg.build_schedule_from_partitioned_job(
    book_of_the_day,
    name="every_morning",
    hour_of_day=BUILD_HOUR_UTC,
    minute_of_hour=0,
    description=f"Build yesterday at {BUILD_HOUR_UTC:02}:00 UTC.",
)
every_monday = dg.build_schedule_from_partitioned_job(
    packs_of_the_week,
    name="every_monday",
    hour_of_day=PACK_HOUR,
    minute_of_hour=0,
    description="Publish the packs of the week that ended, after the build of Sunday: on Monday at"
    f" {PACK_HOUR:02}:00 of the organization.",
)


@dg.sensor(
    job=book_of_the_day,
    minimum_interval_seconds=60,
    description="Builds the days that late or corrected files touched.",
)
def late_files(
    context: dg.SensorEvaluationContext, book: BookResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask for one run over all days whose loads the warehouse does not hold yet."""
    todo = warehouse.plan(book.book)
    if not todo.is_needed:
        return dg.SkipReason("The warehouse holds every load.")
    days = todo.dates if todo.dates is not None else warehouse.touched_dates(book.book)
    partitions = set(DAYS.get_partition_keys())
    days = [day for day in days if day.isoformat() in partitions]
    if not days:
        return dg.SkipReason("The new loads touch none of the days that have a partition.")
    run_key = hashlib.sha256("".join(todo.load_ids).encode()).hexdigest()
    return dg.RunRequest(run_key=run_key, tags=range_tags(days))


defs = dg.Definitions(
    assets=[
        assets.landing,
        assets.reference_data,
        assets.roll_ups,
        assets.models,
        assets.published,
        assets.packs,
    ],
    asset_checks=[checks.quarantine, checks.findings],
    jobs=[landing_files, book_of_the_day, packs_of_the_week],
    schedules=[every_quarter_of_an_hour, every_morning, every_monday],
    sensors=[late_files],
    resources=resources(),
    executor=dg.in_process_executor,
)
