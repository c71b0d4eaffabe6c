"""The benchmarks on input so small that only their figures count, not their times."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks import side_by_side
from pipelines.book import Book
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.writers.dcgm_scrape import write_scrape
from pipelines.simulator.writers.entsoe import write_prices
from pipelines.simulator.writers.nem12 import write_nem12

# They build books to measure.
pytestmark = pytest.mark.slow

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
MARKET_DAY = datetime(2026, 10, 31, 14, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def gpu_samples(book: Book) -> None:
    """Two boards over an hour and one sample a day later; a reset, a gap and a corrected sample."""
    schema = RAW_TABLES["gpu_samples"].schema
    dtypes = {name: column.dtype for name, column in schema.columns().items()}
    rows = [
        {
            **dict.fromkeys(dtypes),
            "known_at": MIDNIGHT,
            "source_file": "file",
            "load_id": load_id * 16,
            "loaded_at": MIDNIGHT,
            "load_number": ord(load_id),
            "source_row": minute,
            "sampled_at": MIDNIGHT + timedelta(minutes=minute),
            "hostname": "jwb0001",
            "gpu_index": board,
            "power_w": None if minute == 12 else 400.0 + minute + 50 * (load_id == "b"),
            # Board 1 has no counter; board 0's starts anew after half an hour.
            "energy_counter_millijoules": None if board == "1" else (minute % 30) * 24_000_000,
            "utilization_ratio": 0.9 if minute < 40 else 0.0,
            "power_violation_ns": minute * 10**9 if board == "0" else None,
            "clocks_event_reasons": 4 if minute < 20 else 0,
        }
        for board in ("0", "1")
        for minute, load_id in [*((m, "a") for m in range(0, 60, 4)), (20, "b"), (100, "a")]
    ]
    for table in ("gpu_samples", "node_power_samples"):
        (book.lake / table).mkdir(parents=True)
        RAW_TABLES[table].schema.create_empty().write_parquet(book.lake / table / "schema.parquet")
    late = rows[0] | {"sampled_at": MIDNIGHT + timedelta(days=1, minutes=5)}
    for day, of_day in ((date(2026, 11, 1), rows), (date(2026, 11, 2), [late])):
        file = book.lake / "gpu_samples" / str(day) / f"{'a' * 16}.parquet"
        file.parent.mkdir(parents=True)
        schema.validate(pl.DataFrame(of_day, schema=dtypes)).write_parquet(file)


def landing(book: Book) -> None:
    """One file each of a meter's day, prices of an hour and a scrape of two boards."""
    readings = pl.DataFrame(
        {
            "meter_id": "JLGRID0001",
            "flow": "import",
            "interval_started_at": [MARKET_DAY + i * QUARTER for i in range(96)],
            "interval_ended_at": [MARKET_DAY + (i + 1) * QUARTER for i in range(96)],
            "quantity": [1000.0 + i for i in range(96)],
            "unit": "kWh",
            "quality": "measured",
        }
    )
    prices = pl.DataFrame(
        {
            "zone": "DE-LU",
            "market": "day_ahead",
            "sequence": 1,
            "interval_started_at": [MIDNIGHT + i * QUARTER for i in range(4)],
            "interval_ended_at": [MIDNIGHT + (i + 1) * QUARTER for i in range(4)],
            "price_per_mwh": [50.0, 50.0, -3.5, 7.0],
            "currency_code": "EUR",
        }
    )
    boards = pl.DataFrame(
        {
            "sampled_at": MIDNIGHT,
            "hostname": "jwb0001",
            "gpu_index": ["0", "1"],
            "power_w": [412.25, 90.0],
            "energy_counter_millijoules": [15, 16],
            "utilization_ratio": [0.91, 0.0],
            "power_violation_ns": [1, 2],
            "power_brake_ns": [0, 0],
            "thermal_violation_ns": [0, 0],
            "sm_clock_mhz": [1410, 210],
            "power_limit_w": [400.0, 400.0],
            "default_power_limit_w": [400.0, 400.0],
            "clocks_event_reasons": [4, 0],
        }
    )
    zone = "10Y1001A1001A82H"
    for name, content in {
        "nem12/juelich/JL_20261101.csv": write_nem12(readings, updated_at=MIDNIGHT),
        "entsoe/DE-LU/prices_1.xml": write_prices(prices, domain_code=zone, created_at=MIDNIGHT),
        "dcgm_scrape/juelich/jwb0001_20261101T000000Z.prom": write_scrape(
            boards, scraped_at=MIDNIGHT
        ),
    }.items():
        file = book.landing / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)


def test_all_ways_of_the_roll_up_give_the_same_figures(book: Book):
    gpu_samples(book)
    sides = side_by_side.compare_rollup(book, repeats=1)
    assert [(side.name, side.rows) for side in sides] == [
        ("Ibis on DuckDB", 35),
        ("Polars, no doubts and limits", 35),
        ("Python loop, energy from power, 35 rows scaled", 35),
    ]
    assert sides[0].ratio == 1.0


def test_a_roll_up_that_differs_is_told_and_not_timed(book: Book, monkeypatch: pytest.MonkeyPatch):
    gpu_samples(book)
    right = side_by_side.rollup_in_polars
    monkeypatch.setattr(
        side_by_side,
        "rollup_in_polars",
        lambda samples, day: right(samples, day).with_columns(
            pl.col("energy_from_power_kwh") * 1.001
        ),
    )
    with pytest.raises(AssertionError, match="energy_from_power_kwh"):
        side_by_side.compare_rollup(book, repeats=1)


def test_connectors_and_libraries_load_the_same_rows(book: Book):
    landing(book)
    sides = side_by_side.compare_loading(book, repeats=1)
    assert [(side.comparison, side.name, side.rows) for side in sides] == [
        ("loading nem12, 1 files", "connector", 96),
        ("loading nem12, 1 files", "nemreader", 96),
        ("loading entsoe, 1 files", "connector", 4),
        ("loading entsoe, 1 files", "entsoe-py", 4),
        ("loading dcgm_scrape, 1 files", "connector", 2),
        ("loading dcgm_scrape, 1 files", "prometheus-client", 2),
    ]


def test_the_command_prints_the_ratios_and_leaves_the_book_as_it_is(book: Book):
    gpu_samples(book)
    landing(book)
    before = sorted(book.data_dir.rglob("*"))
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.side_by_side", str(book.data_dir), "--only", "loading"],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nemreader" in answer.stdout
    assert "ratio" in answer.stdout
    assert sorted(book.data_dir.rglob("*")) == before
