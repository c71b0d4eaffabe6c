"""Times this project's ways side by side with others on the same rows, and prints the ratios.

What belongs here: comparisons whose two sides give the same figures, each checked before its times
are told. What does not: absolute claims, since seconds belong to a machine; ratios of one run do
not.

    python -m benchmarks.side_by_side DATA_DIR [--only NAME] [--days 30 60 210] [--files 30]

DATA_DIR is a book that is loaded, such as one that `wattbook --data-dir DATA_DIR demo` made. It is
only read: rebuilding happens in a copy in the temporary folder, which needs as much room as the
lake. The comparisons, by name:

- `rollup`: the latest whole UTC day of GPU telemetry to 15 minutes, by the Ibis expression on
  DuckDB, in Polars (energy from power, busy time and samples: without what doubts counters and
  tells limits), and in a loop over rows in Python (energy from power alone, of the first nodes; its
  time is scaled to all rows).
- `rebuild`: the latest day of a book against its latest 30, 60 and 210 days, each with all of the
  book's history beside it. What is left of the ratio at many days is what a run costs anyway.
- `loading`: files to rows by a connector, against the library of that format: nemreader, entsoe-py
  and the parser of prometheus-client, which `dcgm_scrape` itself builds on.

Each side runs `--repeats` times, a rebuild once; the fastest counts.
"""

import argparse
import gzip
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
from entsoe.parsers import parse_prices
from nemreader import NEMFile
from polars.testing import assert_frame_equal
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from pipelines import warehouse
from pipelines.book import Book
from pipelines.connectors import dcgm_scrape, entsoe, nem12
from pipelines.connectors.common import REJECT_REASON, Context
from pipelines.lake import rollup

BOARD = ["hostname", "gpu_index"]
METRICS = ["power_w", "utilization_ratio", "mig_busy_ratio", "mig_told_ratio"]
AMOUNTS = ["energy_from_power_kwh", "busy_s", "idle_s"]
NAIVE_NODES = 40
NAIVE_AMOUNTS = ["energy_from_power_kwh"]
LATE_MART = "fct_energy_balance"
_CONTEXT = Context(cluster_time_zones={})


@dataclass(frozen=True)
class Side:
    """One way of a comparison: its name, what it worked on and its seconds."""

    comparison: str
    name: str
    rows: int
    seconds: float
    ratio: float
    """Seconds over those of the first side."""


def fastest(run: Callable[[], pl.DataFrame], repeats: int) -> tuple[pl.DataFrame, float]:
    """Result and least seconds of some runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def compare_rollup(book: Book, repeats: int = 3) -> list[Side]:
    """Roll-up of the latest day of GPU telemetry that has a day after it.

    Raises:
        AssertionError: the sides give different figures.
        SystemExit: the book has no such day.
    """
    days = [date.fromisoformat(folder.name) for folder in _day_folders(book)]
    whole = [day for day in days if day + timedelta(days=1) in days]
    if not whole:
        raise SystemExit(f"{book.lake / 'gpu_samples'}: expected two days in a row, run the demo")
    day = whole[-1]
    files = [
        str(file)
        for offset in (-1, 0, 1)
        for file in sorted(
            (book.lake / "gpu_samples" / str(day + timedelta(days=offset))).glob("*.parquet")
        )
    ]
    samples = _near(pl.scan_parquet(files), day)
    count = samples.select(pl.len()).collect().item()
    ours, ours_s = fastest(lambda: rollup_in_duckdb(book, day), repeats)
    theirs, theirs_s = fastest(lambda: rollup_in_polars(samples, day), repeats)
    order = [*BOARD, "interval_started_at"]
    compared = ours.select(*order, *AMOUNTS, "sample_count").sort(order)
    assert_frame_equal(compared, theirs.select(compared.columns).sort(order), abs_tol=1e-6)
    nodes = ours["hostname"].unique().sort().head(NAIVE_NODES).to_list()
    few = samples.filter(pl.col("hostname").is_in(nodes)).collect()
    naive, naive_s = fastest(lambda: rollup_in_a_loop(few, day), 1)
    of_nodes = ours.filter(
        pl.col("hostname").is_in(nodes), pl.col("energy_from_power_kwh").is_not_null()
    )
    assert_frame_equal(of_nodes.select(naive.columns).sort(order), naive.sort(order), abs_tol=1e-6)
    scaled_s = naive_s * count / few.height
    return [
        Side("rollup", "Ibis on DuckDB", count, ours_s, 1.0),
        Side("rollup", "Polars, no doubts and limits", count, theirs_s, theirs_s / ours_s),
        Side(
            "rollup",
            f"Python loop, energy from power, {few.height:,} rows scaled",
            count,
            scaled_s,
            scaled_s / ours_s,
        ),
    ]


def rollup_in_duckdb(book: Book, day: date) -> pl.DataFrame:
    """The project's roll-up: one row per board and interval of the day."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Book(Path(folder))
        copy.lake.mkdir()
        for table in ("gpu_samples", "node_power_samples"):
            (copy.lake / table).symlink_to(book.lake / table)
        rollup.roll_up(copy, [day])
        return pl.read_parquet(copy.lake / "gpu_intervals" / f"{day}.parquet")


def rollup_in_polars(samples: pl.LazyFrame, day: date) -> pl.DataFrame:
    """The same rows with samples, energy from power and busy time, written in Polars."""
    at, before = pl.col("at_us"), pl.col("previous_at_us")
    keyed = samples.with_columns(pl.col("sampled_at").dt.epoch("us").alias("at_us"))
    grouped = keyed.group_by(*BOARD, "at_us").agg(pl.len().alias("rows"), pl.col(METRICS).max())
    repeated = grouped.filter(pl.col("rows") > 1).select(*BOARD, "at_us")
    latest = (
        keyed.join(repeated, on=[*BOARD, "at_us"], how="semi")
        .sort(pl.coalesce("loaded_at", "known_at"), "load_number", "source_row")
        .group_by(*BOARD, "at_us")
        .agg(pl.col(METRICS).drop_nulls().last())
    )
    boards = pl.concat([grouped.filter(pl.col("rows") == 1).drop("rows"), latest])
    steps = (
        boards.sort(*BOARD, "at_us")
        .with_columns(pl.col("at_us", *METRICS).shift(1).over(BOARD).name.prefix("previous_"))
        .with_columns(((at - before) / 1e6).alias("step_s"))
        .filter(pl.col("step_s") <= rollup.MAX_STEP_S)
    )
    step_s = pl.col("step_s")
    mean_w = (pl.col("power_w") + pl.col("previous_power_w")) / 2
    used, told = _latest("utilization_ratio"), _latest("mig_told_ratio")
    is_busy = (used > rollup.BUSY_ABOVE_RATIO).cast(pl.Float64)
    mig_busy = pl.when(told.is_not_null()).then(_latest("mig_busy_ratio").fill_null(0.0))
    steps = steps.with_columns(
        (mean_w * step_s / 3.6e6).alias("energy_from_power_kwh"),
        (pl.coalesce(mig_busy, is_busy) * step_s).alias("busy_s"),
        (pl.coalesce(told - mig_busy, 1 - is_busy) * step_s).alias("idle_s"),
    )
    interval_us = rollup.INTERVAL_S * 1_000_000
    first, last = before // interval_us, (at - 1) // interval_us
    until = pl.min_horizontal(at, (first + 1) * interval_us)
    share = (until - before) / (at - before)
    parts = [
        steps.select(*BOARD, first.alias("interval"), pl.col(AMOUNTS) * share),
        steps.filter(last > first).select(
            *BOARD, last.alias("interval"), pl.col(AMOUNTS) * (1 - share)
        ),
        boards.select(
            *BOARD, (at // interval_us).alias("interval"), pl.lit(1, pl.Int64).alias("sample_count")
        ),
    ]
    midnight = int(_midnight(day).timestamp()) // rollup.INTERVAL_S
    per_day = 86_400 // rollup.INTERVAL_S
    return (
        pl.concat(parts, how="diagonal")
        .filter(pl.col("interval").is_between(midnight, midnight + per_day, closed="left"))
        .group_by(*BOARD, "interval")
        .agg(
            *(
                pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).round(9).alias(name)
                for name in AMOUNTS
            ),
            pl.col("sample_count").sum(),
        )
        .with_columns(
            (pl.col("interval") * interval_us)
            .cast(pl.Datetime("us", "UTC"))
            .alias("interval_started_at"),
        )
        .drop("interval")
        .collect()
    )


def rollup_in_a_loop(samples: pl.DataFrame, day: date) -> pl.DataFrame:
    """Energy from power of the same intervals, row by row; of a time the last version."""
    interval_us = rollup.INTERVAL_S * 1_000_000
    midnight = int(_midnight(day).timestamp()) * 1_000_000
    totals: dict[tuple[str, str, int], float] = {}
    previous: tuple[str, str, int, float | None] | None = None
    ordered = (
        samples.with_columns(pl.col("sampled_at").dt.epoch("us").alias("at_us"))
        .sort(*BOARD, "at_us", pl.coalesce("loaded_at", "known_at"), "load_number", "source_row")
        .unique([*BOARD, "at_us"], keep="last", maintain_order=True)
    )
    for row in ordered.select(*BOARD, "at_us", "power_w").iter_rows():
        host, gpu, at, power_w = row
        if previous is not None and previous[:2] == (host, gpu):
            _, _, before, power_before = previous
            step_s = (at - before) / 1e6
            is_known = power_w is not None and power_before is not None
            if step_s <= rollup.MAX_STEP_S and is_known:
                kwh = (power_w + power_before) / 2 * step_s / 3.6e6
                first, last = before // interval_us, (at - 1) // interval_us
                share = (min(at, (first + 1) * interval_us) - before) / (at - before)
                for interval, part in {last: 1 - share, first: share}.items():
                    if midnight <= interval * interval_us < midnight + 86_400_000_000:
                        key = (host, gpu, interval)
                        totals[key] = totals.get(key, 0.0) + kwh * part
        previous = row
    return pl.DataFrame(
        [
            (host, gpu, datetime.fromtimestamp(interval * rollup.INTERVAL_S, UTC), kwh)
            for (host, gpu, interval), kwh in totals.items()
        ],
        schema={
            "hostname": pl.String,
            "gpu_index": pl.String,
            "interval_started_at": pl.Datetime("us", "UTC"),
            **dict.fromkeys(NAIVE_AMOUNTS, pl.Float64),
        },
        orient="row",
    )


def compare_rebuild(book: Book, lengths: Sequence[int] = (30, 60, 210)) -> list[Side]:
    """The rebuild of the latest day against that of several numbers of days.

    Raises:
        AssertionError: a rebuild left another figure than the first build.
    """
    sides = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Book(Path(folder) / "data")
        shutil.copytree(book.lake, copy.lake)
        if (book.data_dir / "reference").is_dir():
            shutil.copytree(book.data_dir / "reference", copy.data_dir / "reference")
        touched = warehouse.touched_dates(copy)
        whole = _built(copy, touched)
        for length in lengths:
            days = touched[-length:]
            many, whole_s = fastest(lambda days=days: _built(copy, days), 1)
            day, day_s = fastest(lambda days=days[-1:]: _built(copy, days), 1)
            assert_frame_equal(many, whole, abs_tol=1e-9)
            assert_frame_equal(day, whole, abs_tol=1e-9)
            name = f"rebuild of {len(days)} days"
            sides += [
                Side(name, "all of them", whole.height, whole_s, 1.0),
                Side(name, "latest day", whole.height, day_s, day_s / whole_s),
            ]
    return sides


def _built(book: Book, days: list[date]) -> pl.DataFrame:
    """Rows of a late mart after a build of these days."""
    warehouse.build(book, days)
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        table = connection.sql(f"from marts.{LATE_MART} order by all").to_arrow_table()
    return pl.DataFrame(table)


def compare_loading(book: Book, files: int = 30, repeats: int = 3) -> list[Side]:
    """Files of three formats to rows, by connector and by the format's own library.

    Raises:
        AssertionError: the two give different rows.
    """
    readers = [
        ("nem12", "*", nem12_ours, nem12_theirs, "nemreader"),
        ("entsoe", "prices_*", entsoe_ours, entsoe_theirs, "entsoe-py"),
        ("dcgm_scrape", "*", scrape_ours, scrape_theirs, "prometheus-client"),
    ]
    sides = []
    for name, pattern, ours, theirs, library in readers:
        paths = [path for path in sorted((book.landing / name).rglob(pattern)) if path.is_file()]
        contents = [(path.name, _content(path)) for path in paths[-files:]]
        if not contents:
            continue
        mine, mine_s = fastest(lambda read=ours, of=contents: _all(read, of), repeats)
        other, other_s = fastest(lambda read=theirs, of=contents: _all(read, of), repeats)
        assert_frame_equal(mine.sort(mine.columns), other.sort(other.columns), check_dtypes=False)
        comparison = f"loading {name}, {len(contents)} files"
        sides += [
            Side(comparison, "connector", mine.height, mine_s, 1.0),
            Side(comparison, library, other.height, other_s, other_s / mine_s),
        ]
    return sides


def nem12_ours(name: str, content: bytes) -> pl.DataFrame:
    """Meter readings of a file: channel, start in UTC and value."""
    rows = nem12.read(content, file_name=name, context=_CONTEXT)["meter_readings"]
    known = rows.filter(pl.col(REJECT_REASON).is_null(), pl.col("quality") != "missing")
    return known.select("flow", "interval_started_at", "quantity")


def nem12_theirs(name: str, content: bytes) -> pl.DataFrame:
    """The same by nemreader, which keeps missing values as zeros and times without zone."""
    parsed = NEMFile(name).parse_nem_file(content.decode().splitlines())
    flows = {"E": "import", "B": "export"}
    rows = [
        (flows[suffix[0]], (row.t_start - timedelta(hours=10)).replace(tzinfo=UTC), row.read_value)
        for channels in parsed.readings.values()
        for suffix, readings in channels.items()
        for row in readings
        if not row.quality_method.startswith("N")
    ]
    return pl.DataFrame(rows, ["flow", "interval_started_at", "quantity"], orient="row")


def entsoe_ours(name: str, content: bytes) -> pl.DataFrame:
    """Prices of a document: start in UTC and price."""
    rows = entsoe.read(content, file_name=name, context=_CONTEXT)["market_prices"]
    return rows.select("interval_started_at", "price_per_mwh")


def entsoe_theirs(name: str, content: bytes) -> pl.DataFrame:
    """The same by entsoe-py."""
    del name
    with warnings.catch_warnings():
        # It reads XML with an HTML parser, which bs4 warns of.
        warnings.simplefilter("ignore")
        prices = [series for series in parse_prices(content.decode()).values() if len(series)]
    return pl.DataFrame(
        [(at.to_pydatetime(), price) for series in prices for at, price in series.items()],
        ["interval_started_at", "price_per_mwh"],
        orient="row",
    )


def scrape_ours(name: str, content: bytes) -> pl.DataFrame:
    """Samples of a scrape: node, board and power."""
    rows = dcgm_scrape.read(content, file_name=name, context=_CONTEXT)["gpu_samples"]
    return rows.select("hostname", "gpu_index", "power_w")


def scrape_theirs(name: str, content: bytes) -> pl.DataFrame:
    """The same by prometheus-client alone."""
    del name
    rows = [
        (sample.labels["Hostname"], sample.labels["gpu"], sample.value)
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
        if sample.name == "DCGM_FI_DEV_POWER_USAGE"
    ]
    return pl.DataFrame(rows, ["hostname", "gpu_index", "power_w"], orient="row")


def table(sides: Sequence[Side]) -> Table:
    """The comparisons as a table; a ratio above 1 is slower than the first side."""
    answer = Table("comparison", "side", "rows", "seconds", "ratio")
    for side in sides:
        answer.add_row(
            side.comparison, side.name, f"{side.rows:,}", f"{side.seconds:.2f}", f"{side.ratio:.2f}"
        )
    return answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparisons asked for and print them."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.side_by_side", description=__doc__.splitlines()[0]
    )
    parser.add_argument("data_dir", type=Path, help="a loaded book")
    parser.add_argument("--only", choices=("rollup", "rebuild", "loading"))
    parser.add_argument(
        "--days", type=int, nargs="+", default=[30, 60, 210], help="days to rebuild"
    )
    parser.add_argument("--files", type=int, default=30, help="files per format")
    parser.add_argument("--repeats", type=int, default=3)
    told = parser.parse_args(arguments)
    book = Book(told.data_dir)
    if not book.lake.is_dir():
        parser.error(f"{book.lake}: not found, expected the lake of a loaded book; run the demo")
    sides: list[Side] = []
    if told.only in (None, "rollup"):
        sides += compare_rollup(book, told.repeats)
    if told.only in (None, "loading"):
        sides += compare_loading(book, told.files, told.repeats)
    if told.only in (None, "rebuild"):
        sides += compare_rebuild(book, told.days)
    Console().print(table(sides))


def _day_folders(book: Book) -> list[Path]:
    return sorted((book.lake / "gpu_samples").glob("????-??-??"))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _near(samples: pl.LazyFrame, day: date) -> pl.LazyFrame:
    """Samples of a day and of a step's length around it."""
    midnight, edge = _midnight(day), timedelta(seconds=rollup.MAX_STEP_S)
    last = midnight + timedelta(days=1) + edge
    return samples.filter(pl.col("sampled_at").is_between(midnight - edge, last))


def _latest(metric: str) -> pl.Expr:
    return pl.coalesce(metric, f"previous_{metric}")


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _all(
    read: Callable[[str, bytes], pl.DataFrame], contents: Sequence[tuple[str, bytes]]
) -> pl.DataFrame:
    return pl.concat(read(name, content) for name, content in contents)


if __name__ == "__main__":
    main()
