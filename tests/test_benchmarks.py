"""The benchmarks on input so small that only their figures count, not their times."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import __main__ as command
from benchmarks import books, measure, parsing, telemetry
from pipelines import lake
from pipelines.book import Book

# They start a process for each way.
pytestmark = pytest.mark.slow


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start a process for each way takes longer than most of them on so little."""

    def called(function: Callable[..., Any], *arguments: Any) -> measure.Cost:
        given = [str(one) if isinstance(one, Path) else one for one in arguments]
        told = function(*given)
        return measure.Cost(1.0, 1.0, 1.0, told[0] if isinstance(told, tuple) else told)

    def wattbook(data_dir: Path, *arguments: str) -> measure.Cost:
        assert arguments == ("load",)
        return called(lambda: lake.load(Book(data_dir)).failed)

    for module in (measure, parsing, telemetry):
        monkeypatch.setattr(module, "called", called)
    monkeypatch.setattr(telemetry, "wattbook", wattbook)


@pytest.mark.usefixtures("in_this_process")
def test_the_smallest_size_runs_and_all_ways_come_to_the_same(tmp_path: Path, monkeypatch):
    smallest = replace(
        command.SIZES["quick"],
        parsing_scale=0.0,
        nodes=(2,),
        answer_nodes=1,
        job_nodes=4,
        job_days=2,
    )
    monkeypatch.setitem(command.SIZES, "quick", smallest)
    page, only = tmp_path / "performance.md", ["parsing", "telemetry", "jobs"]
    command.main(
        ["--size", "quick", "--page", str(page), "--folder", str(tmp_path), "--only", *only]
    )
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if "|" in line]
    measured = {(row[0].partition(",")[0], row[1]): row[2:] for row in rows[2:]}
    works = {work for work, _ in measured}
    assert sum(work.startswith("load ") for work in works) == 3
    assert {"parse nem12", "roll-up", "job energy"} <= works
    assert [way for way, cells in measured.items() if "comes to" in cells[-1]] == []
    there = {way for work, way in measured if work == "roll-up"}
    assert there >= {"Wattbook", "DuckDB, lag", "Polars, shift", "pandas, shift", "PostgreSQL, lag"}
    assert [path.name for path in tmp_path.iterdir()] == ["performance.md"]


def test_a_way_that_comes_to_another_figure_has_no_ratio():
    cost = measure.Cost(cpu_s=1.0, wall_s=1.0, peak_mb=1.0)
    ways = [
        measure.Way("ours", lambda: replace(cost, told=1.0)),
        measure.Way("same", lambda: replace(cost, cpu_s=2.0, told=1.0 + 1e-10)),
        measure.Way("other", lambda: replace(cost, told=1.001)),
        measure.Way("absent", lambda: cost, ("no_such_package.module",)),
    ]
    assert [(line.way, line.ratio, line.note) for line in measure.beside("work", ways, 1)] == [
        ("ours", 1.0, ""),
        ("same", 0.5, ""),
        ("other", None, "comes to 1.001, not 1.0"),
        ("absent", None, "not installed"),
    ]


def test_samples_come_twice_and_counters_start_anew_in_either_order(tmp_path: Path):
    key = ["Hostname", "gpu", "timestamp"]
    found = []
    for order in ("series", "time"):
        telemetry.write_export(tmp_path / order, 4, order)
        samples = pl.read_parquet(tmp_path / order).sort(key)
        counter = pl.col("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")
        found.append(
            (
                len(samples) - samples.select(pl.struct(key).n_unique()).item(),
                samples.select((counter.diff() < 0).over("Hostname", "gpu").sum()).item(),
            )
        )
    assert found == [(24 * 4, 1), (24 * 4, 1)]


def test_a_made_up_book_is_in_order(tmp_path: Path):
    books.write_book(str(tmp_path / "data"), 2, 3)
    books.write_day(str(tmp_path / "data"), 2)
    loaded = measure.command(measure.COMMAND, "--data-dir", tmp_path / "data", "load")
    assert loaded.cpu_s > 0
    records = pl.read_parquet(tmp_path / "data" / "lake" / "loads" / "*.parquet")
    assert records["status"].unique().to_list() == ["loaded"]
    assert len(records) == 2 * (2 * 3 + 2)
