"""CONTRIBUTING.md: what it names is there, and its steps are all there is to do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "CONTRIBUTING.md").read_text()
TOY = '''\
"""Prices of one zone, a time and a number a line."""

from datetime import datetime, timedelta

import polars as pl


def read(content, *, file_name, context):
    rows = [line.split() for line in content.decode().splitlines()]
    started_at = [datetime.fromisoformat(time) for time, _ in rows]
    return {
        "market_prices": pl.DataFrame(
            {
                "zone": ["HB_NORTH"] * len(rows),
                "market": ["day_ahead"] * len(rows),
                "sequence": [1] * len(rows),
                "interval_started_at": started_at,
                "interval_ended_at": [time + timedelta(hours=1) for time in started_at],
                "price_per_mwh": [float(price) for _, price in rows],
                "currency_code": ["USD"] * len(rows),
                "reject_reason": pl.Series([None] * len(rows), dtype=pl.String),
            }
        ).with_columns(
            pl.col("interval_started_at", "interval_ended_at").cast(pl.Datetime("us", "UTC"))
        )
    }
'''


def test_every_place_it_names_is_there():
    named = re.findall(r"`((?:pipelines|tests|dbt_project|data)/[\w./]*)`", TEXT)
    assert len(set(named)) > 15
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_every_command_of_make_it_names_is_there():
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)", TEXT)) <= targets


def test_every_name_within_a_file_it_names_is_there():
    for name, file in (
        ("FORMATS", "pipelines/connectors/__init__.py"),
        ("Contract", "pipelines/reference/contracts/__init__.py"),
        ("kpis", "dbt_project/dbt_project.yml"),
        ("agenda_rules", "dbt_project/dbt_project.yml"),
        ("finding_rules", "dbt_project/dbt_project.yml"),
        ("proposal_columns", "dbt_project/macros/agenda.sql"),
    ):
        assert f"`{name}`" in TEXT
        assert f"`{file}`" in TEXT
        assert re.search(rf"\b{name}\b", (PROJECT / file).read_text())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project, to be changed, and a book with one file in it."""
    for folder in ("pipelines", "dbt_project", "data/reference"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    (tmp_path / "data" / "landing" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "landing" / "toy" / "prices").write_text("2026-10-05T10:00Z 31.5\n")
    return tmp_path


def load(copy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import app; app()", "load"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_format_added_by_its_steps_is_loaded(copy):
    (copy / "pipelines" / "connectors" / "toy.py").write_text(TOY)
    formats = copy / "pipelines" / "connectors" / "__init__.py"
    formats.write_text(
        formats.read_text().replace('    "invoices",\n', '    "invoices",\n    "toy",\n')
    )

    answer = load(copy)

    assert (answer.returncode, answer.stdout) == (
        0,
        "loaded 1, skipped 0, partly loaded 0 (0 rows quarantined), failed 0\n",
    ), answer.stderr
    prices = pl.read_parquet(copy / "data" / "lake" / "market_prices" / "**" / "*.parquet")
    assert prices.select("zone", "price_per_mwh", "source_file").rows() == [
        ("HB_NORTH", 31.5, "toy/prices")
    ]


def test_a_format_that_is_not_named_says_which_are(copy):
    (copy / "pipelines" / "connectors" / "toy.py").write_text(TOY)
    answer = load(copy)
    assert answer.returncode == 1
    assert "found landing folder 'toy', expected one of prometheus, " in answer.stderr
