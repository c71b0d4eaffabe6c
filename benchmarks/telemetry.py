"""Telemetry of many GPUs: loading it, rolling it up to 15 minutes, and the energy of jobs.

What belongs here: made-up samples of a day, with samples that come twice and counters that start
anew, and other ways to the same kWh. What does not: whole books (`books.py`).
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.measure import Line, Way, beside, called, needs, wattbook
from benchmarks.parsing import read_bare_json, read_bare_parquet
from pipelines import warehouse
from pipelines.book import Book
from pipelines.lake import rollup
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.landing import DEMO_REFERENCE
from pipelines.simulator.writers.prometheus import write_query_range

DAY = date(2026, 11, 1)
STEP_S = 15
SAMPLES = 86_400 // STEP_S
BOARDS = 4
"""Of a node."""
_MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
_NODES_AT_ONCE = 50
_ENERGY = """
with latest as ({latest}),
steps as (
    select
        hostname, gpu_index, at_us, power_w, counter,
        {lag}(at_us) over board as before_us,
        {lag}(power_w) over board as power_before_w,
        {lag}(counter) over board as counter_before
    from latest
    window board as (partition by hostname, gpu_index order by at_us {frame})
),
amounts as (
    select
        hostname, gpu_index, before_us, at_us, before_us - before_us % 900000000 as first_us,
        (at_us - 1) - (at_us - 1) % 900000000 as last_us,
        case
            when counter >= counter_before and counter - counter_before <= (at_us - before_us) * 5.0
                then (counter - counter_before) / 3.6e9
            else (power_before_w + power_w) / 2 * (at_us - before_us) / 3.6e12
        end as kwh
    from steps
    where before_us is not null and at_us - before_us <= 900000000
),
parts as (
    select
        hostname, gpu_index, last_us,
        case
            when first_us < last_us then kwh * (at_us - last_us) / (at_us - before_us) else kwh
        end as kwh
    from amounts
    union all
    select hostname, gpu_index, first_us, kwh * (last_us - before_us) / (at_us - before_us)
    from amounts
    where first_us < last_us
),
intervals as (
    select hostname, gpu_index, last_us, sum(kwh) as kwh from parts
    group by hostname, gpu_index, last_us
)
select sum(kwh) from intervals
"""
"""The energy of each board and quarter of an hour, all together."""


def lines(folder: Path, nodes: int, turns: int) -> Iterator[Line]:
    """Loading a day of so many nodes from one file, and the roll-up of what is then in the lake."""
    book = Book(folder / "data")
    for order in ("time", "series"):
        yield from _loading(book, folder, nodes, order)
    files = str(book.lake / "gpu_samples" / "*" / "*.parquet")
    count = pl.scan_parquet(files).select(pl.len()).collect().item()
    ways = [
        Way.of("Wattbook", roll_up, book.data_dir),
        Way.of("DuckDB, scan and aggregate alone", scan_in_duckdb, files),
        Way.of("DuckDB, lag", roll_up_in_duckdb, files),
        Way.of("Polars, shift", roll_up_in_polars, files),
        Way.of("chdb, lag", roll_up_in_chdb, files),
    ]
    if nodes <= 1000:
        # Of more it would need more memory than most machines have.
        ways.append(Way.of("pandas, shift", roll_up_in_pandas, files))
    with ExitStack() as stack:
        work = f"roll-up, {count / 1e6:.1f} M samples"
        if nodes <= 1000 and any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            from tests.postgres_server import started

            server = stack.enter_context(started())
            dsn = server.dsn("postgres")
            called(fill_postgres, dsn, files)
            pid = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
            ways.append(Way.of("PostgreSQL, lag", roll_up_in_postgres, dsn, pid))
        yield from beside(work, ways, turns)


def _loading(book: Book, folder: Path, nodes: int, order: str) -> Iterator[Line]:
    """Load a file into a new book; its peak of memory beside what the file has."""
    shutil.rmtree(book.data_dir, ignore_errors=True)
    declare(book, nodes)
    file = book.landing / "prometheus" / f"{order}.parquet"
    called(write_export, file, nodes, order)
    yield from _loaded(
        book, file, f"Parquet, {order} by {order}", "Polars, bare", read_bare_parquet
    )


def _loaded(
    book: Book, file: Path, what: str, bare: str, read_bare: Callable[[str], Any]
) -> Iterator[Line]:
    megabytes = file.stat().st_size / 1e6
    cost = wattbook(book.data_dir, "load")
    yardstick = called(read_bare, file)
    work = f"load {megabytes:.0f} MB of {what}"
    allowed = max(2 * megabytes, 500)
    yield Line(
        work, "Wattbook", cost, 1.0, f"{megabytes / cost.cpu_s:.0f} MB/s; goal {allowed:.0f} MB"
    )
    yield Line(work, bare, yardstick, cost.cpu_s / max(yardstick.cpu_s, 1e-3))


def json_lines(folder: Path, nodes: int) -> Iterator[Line]:
    """Loading an answer of Prometheus: all metrics of so many nodes over a day."""
    book = Book(folder / "json")
    declare(book, nodes)
    file = book.landing / "prometheus" / "answer.json"
    called(write_answer, file, nodes)
    yield from _loaded(book, file, "JSON, one query_range", "orjson, bare", read_bare_json)


def declare(book: Book, nodes: int) -> None:
    """The project's reference data, with so many nodes in place of those of one site."""
    folder = book.data_dir / "reference"
    shutil.copytree(DEMO_REFERENCE, folder)
    site = folder / "sites" / "juelich.yml"
    text = site.read_text()
    for old, new in (
        ("name_prefix: jwb", "name_prefix: node"),
        ("first: 1\n", "first: 0\n"),
        ("last: 500\n", f"last: {nodes - 1}\n"),
        ("digits: 4\n", "digits: 5\n"),
        ("electrical_limit_mw: 2.6", "electrical_limit_mw: 260"),
        ("cooling_limit_mw: 1.9", "cooling_limit_mw: 190"),
        ("it_capacity_mw: 1.8", "it_capacity_mw: 180"),
    ):
        text = text.replace(old, new)
    site.write_text(text)


def write_export(file: str | Path, nodes: int, order: str = "series") -> None:
    """A day of samples every 15 seconds in one Parquet file, as long-term stores export them.

    Of one board in fifty the counter starts anew once, and of another some samples come twice, the
    second time with another power: that one counts.

    Args:
        file: Where it is written.
        nodes: Of four boards each.
        order: One board after another (`series`) or one moment after another (`time`).
    """
    random = np.random.default_rng(1)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    at_once, span = (_NODES_AT_ONCE, SAMPLES) if order == "series" else (nodes, 60)
    counters = np.full(nodes * BOARDS, 10**9)
    writer = None
    for first in range(0, nodes, at_once):
        boards = np.arange(first * BOARDS, min(first + at_once, nodes) * BOARDS)
        for start in range(0, SAMPLES, span):
            samples = _samples(random, boards, np.arange(start, start + span), counters)
            if order == "time":
                samples = samples.sort("timestamp", maintain_order=True)
            table = samples.to_arrow(compat_level=pl.CompatLevel.oldest())
            if writer is None:
                writer = pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=122_880)
    if writer is not None:
        writer.close()


def write_answer(file: str, nodes: int) -> None:
    """The same day as a server answers to one query of four metrics."""
    path = Path(file)
    export = path.parents[2] / "export.parquet"
    write_export(export, nodes)
    samples = pl.read_parquet(export).unique(
        ["timestamp", "Hostname", "gpu"], keep="last", maintain_order=True
    )
    columns = {
        "sampled_at": pl.col("timestamp"),
        "hostname": pl.col("Hostname"),
        "gpu_index": pl.col("gpu"),
        "power_w": pl.col("DCGM_FI_DEV_POWER_USAGE"),
        "energy_counter_millijoules": pl.col("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"),
        "utilization_ratio": pl.col("DCGM_FI_DEV_GPU_UTIL") / 100,
        "sm_clock_mhz": pl.col("DCGM_FI_DEV_SM_CLOCK"),
    }
    kinds = RAW_TABLES["gpu_samples"].schema.create_empty().schema
    filled = samples.select(
        columns.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in kinds.items()
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(write_query_range(filled, step_s=STEP_S))


def _samples(
    random: np.random.Generator, boards: np.ndarray, steps: np.ndarray, counters: np.ndarray
) -> pl.DataFrame:
    """Samples of some boards and steps; `counters` are counted on."""
    shape = len(boards), len(steps)
    is_busy = np.repeat(random.random((shape[0], -(-shape[1] // 60))) < 0.7, 60, axis=1)
    is_busy = is_busy[:, : shape[1]]
    power = np.where(is_busy, random.normal(560, 60, shape), 85).clip(40, 700).round(1)
    counter = counters[boards][:, None] + np.cumsum(power * STEP_S * 1000, axis=1).astype(int)
    at_noon = np.nonzero(steps == SAMPLES // 2 + 30)[0]
    if len(at_noon):
        anew = boards % 50 == 7
        counter[anew, at_noon[0] :] -= counter[anew, at_noon[0]][:, None]
    counters[boards] = counter[:, -1]
    number = np.repeat(boards, shape[1])
    names = pl.Series([f"node{node:05}" for node in range(boards[-1] // BOARDS + 1)])
    frame = pl.DataFrame(
        {
            "timestamp": np.tile(steps * STEP_S, shape[0]),
            "Hostname": names.gather(number // BOARDS),
            "gpu": number % BOARDS,
            "DCGM_FI_DEV_POWER_USAGE": power.ravel(),
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": counter.ravel().astype(float),
            "DCGM_FI_DEV_GPU_UTIL": np.where(is_busy, 90.0, 0.0).ravel(),
            "DCGM_FI_DEV_SM_CLOCK": np.where(is_busy, 1410.0, 345.0).ravel(),
            "DCGM_FI_DEV_POWER_MGMT_LIMIT": np.full(len(number), 700.0),
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": np.where(is_busy, 4.0, 1.0).ravel(),
            "board": number,
        }
    ).with_columns(
        timestamp=pl.lit(_MIDNIGHT) + pl.duration(seconds="timestamp"),
        gpu=pl.col("gpu").cast(pl.String),
    )
    twice = (pl.col("board") % 50 == 11) & (pl.col("timestamp").dt.minute() == 10)
    again = frame.filter(twice).with_columns(pl.col("DCGM_FI_DEV_POWER_USAGE") + 10)
    return pl.concat([frame, again]).drop("board")


def job_lines(folder: Path, nodes: int, days: int, turns: int) -> Iterator[Line]:
    """The energy of jobs of one node each, out of the intervals of their nodes."""
    called(write_jobs, folder, nodes, days)
    called(compile_model, folder)
    [rows, jobs] = [
        pl.scan_parquet(folder / f"{name}.parquet").select(pl.len()).collect().item()
        for name in ("int_node_intervals", "stg_jobs")
    ]
    ways = [
        Way.of("Wattbook", job_energy, folder),
        Way.of("DuckDB, asof join", job_energy_in_duckdb, folder),
        Way.of("Polars, join_asof", job_energy_in_polars, folder),
        Way.of("chdb, asof join", job_energy_in_chdb, folder),
    ]
    yield from beside(f"job energy, {rows / 1e6:.1f} M rows on {jobs:,} jobs", ways, turns)


def write_jobs(folder: str, nodes: int, days: int) -> None:
    """The tables that the model of workloads' energy reads: nodes' intervals, and jobs on them.

    Each node runs one job after another, some quarters of an hour each, and now and then none.
    """
    random = np.random.default_rng(2)
    quarters, per_node = days * 96, max(1, days * 96 * 12 // 1974)
    ends = np.sort(random.integers(0, quarters, (nodes, 2 * per_node)), axis=1).reshape(-1, 2)
    job = pl.DataFrame(
        {"node": np.repeat(np.arange(nodes), per_node), "a": ends[:, 0], "b": ends[:, 1]}
    )
    job = job.filter(pl.col("b") > pl.col("a")).with_row_index("source_row")
    start = pl.lit(_MIDNIGHT)
    jobs = job.select(
        pl.lit("load").alias("load_id"),
        pl.col("source_row").cast(pl.Int64),
        pl.lit("site").alias("site_id"),
        pl.format("workload{}", pl.col("source_row") % 8).alias("workload_id"),
        pl.lit(BOARDS).alias("gpu_count"),
        started_at=start + pl.duration(minutes=pl.col("a") * 15),
        held_until_at=start + pl.duration(minutes=pl.col("b") * 15),
        run_s=(pl.col("b") - pl.col("a")) * 900.0,
        hostname=pl.format("node{}", "node"),
    )
    number = pl.int_range(nodes * quarters)
    at = start + pl.duration(minutes=number % quarters * 15)
    intervals = pl.select(
        site_id=pl.lit("site"),
        hostname=pl.format("node{}", number // quarters),
        interval_started_at=at,
        utc_date=at.dt.date(),
        gpu_count=BOARDS,
        coverage_ratio=1.0,
        node_covered_s=900.0,
        node_kwh=0.5 + (number * 7919 % 1000) / 1000,
        gpu_kwh=0.4,
        gpu_busy_s=3000.0,
        gpu_idle_s=600.0,
    )
    names = intervals["hostname"].unique(maintain_order=True)
    tables = {
        "stg_jobs": jobs.drop("hostname"),
        "stg_job_nodes": jobs.select("load_id", "source_row", "hostname"),
        "job_runs": jobs.select("hostname", "workload_id", "started_at", "held_until_at"),
        "int_node_intervals": intervals,
        "int_site_intervals": intervals.select(
            interval_ended_at=pl.col("interval_started_at").max().dt.offset_by("15m")
        ),
        "nodes": pl.DataFrame(
            {"hostname": names, "idle_w": 80.0, "host_idle_w": 200.0, "host_peak_w": 400.0}
        ),
        "int_suspended_job_intervals": jobs.select(
            "load_id", "source_row", interval_started_at="started_at", held_s="run_s"
        ).clear(),
        "int_pod_allocations": intervals.select(
            *("site_id", "hostname", "interval_started_at", "utc_date"),
            workload_id=pl.lit("workload0"),
            allocated_gpu_s=pl.lit(0.0),
        ).clear(),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        rows.write_parquet(Path(folder) / f"{name}.parquet")


def compile_model(folder: str) -> None:
    """Write the SQL of `int_workload_telemetry_intervals` as dbt compiles it for a full build."""
    model = "int_workload_telemetry_intervals"
    book = Book(Path(folder) / "compiled")
    variables = json.dumps({"lake_dir": str(book.lake.resolve())})
    answer = warehouse.invoke_dbt(
        book,
        (Path(folder) / "warehouse.duckdb").resolve(),
        ["compile", "--full-refresh", "--select", model, "--vars", variables],
    )
    [sql] = [one.node.compiled_code for one in answer.result.results if one.node.name == model]
    (Path(folder) / "model.sql").write_text(sql)


def job_energy(folder: str) -> float:
    """Wattbook's: what its model makes of these tables.

    The energies are told as one figure in which each workload's counts by its number.
    """
    model = (Path(folder) / "model.sql").read_text()
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'; set memory_limit = '4GB'")
        connection.execute(f"set temp_directory = '{folder}/spill'; attach ':memory:' as warehouse")
        for schema in ("raw", "staging", "intermediate"):
            connection.execute(f"create schema warehouse.{schema}")
        for file in Path(folder).glob("*.parquet"):
            schema = {"stg": "staging", "int": "intermediate"}.get(file.stem[:3], "raw")
            connection.execute(
                f"create view warehouse.{schema}.{file.stem} as from read_parquet('{file}')"
            )
        [(told,)] = connection.sql(f"select sum(energy_kwh * {_NUMBER}) from ({model})").fetchall()
    return told


_NUMBER = (
    "case when workload_id like 'workload_' then 1 + try_cast(right(workload_id, 1) as integer)"
    " else 9 end"
)


def job_energy_in_duckdb(folder: str) -> float:
    """What each interval's node ran is the last job that began before, if it still ran."""
    [(told,)] = duckdb.sql(
        f"""
        with energy as (
            select
                case when held_until_at > interval_started_at then workload_id end as workload_id,
                sum(node_kwh) as energy_kwh
            from '{folder}/int_node_intervals.parquet' as intervals
            asof left join '{folder}/job_runs.parquet' as runs
                on intervals.hostname = runs.hostname and interval_started_at >= started_at
            group by all
        )
        select sum(energy_kwh * {_NUMBER}) from energy
        """
    ).fetchall()
    return told


def job_energy_in_polars(folder: str) -> float:
    """The same by `join_asof`."""
    intervals = pl.scan_parquet(f"{folder}/int_node_intervals.parquet").select(
        "hostname", "interval_started_at", "node_kwh"
    )
    runs = pl.scan_parquet(f"{folder}/job_runs.parquet")
    number = pl.col("workload_id").str.tail(1).cast(pl.Int64, strict=False) + 1
    return (
        intervals.sort("interval_started_at")
        .join_asof(
            runs.sort("started_at"),
            left_on="interval_started_at",
            right_on="started_at",
            by="hostname",
            check_sortedness=False,
        )
        .with_columns(
            number=pl.when(pl.col("held_until_at") > pl.col("interval_started_at"))
            .then(number)
            .otherwise(9)
        )
        .group_by("number")
        .agg(pl.col("node_kwh").sum())
        .select((pl.col("node_kwh") * pl.col("number")).sum())
        .collect()
        .item()
    )


@needs("chdb")
def job_energy_in_chdb(folder: str) -> float:
    """The same by its `ASOF JOIN`."""
    number = (
        "if(ran and held_until_at > interval_started_at, 1 + toInt64(right(workload_id, 1)), 9)"
    )
    sql = f"""
        select sum(number * kwh) from (
            select {number} as number, sum(node_kwh) as kwh
            from (
                select
                    assumeNotNull(hostname) as hostname,
                    assumeNotNull(interval_started_at) as interval_started_at,
                    node_kwh
                from file('{folder}/int_node_intervals.parquet', Parquet)
            ) as intervals
            asof left join (
                select
                    assumeNotNull(hostname) as hostname,
                    assumeNotNull(started_at) as started_at,
                    assumeNotNull(held_until_at) as held_until_at,
                    assumeNotNull(workload_id) as workload_id,
                    true as ran
                from file('{folder}/job_runs.parquet', Parquet)
            ) as runs
            on intervals.hostname = runs.hostname
                and intervals.interval_started_at >= runs.started_at
            group by number
        )
    """
    return float(str(import_module("chdb").query(sql, "CSV")))


def roll_up(data_dir: str) -> float:
    """Wattbook's: everything there is of boards and nodes, of which the energy is told."""
    book = Book(Path(data_dir))
    rollup.roll_up(book, [DAY])
    rows = pl.read_parquet(book.lake / "gpu_intervals" / f"{DAY}.parquet", columns=["energy_kwh"])
    return rows["energy_kwh"].sum()


def scan_in_duckdb(files: str) -> None:
    """The least any engine has to do: read what energy needs and add it up."""
    duckdb.sql(
        "select hostname, gpu_index, time_bucket(interval 15 minutes, sampled_at) as at,"
        " sum(power_w), max(energy_counter_millijoules), count(*)"
        f" from read_parquet('{files}') group by all"
    ).fetchnumpy()


def roll_up_in_duckdb(files: str) -> float:
    """The energy alone, in plain SQL."""
    latest = (
        "select hostname, gpu_index, epoch_us(sampled_at) as at_us,"
        " arg_max(power_w, source_row) as power_w,"
        " arg_max(energy_counter_millijoules, source_row) as counter"
        f" from read_parquet('{files}') group by hostname, gpu_index, sampled_at"
    )
    [(kwh,)] = duckdb.sql(_ENERGY.format(latest=latest, lag="lag", frame="")).fetchall()
    return kwh


@needs("chdb")
def roll_up_in_chdb(files: str) -> float:
    """The energy alone, in plain SQL."""
    latest = (
        "select assumeNotNull(hostname) as hostname, assumeNotNull(gpu_index) as gpu_index,"
        " toUnixTimestamp64Micro(assumeNotNull(sampled_at)) as at_us,"
        " argMax(energy_counter_millijoules, source_row) as counter,"
        " argMax(power_w, source_row) as power_w"
        f" from file('{files}', Parquet) group by hostname, gpu_index, at_us"
    )
    frame = "rows between 1 preceding and current row"
    # Without a type that may be null, there is a step before the first sample: since 1970.
    sql = _ENERGY.format(latest=latest, lag="lagInFrame", frame=frame)
    return float(str(import_module("chdb").query(sql, "CSV")))


def roll_up_in_polars(files: str) -> float:
    """The energy alone, by expressions."""
    board = ["hostname", "gpu_index"]
    names = {"at": "sampled_at", "power": "power_w", "counter": "energy_counter_millijoules"}
    samples = (
        pl.scan_parquet(files)
        .select(*board, "source_row", **{name: pl.col(column) for name, column in names.items()})
        .with_columns(pl.col("at").dt.epoch("us"))
        .sort(*board, "at", "source_row")
        .unique([*board, "at"], keep="last", maintain_order=True)
    )
    follows = (pl.col("hostname") == pl.col("hostname").shift()) & (
        pl.col("gpu_index") == pl.col("gpu_index").shift()
    )
    step_us, rise = pl.col("at").diff(), pl.col("counter").diff()
    quarter = 900_000_000
    by_counter = pl.when(rise.is_between(0, step_us * 5)).then(rise / 3.6e9)
    by_power = (pl.col("power") + pl.col("power").shift()) / 2 * step_us / 3.6e12
    steps = (
        samples.with_columns(
            kwh=pl.coalesce(by_counter, by_power),
            before=pl.col("at").shift(),
            is_step=follows & (step_us <= quarter),
        )
        .filter("is_step")
        .with_columns(
            first=pl.col("before") // quarter * quarter,
            last=(pl.col("at") - 1) // quarter * quarter,
        )
        .with_columns(
            share=pl.when(pl.col("first") < pl.col("last"))
            .then((pl.col("at") - pl.col("last")) / (pl.col("at") - pl.col("before")))
            .otherwise(1.0)
        )
    )
    parts = pl.concat(
        [
            steps.select(*board, "last", kwh=pl.col("kwh") * pl.col("share")),
            steps.filter(pl.col("share") < 1).select(
                *board, last="first", kwh=pl.col("kwh") * (1 - pl.col("share"))
            ),
        ]
    )
    intervals = parts.group_by(*board, "last").agg(pl.col("kwh").sum())
    return intervals.select(pl.col("kwh").sum()).collect(engine="streaming").item()


@needs("pandas")
def roll_up_in_pandas(files: str) -> float:
    """The energy alone, by columns."""
    pandas = import_module("pandas")
    board = ["hostname", "gpu_index"]
    columns = [*board, "sampled_at", "source_row", "power_w", "energy_counter_millijoules"]
    folder = Path(files).parents[1] / str(DAY)
    samples = pandas.concat(
        [pandas.read_parquet(file, columns=columns) for file in sorted(folder.glob("*.parquet"))]
    )
    samples["at"] = samples.pop("sampled_at").astype("int64")
    if samples["at"].max() > 10**17:
        samples["at"] //= 1000
    samples[board] = samples[board].astype("category")
    samples = samples.sort_values([*board, "at", "source_row"]).drop_duplicates(
        [*board, "at"], keep="last"
    )
    before = samples.groupby(board, observed=True)[
        ["at", "power_w", "energy_counter_millijoules"]
    ].shift()
    step_us, quarter = samples["at"] - before["at"], 900_000_000
    rise = samples["energy_counter_millijoules"] - before["energy_counter_millijoules"]
    by_power = (samples["power_w"] + before["power_w"]) / 2 * step_us / 3.6e12
    kwh = (rise / 3.6e9).where((rise >= 0) & (rise <= step_us * 5), by_power)
    last = (samples["at"] - 1) // quarter * quarter
    share = ((samples["at"] - last) / step_us).clip(upper=1.0)
    is_step = step_us <= quarter
    parts = pandas.concat(
        [
            samples[board].assign(last=last, kwh=kwh * share)[is_step],
            samples[board].assign(last=last - quarter, kwh=kwh * (1 - share))[
                is_step & (share < 1)
            ],
        ]
    )
    return float(parts.groupby([*board, "last"], observed=True)["kwh"].sum().sum())


def fill_postgres(dsn: str, files: str) -> None:
    """A table of what energy needs, which is not counted."""
    dbapi = import_module("adbc_driver_postgresql.dbapi")
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        for file in sorted(Path(files).parents[1].glob("*/*.parquet")):
            rows = pl.read_parquet(file).select(
                "hostname",
                "gpu_index",
                "source_row",
                "power_w",
                at_us=pl.col("sampled_at").dt.epoch("us"),
                counter=pl.col("energy_counter_millijoules"),
            )
            table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
            cursor.adbc_ingest("samples", table, mode="create_append")
        connection.commit()


@needs("adbc_driver_postgresql.dbapi")
def roll_up_in_postgres(dsn: str, pid: int) -> tuple[float, float]:
    """The energy alone, in plain SQL; with the CPU seconds of the server."""
    latest = (
        "select distinct on (hostname, gpu_index, at_us) hostname, gpu_index, at_us, power_w,"
        " counter from samples order by hostname, gpu_index, at_us, source_row desc"
    )
    before = _cpu_s(pid)
    dbapi = import_module("adbc_driver_postgresql.dbapi")
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(_ENERGY.format(latest=latest, lag="lag", frame=""))
        [(kwh,)] = cursor.fetchall()
    # What a process of the server used is its parent's when it has ended.
    time.sleep(0.5)
    return kwh, _cpu_s(pid) - before


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of those it started that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
