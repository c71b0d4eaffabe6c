"""Building the warehouse: roll-up of the telemetry, then dbt, for the days of a plan.

What belongs here: the order of the steps and the lock around them. What does not: which days
(`planning.py`), how dbt is called (`dbt.py`), handing tables to teams (`pipelines/published`).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

import duckdb
from filelock import FileLock

from pipelines.book import Book
from pipelines.lake import (
    damage,
    lock,
    read_load_records,
    rollup,
    spark,
    withdrawn_loads,
    write_reference_tables,
)
from pipelines.warehouse.dbt import (
    MEMORY_VARIABLE,
    Progress,
    WarehouseError,
    cause_of,
    causes_of,
    dbt_dir,
    invoke_dbt,
)
from pipelines.warehouse.planning import (
    Plan,
    dates_with_telemetry,
    loads_in_warehouse,
    plan,
    with_neighbours,
)

REREAD = "if a file of the lake is damaged, `wattbook load --checksums` reads its rows again"


@dataclass(frozen=True)
class BuildResult:
    """What a build did."""

    warehouse: Path
    is_built: bool
    dates: tuple[date, ...] | None = ()
    model_count: int = 0
    test_count: int = 0
    warnings: list[str] = field(default_factory=list)


def build(
    book: Book,
    dates: Sequence[date] | None = None,
    as_of: datetime | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Build the warehouse for the days that need it, or for those named.

    With `as_of` a second book is built beside the current one, from rows known by then.

    Raises:
        WarehouseError: dbt failed. The next build does the same days again.
    """
    with build_lock(book), whole_lake(book, as_of=as_of is not None):
        write_reference_tables(book)
        todo = plan(book, dates, as_of)
        if not todo.is_needed:
            return BuildResult(todo.warehouse, is_built=False)
        roll_up(todo, progress)
        if as_of is None:
            return _run_dbt(todo, todo.warehouse, progress)
        # A reader may hold the earlier book of the same instant: it is replaced whole.
        draft = todo.warehouse.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        result = _run_dbt(todo, draft, progress)
        draft.replace(todo.warehouse)
        return replace(result, warehouse=todo.warehouse)


def build_lock(book: Book) -> FileLock:
    """Held while building: the warehouse has one writing process."""
    dbt_dir(book).mkdir(parents=True, exist_ok=True)
    return FileLock(dbt_dir(book) / "build.lock")


@contextmanager
def whole_lake(book: Book, *, as_of: bool = False) -> Iterator[None]:
    """Keep the lake from being changed, and go on only if it holds what was loaded.

    Raises:
        WarehouseError: it does not; nothing may be built or published from it.
    """
    with lock(book):
        records = read_load_records(book)
        causes = damage(book, records, as_of=as_of)
        if unknown := sorted(loads_in_warehouse(book) - set(records["load_id"])):
            causes.append(
                f"{book.lake / 'loads'}: found no record of {len(unknown)} loads that the warehouse"
                f" holds ({', '.join(unknown[:3])}): put the folder back from a backup or their"
                " files into landing and load, or delete warehouse.duckdb to build without them"
            )
        if causes:
            raise WarehouseError(causes)
        yield


def roll_up(todo: Plan, progress: Progress | None = None) -> None:
    """Roll up the telemetry of the plan's days and of those next to them."""
    with_telemetry = dates_with_telemetry(todo.book)
    if todo.telemetry_dates is not None:
        near = with_neighbours(todo.telemetry_dates)
        with_telemetry = [day for day in with_telemetry if day in near]
    left_out = withdrawn_loads(read_load_records(todo.book), todo.as_of)
    if master := os.environ.get(spark.SPARK_VARIABLE):
        spark.roll_up(
            todo.book,
            with_telemetry,
            master,
            as_of=todo.as_of,
            left_out=left_out,
            progress=progress,
        )
        return
    try:
        rollup.roll_up(
            todo.book,
            with_telemetry,
            as_of=todo.as_of,
            left_out=left_out,
            memory_limit=os.environ.get(MEMORY_VARIABLE),
            progress=progress,
        )
    except duckdb.Error as error:
        found = " ".join(str(error).split())
        raise WarehouseError(
            [f"{todo.book.lake}: telemetry could not be rolled up ({found}): {REREAD}"]
        ) from error


def _run_dbt(todo: Plan, warehouse: Path, progress: Progress | None) -> BuildResult:
    answer = invoke_dbt(todo.book, warehouse, todo.dbt_arguments, progress)
    results = list(getattr(answer.result, "results", None) or [])
    if not answer.success:
        raise WarehouseError(causes_of(todo.book, answer, results, warehouse))
    return BuildResult(
        warehouse,
        is_built=True,
        dates=todo.dates,
        model_count=sum(result.node.resource_type == "model" for result in results),
        test_count=sum(result.node.resource_type == "test" for result in results),
        warnings=[cause_of(result) for result in results if result.status == "warn"],
    )
