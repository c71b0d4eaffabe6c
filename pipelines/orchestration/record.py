"""Tells the Dagster instance of a book what the command line has done to it.

What belongs here: the events that the same work would have left had Dagster run it, and storing
them. What does not: doing the work, and what an asset shows beside it (`assets.py`).

They are events of a run that does nothing but tell of them: assets, days and checks show as done,
with their metadata, and the list of runs has one more, under the command that did the work. It
took the time of telling, and shows of many days of a table the last one alone.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from threading import RLock
from typing import Any, cast

import dagster as dg
import duckdb
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage
from sqlalchemy.engine import Connection

from pipelines import warehouse
from pipelines.book import Book
from pipelines.orchestration import assets, checks, service
from pipelines.orchestration.columns import Columns, types_in
from pipelines.orchestration.resources import DAYS, WEEKS, columns_file, manifest
from pipelines.pack import PublishedPack
from pipelines.pack.document import week_dates

SETTINGS = Path(__file__).with_name("instance.yaml")
UNIQUE_ID = "dagster_dbt/unique_id"

Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


class EventLog(SqliteEventLogStorage):
    """Dagster's event log, which stores what it is given in one transaction.

    By itself it opens, commits and closes three connections an event, and tells the index of assets
    of each: minutes for 200 days. Of materializations of one asset in a row the last one goes its
    way, and those before it go together into the log of all runs, in which the days are looked up.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._open: dict[str, Connection] | None = None
        self._stack = ExitStack()
        self._in_a_row: list[EventLogEntry] = []
        super().__init__(*args, **kwargs)
        # Several shards are open at once, each under Dagster's lock.
        self._db_lock = RLock()  # type: ignore[assignment]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "EventLog":
        """As Dagster makes it from the settings of an instance."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if self._open is None:
            with super()._connect(shard) as connection:
                yield connection
            return
        if shard not in self._open:
            self._open[shard] = self._stack.enter_context(super()._connect(shard))
        yield self._open[shard]

    @contextmanager
    def one_transaction(self) -> Iterator[None]:
        """All that is stored meanwhile, or nothing."""
        self._open = {}
        try:
            with self._stack:
                yield
                self._store_row()
        finally:
            self._open = None
            self._in_a_row = []

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, in a transaction at the latest when it ends."""
        if self._open is None:
            super().store_event(event)
            return
        if self._in_a_row and _materialized(self._in_a_row[-1]) != _materialized(event):
            self._store_row()
        self._in_a_row.append(event)
        if _materialized(event) is None:
            self._store_row()

    def _store_row(self) -> None:
        if not self._in_a_row:
            return
        *before, last = self._in_a_row
        self._in_a_row = []
        if before:
            with self.index_connection() as connection:
                rows = [self._event_to_row(event) for event in before]
                connection.execute(SqlEventLogStorageTable.insert(), rows)
        super().store_event(last)


def _materialized(event: EventLogEntry) -> dg.AssetKey | None:
    happened = event.dagster_event
    return happened.asset_key if happened and happened.is_step_materialization else None


def record(book: Book, dates: Sequence[date] | None, command: str) -> int:
    """Store what the last build and publication of a book did; the number of events.

    `dates` are the UTC days that were built, None all days with data; `command` is what did it.
    """
    return _store(book, "wattbook_run", command, events(book, dates))


def record_load(book: Book, command: str) -> int:
    """Store what the last load of a book did, of which nothing was built; the number of events."""
    return _store(book, "wattbook_load", command, _of_results(assets.landed_results(book)))


def record_packs(
    book: Book, published_packs: Sequence[PublishedPack], outcome: Mapping[str, str], command: str
) -> int:
    """Store that the packs of all teams of one week were published; the number of events.

    `outcome` is what became of sending, by channel.
    """
    monday, _ = week_dates(published_packs[0].week)
    if monday.isoformat() not in WEEKS.get_partition_keys():
        return 0
    event = dg.AssetMaterialization(
        assets.packs.key,
        partition=monday.isoformat(),
        metadata=assets.pack_metadata(published_packs, outcome),
    )
    return _store(book, "wattbook_pack", command, [event])


def _store(book: Book, job_name: str, command: str, happened: Iterable[Event]) -> int:
    """Store events as those of one run, which stands in the list of runs under the command."""
    reported = list(happened)

    @dg.op(description=f"Tells Dagster what `{command}` did.")
    def command_line(context: dg.OpExecutionContext) -> None:
        context.log.info(f"`{command}` did this without Dagster and told of it when it was done.")
        for event in reported:
            # A check is an event like the others, which the signature leaves out.
            context.log_event(cast("dg.AssetMaterialization", event))

    home = book.data_dir.resolve() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SETTINGS, home / "dagster.yaml")
    settings = {
        "event_log_storage": {
            "module": __name__,
            "class": EventLog.__name__,
            "config": {"base_dir": str(home / "history" / "runs")},
        },
        # What the command prints is its own.
        "compute_logs": {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        },
    }
    job = dg.GraphDefinition(job_name, node_defs=[command_line]).to_job(
        config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={"wattbook/command": command},
    )
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=settings)) as stored:
        log = stored.event_log_storage
        assert isinstance(log, EventLog)
        # A run that was cut off while it told would keep those of the UI waiting for good.
        for run in stored.get_runs(dg.RunsFilter(job_name=job_name, statuses=service.UNDER_WAY)):
            stored.report_run_failed(run, "The command was cut off.")
        with log.one_transaction():
            job.execute_in_process(instance=stored)
    return len(reported)


def events(book: Book, dates: Sequence[date] | None) -> Iterator[Event]:
    """What the assets would have reported, in the order of the way of the data."""
    days = warehouse.touched_dates(book) if dates is None else dates
    known = set(DAYS.get_partition_keys())
    partitions = [day.isoformat() for day in sorted(days) if day.isoformat() in known]
    yield from _of_results(assets.landed_results(book))
    for table in sorted(assets.REFERENCE):
        metadata = assets.reference_metadata(book, table)
        yield dg.AssetMaterialization(["raw", table], metadata=metadata)
    for table in assets.ROLL_UPS:
        metadata = assets.table_metadata(book, table)
        yield from of_days(dg.AssetKey(["raw", table]), partitions, metadata)
    yield from _model_events(book, partitions)
    yield from _of_results(assets.published_results(book))
    for check in checks.broken_rules(book):
        yield _evaluation(check)


def _of_results(results: Iterable[dg.MaterializeResult]) -> Iterator[Event]:
    for result in results:
        assert result.asset_key is not None
        yield dg.AssetMaterialization(result.asset_key, metadata=result.metadata)
        for check in result.check_results or ():
            yield _evaluation(check)


def _model_events(book: Book, partitions: Sequence[str]) -> Iterator[Event]:
    """Materializations of each model, one evaluation per data test."""
    answer = json.loads(warehouse.manifest_path(book).with_name("run_results.json").read_text())
    results = {result["unique_id"]: result for result in answer["results"]}
    row_counts = _row_counts(book)
    known = _known_columns(book)
    for spec in assets.models.specs:
        unique_id = spec.metadata[UNIQUE_ID]
        result = results.get(unique_id)
        if result is None or result["status"] != "success":
            continue
        metadata = {
            "execution_duration_s": round(result["execution_time"], 2),
            **known.metadata(manifest()["nodes"][unique_id]),
        }
        if (row_count := row_counts.get(tuple(spec.key.path))) is not None:
            metadata["dagster/row_count"] = row_count
        yield from of_days(spec.key, partitions, metadata)
    for check in assets.models.check_specs:
        result = results.get(check.metadata[UNIQUE_ID])
        if result is not None and result["status"] != "skipped":
            severity = dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN
            yield dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=result["status"] == "pass",
                metadata={"failed_row_count": result["failures"] or 0},
                severity=severity,
            )


def _known_columns(book: Book) -> Columns:
    """What is known of the models' columns with the types that the warehouse has; it is kept."""
    known = Columns.read(columns_file(), warehouse.project_digest())
    types = types_in(book.warehouse)
    known.types = {
        spec.metadata[UNIQUE_ID]: types[schema, name]
        for spec in assets.models.specs
        for schema, name in [spec.key.path]
        if (schema, name) in types
    }
    known.write(columns_file())
    return known


def of_days(
    key: dg.AssetKey, partitions: Sequence[str], metadata: Mapping[str, Any]
) -> Iterator[Event]:
    """One materialization per day; what is told of the whole table stands beside the last."""
    for partition in partitions:
        told = metadata if partition == partitions[-1] else None
        yield dg.AssetMaterialization(key, metadata=told, partition=partition)


def _evaluation(check: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    assert check.asset_key is not None
    assert check.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.check_name,
        passed=check.passed,
        metadata=check.metadata,
        severity=check.severity,
        description=check.description,
    )


def _row_counts(book: Book) -> dict[tuple[str, ...], int]:
    """Rows of each table of the warehouse, by schema and name; views are not counted."""
    with duckdb.connect(str(book.warehouse.resolve()), read_only=True) as connection:
        tables = connection.execute("select schema_name, table_name from duckdb_tables()")
        return {
            (schema, table): connection.execute(
                f'select count(*) from "{schema}"."{table}"'
            ).fetchall()[0][0]
            for schema, table in tables.fetchall()
        }
