"""Which days a build has to do, and what the warehouse holds after it.

What belongs here: comparing the loads of the lake with those the warehouse holds. What does not:
doing the work (`building.py`) and loading files (`pipelines/lake`).

What the warehouse holds stands in its table `raw.built_loads`: the ids of load records, and beside
them one id for the reference data and one for the models and roll-up it was built with, so that a
change of either rebuilds everything.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from pipelines.book import Book, EarlierBook
from pipelines.lake import DAILY_TABLES, IN_BOOK, listing, read_load_records, rollup, spark
from pipelines.lake.schemas import RAW_TABLES
from pipelines.warehouse.dbt import (
    WarehouseError,
    dbt_dir,
    digest_of,
    digest_of_folder,
    project_digest,
)


@dataclass(frozen=True)
class Plan:
    """What one build has to do."""

    book: Book
    warehouse: Path
    dates: tuple[date, ...] | None
    """UTC dates to build; None builds everything, () nothing."""
    load_ids: tuple[str, ...] = ()
    """What the warehouse will hold when the build has succeeded, as in `raw.built_loads`."""
    telemetry_dates: tuple[date, ...] | None = None
    """UTC dates whose telemetry to roll up; None rolls up all of it."""
    as_of: datetime | None = None
    is_full_refresh: bool = False
    last_built: date | None = None
    """Last UTC date with data that the warehouse holds."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to build."""
        return self.dates is None or bool(self.dates)

    def without_load_ids(self) -> "Plan":
        """The same work, after which its loads still count as not built."""
        return replace(self, load_ids=())

    @property
    def build_from(self) -> date | None:
        """First UTC date that dbt rebuilds; None rebuilds everything.

        Models remember up to the start of the month (macros/build_window.sql). The local month may
        begin up to a day before that of UTC, and the first date may still belong to the local
        month before: hence the two days of margin. Days between the last one built and the first
        one touched had no data, and belong to the book too.
        """
        if not self.dates:
            return None
        margin = timedelta(days=1)
        first = (min(self.dates) - margin).replace(day=1) - margin
        return first if self.last_built is None else min(first, self.last_built + margin)

    @property
    def dbt_vars(self) -> dict[str, Any]:
        """The vars of the dbt run."""
        return {
            "lake_dir": str(self.book.lake.resolve()),
            "roll_up_dir": str(self.book.roll_ups.resolve()),
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "build_from": self.build_from.isoformat() if self.build_from else None,
            "load_ids": list(self.load_ids),
        }

    @property
    def dbt_arguments(self) -> list[str]:
        """The dbt command and its options; unit tests are for `make test`, not for every build."""
        arguments = ["build", "--exclude-resource-type", "unit_test"]
        if self.is_full_refresh:
            arguments.append("--full-refresh")
        return [*arguments, "--vars", json.dumps(self.dbt_vars)]


def as_of_path(book: Book, as_of: datetime) -> Path:
    """The second book, as things were known at `as_of`."""
    return book.warehouse.with_name(f"warehouse.as-of-{_stamp(as_of)}.duckdb")


def plan(
    book: Book,
    dates: Sequence[date] | None = None,
    as_of: datetime | None = None,
    *,
    nameable: Collection[date] | None = None,
) -> Plan:
    """Decide what to build: the named UTC dates, else those that new loads touched.

    The first build, and one after a change of reference data, models or roll-up, takes everything.
    A load counts as built where dbt rebuilds all its dates, which it does from the start of the
    month on, and the telemetry of all of them is rolled up. Where only some dates can be named,
    `nameable`, those count: a certificate of the whole year touches days before the book.
    """
    if as_of is not None:
        earlier = EarlierBook(dbt_dir(book) / f"as-of-{_stamp(as_of)}", today=book)
        return Plan(earlier, as_of_path(book, as_of), None, as_of=as_of)
    loads = read_load_records(book).filter(pl.col("status") != "failed")
    loads = _up_to_data(loads).with_columns(build_id=_build_id())
    built = built_loads(book)
    marks = _marks(book, built)
    new = loads.filter(~pl.col("build_id").is_in(list(built)))
    touched = _touched(new)
    is_telemetry = pl.col("tables").list.set_intersection(list(DAILY_TABLES)).list.len() > 0
    with_telemetry = _touched(new.filter(is_telemetry))
    if any(mark.startswith("rollup.") for mark in built):
        # Of a day whose roll-up is gone the book would know nothing.
        lost = {*dates_with_telemetry(book)} - rollup.rolled_up(book)
        touched, with_telemetry = (
            tuple(sorted({*days, *lost})) for days in (touched, with_telemetry)
        )
    warehouse = book.warehouse.resolve()
    if marks - built and not dates:
        # Roll-ups depend on neither reference data nor models.
        is_rolled_up = any(mark.startswith("rollup.") for mark in marks & built)
        return Plan(
            book,
            warehouse,
            None,
            (*new["build_id"].sort(), *sorted(marks)),
            telemetry_dates=with_telemetry if is_rolled_up else None,
            is_full_refresh=warehouse.exists(),
        )
    days = tuple(sorted(dates)) if dates else touched
    in_warehouse = pl.col("build_id").is_in(list(built)) & pl.col("status").is_in(IN_BOOK)
    todo = Plan(
        book,
        warehouse,
        days,
        telemetry_dates=days if dates else with_telemetry,
        last_built=max(_touched(_happened(loads.filter(in_warehouse))), default=None),
    )
    if marks - built:
        return todo
    left = pl.col("touched_dates")
    if nameable is not None:
        left = left.list.set_intersection(pl.lit(list(nameable), pl.List(pl.Date)))
    missed = pl.element().filter(pl.element() < (todo.build_from or date.max))
    rolled_up = pl.lit(sorted(with_neighbours(todo.telemetry_dates or ())), pl.List(pl.Date))
    covered = new.filter(
        left.list.eval(missed).list.len() == 0,
        ~is_telemetry | (left.list.set_difference(rolled_up).list.len() == 0),
    )
    return replace(todo, load_ids=tuple(covered["build_id"].sort()))


def with_neighbours(dates: Collection[date]) -> set[date]:
    """The dates and those next to them, whose telemetry is rolled up with theirs.

    A sample closes the step since the one before it, which may have begun the day before.
    """
    return {day + timedelta(days=offset) for day in dates for offset in (-1, 0, 1)}


def dates_with_telemetry(book: Book) -> list[date]:
    """The UTC dates of which the lake holds telemetry."""
    return sorted(
        {
            date.fromisoformat(file.split("/")[0])
            for table in DAILY_TABLES
            for file in listing(book.lake / table)
            if file != "schema.parquet"
        }
    )


def touched_dates(book: Book) -> list[date]:
    """The UTC dates that any load touched, up to the last day with data."""
    records = _up_to_data(read_load_records(book))
    return list(_touched(records.filter(pl.col("status").is_in(IN_BOOK))))


def first_date(book: Book) -> date | None:
    """The first UTC date of what happened that any load tells of; None without one."""
    records = read_load_records(book).filter(pl.col("status").is_in(IN_BOOK))
    return min(_touched(_happened(records)), default=None)


def _touched(loads: pl.DataFrame) -> tuple[date, ...]:
    return tuple(loads["touched_dates"].explode().drop_nulls().unique().sort())


def _happened(loads: pl.DataFrame) -> pl.DataFrame:
    """Loads that tell of more than what may lie ahead."""
    ahead = [name for name, table in RAW_TABLES.items() if table.may_lie_ahead]
    return loads.filter(pl.col("tables").list.set_difference(ahead).list.len() > 0)


def _up_to_data(loads: pl.DataFrame) -> pl.DataFrame:
    """Loads whose dates end with the last day with data.

    A certificate may hold to the end of the year, a price for tomorrow: there is nothing to build
    of days of which nothing else is known, and a build goes on to the end of the book anyway.
    """
    last = max(_touched(_happened(loads)), default=None)
    if last is None:
        return loads
    within = pl.min_horizontal(pl.element(), pl.lit(last, pl.Date))
    return loads.with_columns(pl.col("touched_dates").list.eval(within))


def built_loads(book: Book) -> set[str]:
    """What the warehouse holds, as in `raw.built_loads`; nothing before the first build."""
    rows = _rows(book, "built_loads", "select load_id from raw.built_loads")
    return {load_id for (load_id,) in rows}


def loads_in_warehouse(book: Book) -> set[str]:
    """The loads that the warehouse was built from, whatever became of them since."""
    marks = ("project", "reference", "rollup")
    return {name for load in built_loads(book) if (name := load.split(".")[0]) not in marks}


def built_from(book: Book) -> str | None:
    """What the warehouse and the load records hold, told by their content.

    None where the last build did not end well, or there was none.
    """
    latest = "select build_id, is_finished from raw.builds order by started_at desc limit 1"
    builds = _rows(book, "builds", latest)
    if not builds or not builds[0][1]:
        return None
    folder = book.lake / "loads"
    loads = [folder / name for name in listing(folder) if name != "schema.parquet"]
    return f"{builds[0][0]}.{digest_of(loads)}"


def changed_from(book: Book, built: str) -> date | None:
    """First UTC date of which models may hold other rows than when `built_from` told this.

    It is the earliest that a later build began with, whether it ended well or not; None where that
    was everything, or the build is not known.
    """
    later = (
        "select later.build_id is null or later.build_from is not null as is_known,"
        " coalesce(later.build_from, date '9999-12-31') as build_from"
        " from raw.builds as earlier"
        " left join raw.builds as later on earlier.started_at < later.started_at"
        " where earlier.build_id = ?"
    )
    builds = _rows(book, "builds", later, built.partition(".")[0])
    if not builds or not all(is_known for is_known, _ in builds):
        return None
    return min(first for _, first in builds)


def _rows(book: Book, table: str, query: str, *parameters: str) -> list[tuple[Any, ...]]:
    """What a query on a table of schema raw gives, nothing where the table is not there.

    Raises:
        WarehouseError: the warehouse cannot be read.
    """
    if not book.warehouse.exists():
        return []
    exists = "select count(*) from duckdb_tables() where schema_name = 'raw' and table_name = ?"
    try:
        with duckdb.connect(str(book.warehouse.resolve()), read_only=True) as connection:
            if connection.execute(exists, [table]).fetchall() == [(0,)]:
                return []
            return connection.execute(query, parameters).fetchall()
    except duckdb.Error as error:
        if "lock" in str(error):
            raise
        raise WarehouseError([damaged(book, error)]) from error


def damaged(book: Book, error: Exception) -> str:
    """What to do where the warehouse is no whole DuckDB file."""
    return (
        f"{book.warehouse}: found a damaged file ({' '.join(str(error).split())}): delete it and"
        " run `wattbook build`: everything is built anew from the lake"
    )


def _build_id() -> pl.Expr:
    # A file of which some rows waited for reference data is another load once they are let in; so
    # is one that went out of the book or came back, and one read by a mapping that was corrected.
    is_mapped = pl.col("reference_digest").str.contains(".", literal=True)
    waits = pl.when((pl.col("status") == "partial") | is_mapped).then(
        pl.format(".{}", "reference_digest")
    )
    times = pl.col("withdrawn_at").list.len()
    return pl.concat_str(
        "load_id",
        waits.otherwise(pl.lit("")),
        pl.when(times > 0).then(pl.format(".w{}", times)).otherwise(pl.lit("")),
    )


def _stamp(as_of: datetime) -> str:
    return as_of.astimezone(UTC).strftime("%Y-%m-%dT%H%M%SZ")


def _marks(book: Book, built: set[str]) -> set[str]:
    """What stands for reference data, models and roll-up in `raw.built_loads`.

    Each is numbered, since what was changed back is another change.
    """
    digests = {
        "reference": digest_of_folder(book.reference),
        "project": project_digest(),
        "rollup": digest_of([Path(rollup.__file__), Path(spark.__file__)]),
    }
    marks = set()
    for name, digest in digests.items():
        earlier = [mark.split(".") for mark in built if mark.startswith(f"{name}.")]
        number, latest = max(((int(part[1]), part[2]) for part in earlier), default=(0, ""))
        marks.add(f"{name}.{number if latest == digest else number + 1}.{digest}")
    return marks
