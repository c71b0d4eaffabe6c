"""The warehouse: which days have to be built, and the dbt run that builds them.

What belongs here: comparing the loads of the lake with those the warehouse holds, rolling up the
telemetry of the days in question, running dbt. What does not: any formula (`dbt_project/`), loading
files (`lake.py`), handing tables to teams (`publish.py`).

dbt is the only writer of the warehouse. What it holds stands in its table `raw.built_loads`: the
ids of load records, and beside them one id for the reference data and one for the models and
roll-up it was built with, so that a change of either rebuilds everything.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
from filelock import FileLock

from pipelines import lake, reference, rollup
from pipelines.errors import BookError
from pipelines.settings import Book

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult

Progress = Callable[[str], None]

PROJECT_DIR = Path(__file__).resolve().parents[1] / "dbt_project"
WAREHOUSE_VARIABLE = "WATTBOOK_WAREHOUSE"


class WarehouseError(BookError):
    """The warehouse could not be built; `causes` has one sentence per cause."""


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

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to build."""
        return self.dates is None or bool(self.dates)

    def without_load_ids(self) -> "Plan":
        """The same work, after which its loads still count as not built."""
        return replace(self, load_ids=())

    @property
    def dbt_vars(self) -> dict[str, Any]:
        """The vars of the dbt run."""
        return {
            "lake_dir": str(self.book.lake.resolve()),
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "build_dates": [day.isoformat() for day in self.dates or ()],
            "load_ids": list(self.load_ids),
        }

    @property
    def dbt_arguments(self) -> list[str]:
        """The dbt command and its options; unit tests are for `make test`, not for every build."""
        arguments = ["build", "--exclude-resource-type", "unit_test"]
        if self.is_full_refresh:
            arguments.append("--full-refresh")
        return [*arguments, "--vars", json.dumps(self.dbt_vars)]


@dataclass(frozen=True)
class BuildResult:
    """What a build did."""

    warehouse: Path
    is_built: bool
    dates: tuple[date, ...] | None = ()
    model_count: int = 0
    test_count: int = 0
    warnings: list[str] = field(default_factory=list)


def dbt_dir(book: Book) -> Path:
    """Where dbt keeps its manifest and logs, so that nothing is written in the project."""
    return book.data_dir.resolve() / "dbt"


def manifest_path(book: Book) -> Path:
    """The manifest of the last build."""
    return dbt_dir(book) / "target" / "manifest.json"


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
    Where only some dates can be named, `nameable`, a load counts as built once those of its dates
    are: a certificate of the whole year touches days before the book and days to come.
    """
    if as_of is not None:
        return Plan(_as_of_book(book, as_of), as_of_path(book, as_of), None, as_of=as_of)
    loads = lake.read_load_records(book).filter(pl.col("status") != "failed")
    loads = loads.with_columns(build_id=_build_id())
    built = built_loads(book)
    marks = _marks(book, built)
    new = loads.filter(~pl.col("build_id").is_in(list(built)))
    touched = _touched(new)
    is_telemetry = pl.col("tables").list.set_intersection(list(lake.DAILY_TABLES)).list.len() > 0
    with_telemetry = _touched(new.filter(is_telemetry))
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
    to_roll_up = days if dates else with_telemetry
    if marks - built:
        return Plan(book, warehouse, days, telemetry_dates=to_roll_up)
    left = pl.col("touched_dates").list.set_difference(pl.lit(list(days), pl.List(pl.Date)))
    if nameable is not None:
        left = left.list.set_intersection(pl.lit(list(nameable), pl.List(pl.Date)))
    covered = new.filter(left.list.len() == 0)
    return Plan(
        book, warehouse, days, tuple(covered["build_id"].sort()), telemetry_dates=to_roll_up
    )


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
    with build_lock(book):
        reference.write_tables(book)
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


def roll_up(todo: Plan, progress: Progress | None = None) -> None:
    """Roll up the telemetry of the plan's days and of those next to them.

    A sample closes the step since the one before it, which may have begun the day before.
    """
    with_telemetry = dates_with_telemetry(todo.book)
    if todo.telemetry_dates is not None:
        dates = todo.telemetry_dates
        near = {day + timedelta(days=offset) for day in dates for offset in (-1, 0, 1)}
        with_telemetry = [day for day in with_telemetry if day in near]
    if with_telemetry:
        rollup.roll_up(todo.book, with_telemetry, as_of=todo.as_of, progress=progress)


def touched_dates(book: Book) -> list[date]:
    """The UTC dates that any load touched."""
    return list(_touched(lake.read_load_records(book)))


def _touched(loads: pl.DataFrame) -> tuple[date, ...]:
    return tuple(loads["touched_dates"].explode().drop_nulls().unique().sort())


def keep_manifest(book: Book, manifest: Path) -> None:
    """Make `manifest` the manifest of the last build, by which `publish` goes."""
    manifest_path(book).parent.mkdir(parents=True, exist_ok=True)
    draft = manifest_path(book).with_suffix(".draft")
    shutil.copyfile(manifest, draft)
    draft.replace(manifest_path(book))


def dates_with_telemetry(book: Book) -> list[date]:
    """The UTC dates of which the lake holds telemetry."""
    return sorted(
        {
            date.fromisoformat(folder.name)
            for table in lake.DAILY_TABLES
            for folder in (book.lake / table).glob("????-??-??")
        }
    )


def built_loads(book: Book) -> set[str]:
    """What the warehouse holds, as in `raw.built_loads`; nothing before the first build."""
    if not book.warehouse.exists():
        return set()
    with duckdb.connect(str(book.warehouse.resolve()), read_only=True) as connection:
        exists = connection.execute(
            "select count(*) from duckdb_tables() where schema_name = 'raw'"
            " and table_name = 'built_loads'"
        ).fetchall()
        if exists == [(0,)]:
            return set()
        return {
            row[0] for row in connection.execute("select load_id from raw.built_loads").fetchall()
        }


@contextmanager
def warehouse_variable(path: Path) -> Iterator[None]:
    """Tell dbt's profile which file to write."""
    before = os.environ.get(WAREHOUSE_VARIABLE)
    os.environ[WAREHOUSE_VARIABLE] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[WAREHOUSE_VARIABLE]
        else:
            os.environ[WAREHOUSE_VARIABLE] = before


def invoke_dbt(
    book: Book, warehouse: Path, arguments: Sequence[str], progress: Progress | None = None
) -> "dbtRunnerResult":
    """Run a dbt command in this process, writing nothing but the warehouse and `dbt_dir`."""
    # dbt takes two seconds to import, and a build with nothing to do does not need it.
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    def report(event: Any) -> None:
        if progress is not None and event.info.name == "LogStartLine":
            progress(event.data.description)

    folder = dbt_dir(book)
    common = [
        *("--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)),
        *("--target-path", str(folder / "target"), "--log-path", str(folder / "logs")),
        *("--log-level", "none", "--log-level-file", "info", "--no-use-colors"),
    ]
    with warehouse_variable(warehouse):
        # Other vars make dbt read the whole project again; what it reads does not depend on them.
        answer = dbtRunner().invoke(["parse", *common])
        if list(arguments) != ["parse"] and isinstance(answer.result, Manifest):
            runner = dbtRunner(manifest=answer.result, callbacks=[report])
            answer = runner.invoke([*arguments, *common])
    close_connections()
    return answer


def close_connections() -> None:
    """Close what dbt's adapter would keep open, for writing, until the process ends."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()


def parse(book: Book) -> dict[str, Any]:
    """The manifest of the dbt project as it stands now, also written to `manifest_path`.

    Raises:
        WarehouseError: the project cannot be read.
    """
    # Several processes may load the same code location at once.
    dbt_dir(book).mkdir(parents=True, exist_ok=True)
    with FileLock(dbt_dir(book) / "parse.lock"):
        answer = invoke_dbt(book, book.warehouse.resolve(), ["parse"])
        if not answer.success:
            raise WarehouseError(_causes(answer, []))
        manifest: dict[str, Any] = json.loads(manifest_path(book).read_text())
    return manifest


def _run_dbt(todo: Plan, warehouse: Path, progress: Progress | None) -> BuildResult:
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    answer = invoke_dbt(todo.book, warehouse, todo.dbt_arguments, progress)
    results = list(getattr(answer.result, "results", None) or [])
    if not answer.success:
        raise WarehouseError(_causes(answer, results))
    return BuildResult(
        warehouse,
        is_built=True,
        dates=todo.dates,
        model_count=sum(result.node.resource_type == "model" for result in results),
        test_count=sum(result.node.resource_type == "test" for result in results),
        warnings=[_cause(result) for result in results if result.status == "warn"],
    )


def _causes(answer: "dbtRunnerResult", results: list[Any]) -> list[str]:
    causes = [
        _cause(result) for result in results if result.status in ("error", "fail", "runtime error")
    ]
    if answer.exception is not None:
        causes.append(f"dbt: {_one_line(str(answer.exception))}")
    return causes or [
        "dbt stopped without naming a cause: see dbt/logs/dbt.log in the data directory"
    ]


def _cause(result: Any) -> str:
    name = f"{result.node.resource_type} {result.node.name}"
    return (
        f"{name} ({result.node.original_file_path}): {_one_line(result.message or result.status)}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _build_id() -> pl.Expr:
    # A file of which some rows waited for reference data is another load once they are let in.
    return (
        pl.when(pl.col("status") == "loaded")
        .then(pl.col("load_id"))
        .otherwise(pl.format("{}.{}", "load_id", "reference_digest"))
    )


def _as_of_book(book: Book, as_of: datetime) -> Book:
    """A book that shares the lake but for the roll-ups, which depend on what was known."""
    folder = dbt_dir(book) / f"as-of-{_stamp(as_of)}"
    own_lake = folder / "lake"
    own_lake.mkdir(parents=True, exist_ok=True)
    for shared in sorted(book.lake.resolve().iterdir()):
        link = own_lake / shared.name
        if shared.name not in ("gpu_intervals", "node_intervals") and not link.exists():
            link.symlink_to(shared, target_is_directory=True)
    own_reference = book.data_dir.resolve() / "reference"
    if own_reference.exists() and not (folder / "reference").exists():
        (folder / "reference").symlink_to(own_reference, target_is_directory=True)
    return Book(data_dir=folder)


def _stamp(as_of: datetime) -> str:
    return as_of.astimezone(UTC).strftime("%Y-%m-%dT%H%M%SZ")


def _marks(book: Book, built: set[str]) -> set[str]:
    """What stands for reference data, models and roll-up in `raw.built_loads`.

    Each is numbered, since what was changed back is another change.
    """
    digests = {
        "reference": _digest(book.reference),
        "project": _digest(PROJECT_DIR),
        "rollup": _digest_of([Path(rollup.__file__)]),
    }
    marks = set()
    for name, digest in digests.items():
        earlier = [mark.split(".") for mark in built if mark.startswith(f"{name}.")]
        number, latest = max(((int(part[1]), part[2]) for part in earlier), default=(0, ""))
        marks.add(f"{name}.{number if latest == digest else number + 1}.{digest}")
    return marks


def _digest(folder: Path) -> str:
    """Digest of the settings and models below a folder."""
    kinds = (".csv", ".sql", ".yml")
    return _digest_of([file for file in folder.rglob("*") if file.suffix in kinds])


def _digest_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
