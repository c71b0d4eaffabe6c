"""Runs the roll-ups of UTC days on a Spark cluster, where one machine does not hold a day.

What belongs here: the session, and samples and roll-ups on their way to it and back. What does not:
what a roll-up is (`rollup.py`), and how large a cluster and its processes are: that is set where
Spark is set up (`spark-defaults.conf` in `SPARK_CONF_DIR`).

The workers read the lake's Parquet files at the same path and write nothing: a day's roll-ups come
back here and are written as DuckDB's are. A worker that is lost costs time, since Spark works out
elsewhere what it had.
"""

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import ibis
import ibis.expr.types as ir
import polars as pl

from pipelines.book import Book
from pipelines.lake import rollup
from pipelines.lake.files import LakeError
from pipelines.lake.schemas import RAW_TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SPARK_VARIABLE = "WATTBOOK_SPARK_MASTER"
CONNECT_WITHIN_S = 10
WORKERS_WITHIN_S = 60


def roll_up(
    book: Book,
    dates: Sequence[date],
    master: str,
    *,
    as_of: datetime | None = None,
    left_out: Collection[str] = (),
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write the roll-ups of these UTC dates anew, as `rollup.roll_up` does.

    Args:
        book: whose lake to read and write.
        dates: UTC dates.
        master: of the cluster, such as spark://host:7077, or local[*] for this machine alone.
        as_of: leave out rows that were not known then.
        left_out: loads whose rows are out of the book.
        progress: told each date that is done.

    Raises:
        LakeError: the lake is in a bucket, or the cluster could not be had or gave up; days not
            written are as before.
    """
    if not isinstance(book.lake, Path):
        raise LakeError(
            [
                f"{SPARK_VARIABLE}={master}: found the lake in a bucket ({book.lake}), expected a"
                " folder that the workers see too: unset the variable to roll up on this machine"
            ]
        )
    rollup.write_schemas(book)
    if not dates:
        return
    with _session(master) as session:
        for day in sorted(set(dates)):
            samples = {
                table: _samples(session, book, table, day, as_of, left_out)
                for table in ("gpu_samples", "node_power_samples")
            }
            rollup.write_day(book, day, _rolled_up(session, samples, day))
            session.catalog.clearCache()
            if progress is not None:
                progress(f"telemetry of {day}")


@contextmanager
def _session(master: str) -> Iterator["SparkSession"]:
    """A session on the cluster, whose failures are said in a sentence."""
    where = f"{SPARK_VARIABLE}={master}"
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise LakeError(
            [f"{where}: found no pyspark here: pip install 'wattbook[spark]'"]
        ) from error
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise LakeError(
            [f"{where}: found no Java here, neither on PATH nor by JAVA_HOME: install Java 17"]
        )
    _reach(master)
    try:
        session = (
            SparkSession.builder.master(master)
            .appName("wattbook")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.ui.showConsoleProgress", "false")
            # So few tasks as the size asks for, also of what is kept.
            .config("spark.sql.optimizer.canChangeCachedPlanOutputPartitioning", "true")
            # What lies by boards need not be sent about again to be joined by boards and times.
            .config("spark.sql.requireAllClusterKeysForCoPartition", "false")
            # Roll-ups of a day come back here, however many there are.
            .config("spark.driver.maxResultSize", "0")
            .getOrCreate()
        )
        try:
            _await_workers(session, master)
            yield session
        finally:
            session.stop()
    except (PySparkException, Py4JError, ConnectionError) as error:
        # The first line says which call failed, the next why; then comes Java's stack.
        said = re.sub(r"^An error occurred while calling .*\n: ", "", str(error))
        found = said.partition("\n")[0]
        raise LakeError(
            [
                f"{where}: telemetry could not be rolled up there ({found}): see Spark's own log;"
                " if a file of the lake is damaged, `wattbook load --checksums` reads its rows"
                f" again; without {SPARK_VARIABLE} this machine rolls up"
            ]
        ) from error


def _reach(master: str) -> None:
    """Fail at once where no master listens; Spark itself would try for a minute."""
    if not master.startswith("spark://"):
        return
    found: Exception | None = None
    for address in master.removeprefix("spark://").split(","):
        try:
            url = urlsplit(f"//{address}")
            with socket.create_connection((url.hostname, url.port or 7077), CONNECT_WITHIN_S):
                return
        except (OSError, ValueError) as error:
            found = error
    raise LakeError(
        [
            f"{SPARK_VARIABLE}={master}: no Spark master answers there ({found}): start it, set the"
            f" variable to the URL that its page shows, or unset it to roll up on this machine"
        ]
    ) from found


def _await_workers(session: "SparkSession", master: str) -> None:
    """Fail where no worker has room; Spark itself would wait for ever."""
    if not master.startswith("spark://"):
        return
    context = session.sparkContext._jsc.sc()
    until = time.monotonic() + WORKERS_WITHIN_S
    # The driver counts as one.
    while context.getExecutorMemoryStatus().size() < 2:
        if time.monotonic() > until:
            raise LakeError(
                [
                    f"{SPARK_VARIABLE}={master}: no worker came within {WORKERS_WITHIN_S} s:"
                    " start one, see on the master's page whether it has as much memory free as"
                    " spark.executor.memory says, and whether it reaches this machine"
                    " (spark.driver.host)"
                ]
            )
        time.sleep(0.2)


def _samples(
    session: "SparkSession",
    book: Book,
    table: str,
    day: date,
    as_of: datetime | None,
    left_out: Collection[str],
) -> ir.Table:
    """Samples of a day and of the step's length around it, as known at `as_of`."""
    from ibis.backends.pyspark.datatypes import PySparkSchema
    from pyspark.sql import functions

    declared = ibis.Schema.from_polars(RAW_TABLES[table].schema.create_empty().schema)
    files = rollup.sample_files(book, table, day)
    # Files of an earlier version lack columns: what the schema has stands there as null.
    samples = session.read.schema(PySparkSchema.from_ibis(declared)).parquet(*files)
    sampled_at, load_id, known_at = map(functions.col, ("sampled_at", "load_id", "known_at"))
    edge = timedelta(seconds=rollup.MAX_STEP_S)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    samples = samples.filter(
        sampled_at.between(midnight - edge, midnight + timedelta(days=1) + edge)
    )
    if left_out:
        samples = samples.filter(~load_id.isin(*left_out))
    if as_of is not None:
        samples = samples.filter(known_at <= as_of)
    samples.withColumn("at_us", functions.unix_micros(sampled_at)).createOrReplaceTempView(table)
    return rollup.samples_seen(table)


def _rolled_up(
    session: "SparkSession", samples: dict[str, ir.Table], day: date
) -> dict[str, pl.DataFrame]:
    """The roll-ups of a day."""
    spark = ibis.pyspark.connect(session)

    def made(rows: ir.Table) -> "DataFrame":
        return spark.raw_sql(spark.compile(rows))

    def keep(name: str, rows: ir.Table) -> ir.Table:
        # Of what is worked out before it is read, Spark knows how large it is.
        frame = made(rows).persist()
        frame.count()
        frame.createOrReplaceTempView(name)
        return ibis.table(rows.schema(), name=name)

    boards = keep("gpu_intervals", rollup.gpu_intervals(samples["gpu_samples"], keep))
    nodes = rollup.node_intervals(boards, samples["node_power_samples"], keep)
    roll_ups = {"gpu_intervals": boards, "node_intervals": nodes}
    gpu_samples = samples["gpu_samples"]
    if made(gpu_samples.filter(gpu_samples.is_shared.notnull()).limit(1)).count():
        roll_ups["pod_intervals"] = rollup.pod_intervals(gpu_samples, keep)
    return {
        name: rollup.of_day(made(roll_ups[name]).toArrow(), name, day)
        if name in roll_ups
        else schema.to_frame()
        for name, schema in rollup.ROLL_UPS.items()
    }
