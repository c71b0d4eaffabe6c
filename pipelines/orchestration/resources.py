"""What the Dagster assets are given: the book, dbt, and the days of a run.

What belongs here: resources, partitions, the dbt project as Dagster reads it, and the one look at
the environment. What does not: assets (`assets.py`), schedules and sensors
(`definitions.py`).
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource

from pipelines import reference, warehouse
from pipelines.book import Book
from pipelines.bucket import LAKE_VARIABLE
from pipelines.errors import BookError
from pipelines.orchestration.columns import Columns
from pipelines.pack.delivery import Channels, Webhook, channels, webhook_of


class BookResource(dg.ConfigurableResource):
    """The book that the assets work on."""

    data_dir: str

    @property
    def book(self) -> Book:
        """The folders of the book."""
        return Book(Path(self.data_dir), os.environ.get(LAKE_VARIABLE))

    def channels(self) -> Channels:
        """Where packs are sent; read when needed, so that no secret is part of a run's settings."""
        return channels(os.environ)

    def alerts(self) -> Webhook | None:
        """Where people are told of runs that failed, if anywhere."""
        return webhook_of(os.environ, "WATTBOOK_ALERT_WEBHOOK_URL")


def data_dir() -> Path:
    """Where the book lives: WATTBOOK_DATA_DIR, else data/ in the working directory."""
    return Path(os.environ.get("WATTBOOK_DATA_DIR", "data")).resolve()


def runs_by_itself() -> bool:
    """Whether schedules and sensors are on from the start, unless switched off in the UI."""
    return os.environ.get("WATTBOOK_SCHEDULES") == "on"


def calendar() -> tuple[reference.Calendar, list[str]]:
    """The calendar of the book, and what has to be mended before it can be known.

    The UI has to start where there is nothing yet, or mistakes, so as to say so: the book then
    begins where its data do, or today.
    """
    book = BookResource(data_dir=str(data_dir())).book
    data_from, causes = None, []
    try:
        data_from = warehouse.first_date(book)
    except BookError as error:
        causes += error.causes
    try:
        return reference.load_calendar(book.reference, data_from), causes
    except reference.ReferenceErrors as error:
        first_day = data_from or datetime.now(UTC).date()
        return reference.Calendar("UTC", first_day), [*causes, *error.causes]


# Partitions stay what they are while a process runs.
_CALENDAR, TO_MEND = calendar()
FIRST_DAY = _CALENDAR.first_day
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat())
WEEKS = dg.WeeklyPartitionsDefinition(
    start_date=_CALENDAR.first_monday.isoformat(), day_offset=1, timezone=_CALENDAR.time_zone
)


def source_names() -> list[str]:
    """The sources that are pulled; none where `sources.yml` has mistakes.

    They keep the UI from nothing: checking the reference data tells of them.
    """
    try:
        sources = reference.load_sources(Book(data_dir()).reference).sources
    except reference.ReferenceErrors:
        return []
    return [source.name for source in sources]


@cache
def manifest() -> dict[str, Any]:
    """The dbt project as it stands, read once per process."""
    return warehouse.parse(parsed_book())


def columns_file() -> Path:
    """Where it is kept what was found out of the models' columns."""
    return data_dir() / "dagster" / "columns.json"


@cache
def columns() -> Columns:
    """What is known of the columns of the dbt project as it stands, read once per process."""
    return Columns.read(columns_file(), warehouse.project_digest())


def parsed_book() -> Book:
    """Where the parsed project lies, apart from that of builds, which may run meanwhile."""
    return Book(data_dir() / "dagster")


def resources() -> dict[str, dg.ConfigurableResource]:
    """The resources of the code location."""
    return {
        "book": BookResource(data_dir=str(data_dir())),
        "dbt": DbtCliResource(
            # Beside the interpreter, so that the environment need not be on the PATH.
            dbt_executable=str(Path(sys.executable).with_name("dbt")),
            project_dir=str(warehouse.PROJECT_DIR),
            profiles_dir=str(warehouse.PROJECT_DIR),
            global_config_flags=["--log-path", str(warehouse.dbt_dir(parsed_book()) / "logs")],
        ),
    }


def days_of(context: dg.AssetExecutionContext) -> list[date] | None:
    """The UTC days a run is for; None where it names no partition: all that need it."""
    if not context.has_partition_key and not context.has_partition_key_range:
        return None
    keys = context.partition_key_range
    first, last = date.fromisoformat(keys.start), date.fromisoformat(keys.end)
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def days_with_data(context: dg.AssetExecutionContext, book: Book) -> list[date] | None:
    """The UTC days a run is for, as `days_of`, none where the book has no data of any.

    Raises:
        Failure: the days go on beyond the data, of which nothing can be built.
    """
    days = days_of(context)
    if days is None:
        return None
    known = set(warehouse.touched_dates(book))
    if known.isdisjoint(days):
        context.log.warning("The book has no data of the days of this run: nothing is built.")
        return []
    if max(days) > max(known):
        raise dg.Failure(
            f"The data end on {max(known)}: start the run again for days up to that one. Days that"
            " come later are built once their files are in landing/.",
            allow_retries=False,
        )
    return days


def all_days() -> list[date]:
    """The UTC days that have a partition."""
    return [date.fromisoformat(key) for key in DAYS.get_partition_keys()]


def range_tags(days: Sequence[date]) -> dict[str, str]:
    """Run tags that make one run of all partitions from the first to the last of `days`."""
    return {
        "dagster/asset_partition_range_start": min(days).isoformat(),
        "dagster/asset_partition_range_end": max(days).isoformat(),
    }
