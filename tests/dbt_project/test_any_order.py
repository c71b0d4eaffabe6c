"""The book does not depend on how its files came: order, repetition, split over loads, times."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines import lake, warehouse
from pipelines.book import Book
from pipelines.simulator.landing import declare

# Two days with telemetry and an incident (power capping), the price of the second known on the
# first; the telemetry of one site is enough.
FIRST_ARRIVAL = datetime(2026, 10, 27, 12, tzinfo=UTC)
LAST_ARRIVAL = datetime(2026, 10, 29, 12, tzinfo=UTC)
LEFT_OUT = "prometheus/sparks"

pytestmark = pytest.mark.xdist_group("any_order")


@pytest.fixture(scope="module", autouse=True)
def _tables_alone() -> Iterator[None]:
    """Five times the data tests of all models would take half the time, and tell nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        told = warehouse.Plan.dbt_arguments.fget
        assert told is not None
        without = ["--exclude-resource-type", "test"]
        patch.setattr(warehouse.Plan, "dbt_arguments", property(lambda todo: told(todo) + without))
        yield


@pytest.fixture(scope="module")
def files(demo_book: Book) -> list[Path]:
    """Paths below landing of the files of two days."""
    arrived = [
        path.relative_to(demo_book.landing)
        for path in sorted(demo_book.landing.rglob("*"))
        if path.is_file()
        and FIRST_ARRIVAL <= datetime.fromtimestamp(path.stat().st_mtime, tz=UTC) < LAST_ARRIVAL
    ]
    return [path for path in arrived if not path.as_posix().startswith(LEFT_OUT)]


def land(demo: Book, book: Book, files: list[Path], suffix: str = "") -> None:
    for path in files:
        target = book.landing / path.with_name(path.name + suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(demo.landing / path, target)


def shuffle_times(book: Book) -> None:
    """Give the files of landing times that say nothing, as a copy of another day does."""
    for path in book.landing.rglob("*.*"):
        digest = hashlib.sha256(path.name.encode()).digest()
        moment = FIRST_ARRIVAL.timestamp() + int.from_bytes(digest[:4]) % (30 * 86_400)
        os.utime(path, (moment, moment))


def marts(book: Book) -> dict[str, str]:
    """Name of each mart -> digest of its rows as sorted Parquet, but for when they were known."""
    digests = {}
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        names = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'marts'"
        ).fetchall()
        for (name,) in names:
            query = f"select columns(lambda c: c <> 'known_at') from marts.{name} order by all"
            rows = pl.from_arrow(connection.sql(query).to_arrow_table())
            assert isinstance(rows, pl.DataFrame)
            content = io.BytesIO()
            rows.write_parquet(content)
            digests[name] = hashlib.sha256(content.getvalue()).hexdigest()
    return digests


@pytest.fixture(scope="module")
def book_at_once(demo_book, files, tmp_path_factory) -> Book:
    book = Book(tmp_path_factory.mktemp("at_once"))
    declare(book)
    land(demo_book, book, files)
    lake.load(book)
    warehouse.build(book)
    return book


@pytest.fixture(scope="module")
def at_once(book_at_once) -> dict[str, str]:
    return marts(book_at_once)


def test_later_day_first_each_file_twice_in_three_loads_with_other_times_gives_the_same_marts(
    demo_book, files, at_once, tmp_path
):
    book = Book(tmp_path / "data")
    declare(book)
    later, earlier = (
        [path for path in files if ("20261028" in path.name) == is_later]
        for is_later in (True, False)
    )
    for part in (later, earlier[::2], earlier[1::2]):
        land(demo_book, book, part)
        land(demo_book, book, part, suffix=".again")
        shuffle_times(book)
        summary = lake.load(book)
        assert summary.loaded == len(part)
        warehouse.build(book)
    assert marts(book) == at_once
    assert len(at_once) > 15


def test_building_a_day_again_changes_nothing(book_at_once, at_once):
    warehouse.build(book_at_once, [datetime(2026, 10, 27, tzinfo=UTC).date()])
    assert marts(book_at_once) == at_once
