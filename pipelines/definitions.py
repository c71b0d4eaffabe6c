"""The Dagster code location: what runs, when, and because of what.

What belongs here: jobs, schedules, sensors and the list of all there is. What does not: assets
(`dagster_assets.py`), resources and partitions (`dagster_resources.py`).
"""

import hashlib

import dagster as dg

from pipelines import dagster_assets, warehouse
from pipelines.dagster_resources import DAYS, BookResource, range_tags, resources

landing_files = dg.define_asset_job(
    "landing_files",
    selection=dg.AssetSelection.groups("landing"),
    description="Load whatever is new in landing/.",
)
book_of_the_day = dg.define_asset_job(
    "book_of_the_day",
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets(dagster_assets.packs),
    description="Load what is new, build the days of the run and publish.",
)
packs_of_the_week = dg.define_asset_job(
    "packs_of_the_week",
    selection=dg.AssetSelection.assets(dagster_assets.packs),
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
    hour_of_day=5,
    minute_of_hour=0,
    description="Build yesterday at 05:00 UTC.",
)
# After the build of Sunday, which every_morning starts at 05:00 UTC, for zones up to UTC+2.
every_monday = dg.build_schedule_from_partitioned_job(
    packs_of_the_week,
    name="every_monday",
    hour_of_day=8,
    minute_of_hour=0,
    description="Publish the packs of the week that ended, on Monday at 08:00 of the organization.",
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
        dagster_assets.landing,
        dagster_assets.reference_data,
        dagster_assets.roll_ups,
        dagster_assets.models,
        dagster_assets.published,
        dagster_assets.packs,
    ],
    asset_checks=[dagster_assets.quarantine],
    jobs=[landing_files, book_of_the_day, packs_of_the_week],
    schedules=[every_quarter_of_an_hour, every_morning, every_monday],
    sensors=[late_files],
    resources=resources(),
    executor=dg.in_process_executor,
)
