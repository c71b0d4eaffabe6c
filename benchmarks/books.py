"""Whole books: what a day costs, by command and as Dagster job, beside history and more sites.

What belongs here: made-up books of any number of sites and days, and the runs that are measured on
them. What does not: parts of the work by themselves (`parsing.py`, `telemetry.py`).

A made-up site has 4 nodes of 4 GPUs, samples and readings by the quarter of an hour, and 12 jobs a
day. Its files are landed by the month, and by the day from where a day is measured.
"""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from benchmarks.measure import (
    COMMAND,
    PROJECT,
    Cost,
    Line,
    called,
    command,
    median,
    wattbook,
)
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.writers.entsoe import write_prices
from pipelines.simulator.writers.nem12 import write_nem12
from pipelines.simulator.writers.prometheus import write_export
from pipelines.simulator.writers.sacct import write_sacct

REFERENCE = PROJECT / "tests" / "cases" / "base" / "reference"
LAST = date(2026, 10, 28)
"""The day that is measured; its history ends the day before."""
DEMO_DAY = date(2026, 11, 2)
_NODES = 4
_BOARDS = 4
_QUARTER = timedelta(minutes=15)
_METERS = {
    "GRID": ("import", "grid_import", 3.0),
    "IT": ("import", "it_load", 2.5),
    "COOL": ("import", "cooling_load", 0.3),
    "FAC": ("import", "facility_total", 3.0),
}
_CARBON_HEADER = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),"
    "Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method"
)


def command_lines(folder: Path, turns: int) -> Iterator[Line]:
    """What stands before any work: starting, and looking at a book on which nothing is new."""
    data_dir = folder / "data"
    called(write_book, data_dir, 1, 5)
    wattbook(data_dir, "run")
    for arguments in (["--help"], ["sql", "select 1", "--team", "energy"], ["run"]):
        costs = [wattbook(data_dir, *arguments) for _ in range(turns)]
        what = " with nothing new" if arguments == ["run"] else ""
        yield Line("start", f"wattbook {arguments[0]}{what}", median(costs))


def demo_lines(folder: Path) -> Iterator[Line]:
    """A day of the demo by command line, and the same day as Dagster job."""
    book, by_command, by_job = (folder / name for name in ("data", "by_command", "by_job"))
    until = [f"{day}T00:00Z" for day in (DEMO_DAY, DEMO_DAY + timedelta(days=1))]
    wattbook(book, "simulate", "--until", until[0])
    whole = wattbook(book, "run")
    yield Line("demo book, all its days", "wattbook run", whole)
    wattbook(book, "simulate", "--until", until[1])
    for copy in (by_command, by_job):
        shutil.copytree(book, copy, symlinks=True)
    day = wattbook(by_command, "run")
    yield Line("a day of the demo", "wattbook run", day, 1.0)
    shutil.rmtree(by_command)
    yield _job_line(folder / "first", book, day, "first with these models: ")
    # What was found out of the models' columns.
    shutil.copytree(book / "dagster", by_job / "dagster", dirs_exist_ok=True)
    yield _job_line(folder / "later", by_job, day)


def _job_line(home: Path, book: Path, day: Cost, note: str = "") -> Line:
    """The day as Dagster job, with storage of its own."""
    home.mkdir()
    shutil.copy(PROJECT / "pipelines" / "orchestration" / "instance.yaml", home / "dagster.yaml")
    environment = {"DAGSTER_HOME": str(home), "WATTBOOK_DATA_DIR": str(book)}
    job = command(
        COMMAND.with_name("dagster"),
        *("job", "execute", "--module-name", "pipelines.definitions"),
        *("--job", "book_of_the_day"),
        *("--tags", f'{{"dagster/partition": "{DEMO_DAY}"}}'),
        **environment,
    )
    stored = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
    note += f"{job.cpu_s - day.cpu_s:+.0f} CPU s; {stored / 1e6:.1f} MB of Dagster's storage"
    return Line("a day of the demo", "Dagster job", job, job.cpu_s / day.cpu_s, note)


def history_lines(folder: Path, sites: int, days: int) -> Iterator[Line]:
    """A day and a full build of a book, of one thrice as long, of one with four times the sites."""
    sizes = {
        f"{sites} sites, {days} days": (sites, days),
        f"{sites} sites, {3 * days} days": (sites, 3 * days),
        f"{4 * sites} sites, {days} days": (4 * sites, days),
    }
    first_day = first_full = None
    for name, (site_count, day_count) in sizes.items():
        data_dir = folder / f"{site_count}x{day_count}"
        full, day = day_of(data_dir, site_count, day_count)
        first_full, first_day = first_full or full, first_day or day
        yield Line(f"a day of {name}", "wattbook run", day, day.cpu_s / first_day.cpu_s)
        yield Line(f"full build of {name}", "wattbook build", full, full.cpu_s / first_full.cpu_s)
        shutil.rmtree(data_dir)


def large_lines(folder: Path, sites: int, years: int) -> Iterator[Line]:
    """A day of a book of many sites and years, beside a day of one of as many sites and 30 days."""
    _, of_month = day_of(folder / "month", sites, 30)
    shutil.rmtree(folder / "month")
    yield Line(f"a day of {sites} sites, 30 days", "wattbook run", of_month, 1.0)
    full, day = day_of(folder / "large", sites, 365 * years)
    name = f"{sites} sites, {years} years"
    yield Line(f"full build of {name}", "wattbook build", full)
    yield Line(f"a day of {name}", "wattbook run", day, day.cpu_s / of_month.cpu_s)


def day_of(data_dir: Path, sites: int, days: int) -> tuple[Cost, Cost]:
    """The cost of building a book's history, and then of loading, building and publishing a day."""
    called(write_book, data_dir, sites, days)
    wattbook(data_dir, "load")
    full = wattbook(data_dir, "build")
    wattbook(data_dir, "publish")
    called(write_day, data_dir, sites)
    return full, wattbook(data_dir, "run")


def write_book(data_dir: str, sites: int, days: int) -> None:
    """Reference data and landing of so many sites, for so many days before the last."""
    folder = Path(data_dir)
    first = LAST - timedelta(days=days)
    names = [f"s{number:03}" for number in range(sites)]
    _write_reference(folder / "reference", names, first)
    month = first
    while month < LAST:
        end = min((month.replace(day=1) + timedelta(days=32)).replace(day=1), LAST)
        _write_files(folder / "landing", names, month, end)
        month = end


def write_day(data_dir: str, sites: int) -> None:
    """Landing of the last day."""
    names = [f"s{number:03}" for number in range(sites)]
    _write_files(Path(data_dir) / "landing", names, LAST, LAST + timedelta(days=1))


def _write_reference(folder: Path, names: Sequence[str], first: date) -> None:
    """That of the test cases, with so many sites like the one in it, since before the first day."""
    shutil.copytree(REFERENCE, folder)
    since = first.replace(day=1) - timedelta(days=40)
    templates = [folder / "sites" / "alder.yml"]
    templates += [folder / "contracts" / f"alder-{kind}.yml" for kind in ("grid", "supply")]
    texts = {file: file.read_text().replace("2026-01-01", f"{since}") for file in templates}
    for file in [*folder.glob("sites/*.yml"), *folder.glob("contracts/*.yml")]:
        file.unlink()
    for name in names:
        for file, text in texts.items():
            text = text.replace("alder", name).replace("name_prefix: ald", f"name_prefix: {name}n")
            text = text.replace("last: 8", f"last: {_NODES}")
            file.with_name(file.name.replace("alder", name)).write_text(text)
    meters = [
        f"  - {{meter_id: {name.upper()}{meter}, flow: {flow}, site_id: {name}, role: {role},"
        " multiplier: 1}"
        for name in names
        for meter, (flow, role, _) in _METERS.items()
    ]
    (folder / "meters.yml").write_text("\n".join(["meters:", *meters, ""]))
    committed = [
        f"  - {{site_id: {name}, from_month: {since:%Y-%m}, committed_it_mw: 0.01,"
        " utilization_ratio: 0.8}"
        for name in names
    ]
    plan = ["until: 2027-12", "commitments:", *committed, ""]
    (folder / "capacity_plan.yml").write_text("\n".join(plan))
    workloads = (folder / "workloads.yml").read_text().partition("rules:")[0]
    rules = [f"  - {{cluster: {name}, workload_id: train}}" for name in names]
    (folder / "workloads.yml").write_text("\n".join([workloads + "rules:", *rules, ""]))


def _write_files(landing: Path, names: Sequence[str], first: date, end: date) -> None:
    start, until = (datetime.combine(day, time(), UTC) for day in (first, end))
    span = f"{first:%Y%m%d}"
    for name in names:
        files = {
            f"prometheus/{name}/gpu_{span}.parquet": write_export(_samples(name, start, until)),
            f"sacct/{name}/jobs_{span}.txt": write_sacct(
                _jobs(name, start, until), time_zone="Europe/Berlin"
            ),
            f"nem12/{name}/meters_{span}.csv": write_nem12(
                _readings(name, start, until), updated_at=until
            ),
        }
        for file, content in files.items():
            (landing / file).parent.mkdir(parents=True, exist_ok=True)
            (landing / file).write_bytes(content)
    prices = _made(
        "market_prices",
        _quarters(start, until),
        zone=pl.lit("DE-LU"),
        market=pl.lit("day_ahead"),
        sequence=pl.lit(1),
        price_per_mwh=60 + pl.col("row") * 7919 % 10_000 / 100,
        currency_code=pl.lit("EUR"),
    )
    (landing / "entsoe").mkdir(parents=True, exist_ok=True)
    (landing / "entsoe" / f"prices_{span}.xml").write_bytes(
        write_prices(prices, domain_code="10Y1001A1001A82H", created_at=start - timedelta(hours=12))
    )
    hours = pl.datetime_range(start, until, "1h", closed="left", eager=True)
    carbon = [f"{at:%Y-%m-%d %H:%M:%S},,DE,DE,300,400,40,40,x,false," for at in hours]
    (landing / "electricity_maps").mkdir(parents=True, exist_ok=True)
    (landing / "electricity_maps" / f"DE_{span}_hourly.csv").write_text(
        "\n".join([_CARBON_HEADER, *carbon, ""])
    )


def _quarters(start: datetime, end: datetime) -> pl.DataFrame:
    at = pl.datetime_range(start, end, "15m", closed="left", time_unit="us", eager=True)
    return pl.DataFrame(
        {"interval_started_at": at, "interval_ended_at": at + _QUARTER}
    ).with_row_index("row")


def _made(table: str, rows: pl.DataFrame, **columns: pl.Expr) -> pl.DataFrame:
    """Rows of a raw table, null in the columns that nothing is said of."""
    kinds = RAW_TABLES[table].schema.create_empty().schema
    given = {name: pl.col(name) for name in rows.columns} | columns
    return rows.select(
        given.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in kinds.items()
    )


def _samples(name: str, start: datetime, end: datetime) -> pl.DataFrame:
    boards = pl.select(board=pl.int_range(_NODES * _BOARDS))
    # The counter counts from a moment that all files have in common.
    since = pl.col("interval_started_at").dt.epoch("s") - 1_500_000_000
    return _made(
        "gpu_samples",
        _quarters(start, end).join(boards, how="cross").sort("board", maintain_order=True),
        sampled_at=pl.col("interval_started_at"),
        hostname=pl.format(
            f"{name}n{{}}", (pl.col("board") // _BOARDS + 1).cast(pl.String).str.zfill(2)
        ),
        gpu_index=pl.col("board") % _BOARDS,
        power_w=pl.lit(500.0),
        energy_counter_millijoules=since * 500_000,
        utilization_ratio=pl.lit(0.9),
        sm_clock_mhz=pl.lit(1410.0),
        power_limit_w=pl.lit(700.0),
        default_power_limit_w=pl.lit(700.0),
        clocks_event_reasons=pl.lit(0),
    )


def _jobs(name: str, start: datetime, end: datetime) -> pl.DataFrame:
    at = pl.datetime_range(start, end, "8h", closed="left", time_unit="us", eager=True)
    nodes = pl.select(node=pl.int_range(1, _NODES + 1))
    return _made(
        "jobs",
        pl.DataFrame({"at": at}).join(nodes, how="cross"),
        cluster=pl.lit(name),
        job_id=pl.col("at").dt.epoch("s") // 100 + pl.col("node"),
        partition=pl.lit("gpu"),
        state=pl.lit("COMPLETED"),
        submitted_at=pl.col("at").dt.offset_by("-5m"),
        started_at=pl.col("at"),
        ended_at=pl.col("at").dt.offset_by("7h"),
        elapsed_s=pl.lit(7 * 3600),
        suspended_s=pl.lit(0),
        node_count=pl.lit(1),
        gpu_count=pl.lit(_BOARDS),
        node_list=pl.format(f"{name}n{{}}", pl.col("node").cast(pl.String).str.zfill(2)),
    )


def _readings(name: str, start: datetime, end: datetime) -> pl.DataFrame:
    # NEM12's days are those of its market, ten hours ahead.
    shift = timedelta(hours=10)
    quarters = _quarters(start - shift, end - shift)
    return pl.concat(
        _made(
            "meter_readings",
            quarters,
            meter_id=pl.lit(f"{name.upper()}{meter}"),
            flow=pl.lit(flow),
            quantity=pl.lit(kwh),
            unit=pl.lit("kWh"),
            quality=pl.lit("measured"),
        )
        for meter, (flow, _, kwh) in _METERS.items()
    )
