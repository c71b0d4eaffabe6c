"""Files to rows: each connector beside the bare parser of its format, and beside libraries for it.

What belongs here: files of every format, made by the simulator's writers, and ways to read them.
What does not: loading them into a book (`telemetry.py`).

A bare parser makes values of text and nothing more: no units, times, checks and reasons.
"""

import csv
import gc
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import polars as pl

from benchmarks.measure import Cost, Line, Way, beside, called, needs
from pipelines.connectors import connector
from pipelines.connectors.common import REJECT_REASON, Context
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.writers import dcgm_scrape, entsoe, focus, green_button, nem12, sacct

START = datetime(2026, 10, 1, tzinfo=UTC)
_QUARTER = timedelta(minutes=15)
_CONTEXT = Context({"juelich": "Europe/Berlin"})


def lines(folder: Path, scale: float, turns: int) -> Iterator[Line]:
    """Of every format the connector beside its yardsticks, on files of some `scale` x 20 MB."""
    ways = {
        "focus": {"Polars read_csv, bare": read_bare_csv},
        "sacct": {"Polars read_csv, bare": read_bare_csv},
        "entsoe": {"lxml, bare": read_bare_xml, "entsoe-py": read_by_entsoe_py},
        "green_button": {
            "lxml, bare": read_bare_xml,
            "greenbutton-objects": read_by_greenbutton_objects,
        },
        "nem12": {"csv, bare": read_bare_lines, "nemreader": read_by_nemreader},
        "dcgm_scrape": {"prometheus-client": read_by_prometheus_client},
    }
    called(write_files, folder, scale)
    for file in sorted(folder.glob("*/*")):
        name = file.parent.name
        megabytes = file.stat().st_size / 1e6

        def speed(cost: Cost, megabytes: float = megabytes) -> str:
            return f"{megabytes / max(cost.cpu_s, 1e-3):.0f} MB/s"

        ours = Way.of("Wattbook", read_by_connector, name, file)
        theirs = [Way.of(label, read, file) for label, read in ways[name].items()]
        yield from beside(f"parse {name}, {megabytes:.1f} MB", [ours, *theirs], turns, speed)


def write_files(folder: str, scale: float) -> None:
    """A file of each format, in its folder."""
    contents = {
        "focus/bill.csv": focus.write_focus(charges(int(60_000 * scale) + 1)),
        "sacct/jobs.txt": sacct.write_sacct(jobs(int(30_000 * scale) + 1), time_zone="UTC"),
        "entsoe/prices.xml": entsoe.write_prices(
            prices(int(364 * scale) + 1), domain_code="10Y1001A1001A82H", created_at=START
        ),
        "green_button/usage.xml": green_button.write_green_button(
            readings(int(600 * scale) + 1), published_at=START + timedelta(days=9999)
        ),
        "nem12/meter.csv": nem12.write_nem12(readings(int(15_000 * scale) + 1), updated_at=START),
        "dcgm_scrape/node0001_20261001T000000Z.prom": dcgm_scrape.write_scrape(
            boards(int(4000 * scale) + 1), scraped_at=START
        ),
    }
    for name, content in contents.items():
        file = Path(folder) / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)


def made(table: str, count: int, **columns: pl.Expr) -> pl.DataFrame:
    """So many rows of a raw table, null in the columns that nothing is said of."""
    kinds = RAW_TABLES[table].schema.create_empty().schema
    return pl.select(row=pl.int_range(count)).select(
        columns.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in kinds.items()
    )


def charges(count: int) -> pl.DataFrame:
    """So many hours of GPUs on a bill."""
    number = pl.col("row")
    at = pl.lit(START) + pl.duration(hours=number % 720)
    return made(
        "cloud_charges",
        count,
        provider_name=pl.lit("Example Cloud"),
        billing_account_id=pl.lit("acct-1"),
        billing_period_started_at=pl.lit(START),
        billing_period_ended_at=pl.lit(START + timedelta(days=31)),
        charge_period_started_at=at,
        charge_period_ended_at=at + timedelta(hours=1),
        charge_category=pl.lit("Usage"),
        charge_description=pl.lit("GPU hours"),
        sku_id=pl.format("SKU-{}", number % 50),
        resource_id=pl.format("vm-{}", number % 1000),
        consumed_quantity=1 + number % 7,
        consumed_unit=pl.lit("Hours"),
        billed_cost=number * 0.25,
        effective_cost=number * 0.25,
        currency_code=pl.lit("USD"),
    )


def jobs(count: int) -> pl.DataFrame:
    """So many jobs of an hour on two nodes."""
    number = pl.col("row")
    at = pl.lit(START) + pl.duration(minutes=number)
    return made(
        "jobs",
        count,
        cluster=pl.lit("juelich"),
        job_id=number,
        partition=pl.lit("booster"),
        qos=pl.lit("normal"),
        account=pl.format("team{}", number % 20),
        job_name=pl.format("train-{}", number % 300),
        state=pl.lit("COMPLETED"),
        submitted_at=at - timedelta(minutes=5),
        started_at=at,
        ended_at=at + timedelta(hours=1),
        elapsed_s=pl.lit(3600),
        suspended_s=pl.lit(0),
        node_count=pl.lit(2),
        gpu_count=pl.lit(8),
        node_list=pl.format("jwb[{}-{}]", number % 400 + 1000, number % 400 + 1001),
    )


def prices(days: int) -> pl.DataFrame:
    """Prices of a day ahead in quarters."""
    number = pl.col("row")
    at = pl.lit(START) + number * _QUARTER
    return made(
        "market_prices",
        96 * days,
        zone=pl.lit("DE-LU"),
        market=pl.lit("day_ahead"),
        sequence=pl.lit(1),
        interval_started_at=at,
        interval_ended_at=at + _QUARTER,
        price_per_mwh=(number * 7919 % 16_000) / 100 - 20,
        currency_code=pl.lit("EUR"),
    )


def readings(days: int) -> pl.DataFrame:
    """Readings of a meter in quarters, in whole days of the market that NEM12 is from."""
    number = pl.col("row")
    at = pl.lit(START - timedelta(hours=10)) + number * _QUARTER
    return made(
        "meter_readings",
        96 * days,
        meter_id=pl.lit("JLGRID0001"),
        flow=pl.lit("import"),
        interval_started_at=at,
        interval_ended_at=at + _QUARTER,
        quantity=1000 + number * 7919 % 500,
        unit=pl.lit("kWh"),
        quality=pl.lit("measured"),
    )


def boards(count: int) -> pl.DataFrame:
    """Boards of one scrape."""
    number = pl.col("row")
    return made(
        "gpu_samples",
        count,
        sampled_at=pl.lit(START),
        hostname=pl.lit("node0001"),
        gpu_index=number,
        power_w=300.0 + number % 100,
        energy_counter_millijoules=number * 1000,
        utilization_ratio=(number % 100) / 100,
        sm_clock_mhz=pl.lit(1410.0),
        power_limit_w=pl.lit(400.0),
        default_power_limit_w=pl.lit(400.0),
        power_violation_ns=number,
        power_brake_ns=pl.lit(0),
        thermal_violation_ns=pl.lit(0),
        clocks_event_reasons=pl.lit(0),
    )


def read_by_connector(name: str, file: str) -> float:
    """What a connector makes of a file: the count of rows that are right."""
    # As in the process that reads: what is made is mostly rows.
    gc.set_threshold(1_000_000)
    content = Path(file).read_bytes()
    parts = connector(name)(content, file_name=Path(file).name, context=_CONTEXT)
    return sum(rows[REJECT_REASON].null_count() for tables in parts for rows in tables.values())


def read_bare_csv(file: str) -> None:
    """Columns of text."""
    pl.read_csv(file, separator="|" if file.endswith(".txt") else ",", infer_schema=False)


def read_bare_lines(file: str) -> None:
    """Lists of text: NEM12's lines are of several lengths."""
    with Path(file).open(newline="") as content:
        for _ in csv.reader(content):
            pass


@needs("lxml.etree")
def read_bare_xml(file: str) -> None:
    """A tree of elements."""
    import_module("lxml.etree").fromstring(Path(file).read_bytes())


@needs("orjson")
def read_bare_json(file: str) -> None:
    """Lists and dictionaries."""
    gc.set_threshold(1_000_000)
    import_module("orjson").loads(Path(file).read_bytes())


def read_bare_parquet(file: str) -> None:
    """Columns as they lie in the file, part by part."""
    rows = pl.scan_parquet(Path(file).read_bytes())
    count = rows.select(pl.len()).collect().item()
    for first in range(0, count, 500_000):
        rows.slice(first, 500_000).collect()


@needs("entsoe.parsers")
def read_by_entsoe_py(file: str) -> float:
    """Prices by their time."""
    parse = import_module("entsoe.parsers").parse_prices
    with warnings.catch_warnings():
        # It reads XML with an HTML parser, which bs4 warns of.
        warnings.simplefilter("ignore")
        return sum(len(series) for series in parse(Path(file).read_text()).values())


@needs("greenbutton_objects.parse")
def read_by_greenbutton_objects(file: str) -> float:
    """Readings as objects."""
    return sum(
        sum(1 for _ in reading.intervalReadings)
        for point in import_module("greenbutton_objects.parse").parse_feed(file)
        for reading in point.meterReadings
    )


@needs("nemreader")
def read_by_nemreader(file: str) -> float:
    """Readings with times that have no zone."""
    reader = import_module("nemreader").NEMFile(file)
    parsed = reader.parse_nem_file(Path(file).read_text().splitlines())
    return sum(
        len(readings) for channels in parsed.readings.values() for readings in channels.values()
    )


@needs("prometheus_client.parser")
def read_by_prometheus_client(file: str) -> float:
    """Samples of a scrape, counted by their boards."""
    parse = import_module("prometheus_client.parser").text_string_to_metric_families
    families = parse(Path(file).read_text())
    return len({sample.labels["gpu"] for family in families for sample in family.samples})
