"""Who gets which table and column, and that files are replaced whole."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from filelock import Timeout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import lake
from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published import access, audience, publishing, query
from pipelines.published.query import TEAMS
from pipelines.warehouse import WarehouseError, build_lock, manifest_path

OLD_CLIENT = Path(sys.prefix) / "duckdb-1.4"

RAW_LOADS_SOURCE = {
    "name": "raw_loads",
    "description": "One row per landing file.",
    "columns": {
        "source_file": {"description": "Path below landing/."},
        "status": {"description": "loaded, partial or failed."},
        "data_files": {"description": "Nobody's.", "config": {"meta": {"audience": []}}},
    },
}


def model(name, audience=None, schema="marts", columns=None, **meta):
    """A model as it stands in dbt's manifest."""
    meta |= {} if audience is None else {"audience": audience}
    return {
        "name": name,
        "resource_type": "model",
        "schema": schema,
        "description": f"One row per {name}.",
        "original_file_path": f"models/{schema}/{name}.sql",
        "config": {"meta": meta},
        "columns": columns or {},
    }


STATEMENTS = model(
    "fct_statements",
    ["energy", "finance", "operations"],
    columns={
        "contract_id": {"description": "Contract."},
        "price_per_mwh": {
            "description": "Contract price.",
            "config": {"meta": {"audience": ["energy", "finance"]}},
        },
        "note": {"description": "Nobody's.", "config": {"meta": {"audience": []}}},
    },
)


@pytest.fixture
def built(book: Book) -> Book:
    """A warehouse with three marts and one intermediate table."""
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute("create schema marts")
        connection.execute("create schema intermediate")
        connection.execute("create schema raw")
        connection.execute(
            "create table marts.fct_statements as select * from (values"
            " ('b', date '2026-10-02', 31.5, 'x'), ('a', date '2026-10-02', 30.0, 'y'),"
            " ('a', date '2026-10-01', 29.0, 'z')"
            ") as rows (contract_id, local_date, price_per_mwh, note)"
        )
        connection.execute("create table marts.fct_unfinished as select 1 as a")
        connection.execute("create table marts.dim_strikes as select 34.2 as strike_per_mwh")
        connection.execute("create table intermediate.int_secrets as select 1 as a")
        connection.execute(
            "create table raw.raw_loads as select 'nem12/a.csv' as source_file, 'loaded' as status,"
            " 'lake/a.parquet' as data_files"
        )
        connection.execute(
            "create table raw.builds (build_id varchar, started_at timestamptz, is_finished bool,"
            " build_from date)"
        )
    build_again(book)
    write_manifest(
        book,
        STATEMENTS,
        model("fct_unfinished"),
        model("dim_strikes", ["finance"]),
        model("int_secrets", ["finance"], schema="intermediate"),
    )
    return book


def build_again(book, *, is_finished=True, build_from=None):
    """What a run of dbt leaves behind of itself."""
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute(
            "insert into raw.builds select uuid()::varchar, current_timestamp, ?, ?",
            [is_finished, build_from],
        )


def write_manifest(book, *models):
    manifest_path(book).parent.mkdir(parents=True, exist_ok=True)
    manifest = {
        "nodes": {node["name"]: node for node in models},
        "sources": {audience.RAW_LOADS: RAW_LOADS_SOURCE},
    }
    manifest_path(book).write_text(json.dumps(manifest))


def test_each_team_gets_the_marts_whose_audience_names_it(built):
    assert publishing.publish(built) == {
        "energy": ["fct_statements", "raw_loads"],
        "finance": ["dim_strikes", "fct_statements", "raw_loads"],
        "operations": ["fct_statements", "raw_loads"],
    }


def test_a_team_is_told_which_tables_are_published_for_others_alone(built):
    publishing.publish(built)
    with query.opened(built, "operations") as connection:
        assert query.of_other_teams(connection) == {"dim_strikes": ["finance"]}
    with query.opened(built, "finance") as connection:
        assert query.of_other_teams(connection) == {}


def test_a_column_with_its_own_audience_is_left_out_for_the_other_teams(built):
    publishing.publish(built)
    seen = {
        team: columns_of(built.published / f"{team}.duckdb", "fct_statements")
        for team in ("energy", "operations")
    }
    assert seen == {
        "energy": ["contract_id", "local_date", "price_per_mwh"],
        "operations": ["contract_id", "local_date"],
    }
    parquet = built.published / "operations" / "fct_statements.parquet"
    assert duckdb.read_parquet(str(parquet)).columns == ["contract_id", "local_date"]


CONFIDENTIAL = model(
    "fct_costs",
    ["finance", "operations"],
    columns={
        "unit_cost": {"description": "Cost.", "config": {"meta": {"confidential": "rounded"}}},
        "price": {"description": "Price.", "config": {"meta": {"confidential": "withheld"}}},
        "proposal": {"description": "", "config": {"meta": {"confidential": "rounded_in_text"}}},
        "paid": {
            "description": "Paid.",
            "config": {"meta": {"confidential": {"shown": "2 * rounded(paid)", "where": "is_due"}}},
        },
    },
)


@pytest.fixture
def with_costs(built: Book) -> Book:
    """Costs of a site whose prices are public, of one whose are not, and of both together."""
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute(
            "create table marts.dim_sites as select * from"
            " (values ('open', true), ('closed', false)) as rows (site_id, has_public_prices)"
        )
        connection.execute(
            "create table marts.fct_costs as select *, 'EUR' as currency_code from (values"
            " ('closed', 7e-1, 31.5, 'Saves 5,498 EUR at 9 EUR a tonne, not 0 EUR.', 10, true),"
            " ('closed', -0.7, 31.5, 'Of 5,498 kWh.', 10.0, false),"
            " ('closed', 0.0, null, null, null, null),"
            " ('open', 0.7, 31.5, 'Saves 5,498 EUR.', 10.0, true),"
            " (null, 0.7, 31.5, 'Saves 3.21 EUR.', 10.0, true)"
            ") as rows (site_id, unit_cost, price, proposal, paid, is_due)"
        )
    write_manifest(built, CONFIDENTIAL)
    return built


def test_costs_on_confidential_prices_are_rounded_to_powers_of_the_ratio(with_costs):
    publishing.publish(with_costs)

    with duckdb.connect(str(with_costs.published / "operations.duckdb"), read_only=True) as team:
        rows = team.execute(
            "select site_id, round(unit_cost, 4), price, proposal, round(paid, 4)"
            " from marts.fct_costs order by rowid"
        ).fetchall()
        comments = team.execute(
            "select comment from duckdb_columns()"
            " where schema_name = 'marts' and column_name in ('unit_cost', 'price')"
        ).fetchall()

    # 0.64 is 1.25 ** -2, 9.3132 is 1.25 ** 10.
    assert sorted(rows, key=str) == [
        ("closed", -0.64, None, "Of 5,498 kWh.", 10.0),
        ("closed", 0.0, None, None, None),
        ("closed", 0.64, None, "Saves 6,000 EUR at 9 EUR a tonne, not 0.0 EUR.", 18.6265),
        ("open", 0.7, 31.5, "Saves 5,498 EUR.", 10.0),
        (None, 0.64, None, "Saves 3.1 EUR.", 18.6265),
    ]
    assert comments == [
        ("Cost. Rounded where it rests on confidential contract prices.",),
        ("Price. Empty where it would give away a confidential contract price.",),
    ]


def test_whoever_may_know_prices_gets_them_as_they_are(with_costs):
    publishing.publish(with_costs)

    with duckdb.connect(str(with_costs.published / "finance.duckdb"), read_only=True) as team:
        costs = team.execute(
            "select distinct unit_cost, price::double from marts.fct_costs"
        ).fetchall()
        assert sorted(costs, key=str) == [(-0.7, 31.5), (0.0, None), (0.7, 31.5)]


def test_what_is_rounded_otherwise_is_published_again(with_costs):
    publishing.publish(with_costs)
    before = publishing.is_current(with_costs)
    folder = with_costs.data_dir / "reference"
    file = folder / "organization.yml"
    file.write_text(file.read_text().replace("_ratio: 1.25", "_ratio: 2"))

    assert (before, publishing.is_current(with_costs)) == (True, False)


def test_a_way_to_show_a_column_that_there_is_not_is_refused(built):
    column = {"description": "Price.", "config": {"meta": {"confidential": "blurred"}}}
    write_manifest(
        built, model("fct_statements", ["operations"], columns={"price_per_mwh": column})
    )

    with pytest.raises(BookError) as caught:
        publishing.publish(built)

    assert caught.value.causes == [
        "models/marts/fct_statements.sql: price_per_mwh: confidential: mask: found 'blurred',"
        " expected one of withheld, rounded, rounded_in_text"
    ]


def test_a_column_in_pascal_case_has_its_own_audience_and_description(built):
    columns = {
        "x_Strike": {"description": "Price.", "config": {"meta": {"audience": ["finance"]}}},
        "EffectiveCost": {"description": "Cost."},
    }
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute(
            'create table marts.focus_charges as select 1.5 as "EffectiveCost", 3 as "x_Strike"'
        )
    write_manifest(built, model("focus_charges", ["energy", "finance"], columns=columns))
    publishing.publish(built)
    assert {
        team: comments_of(built.published / f"{team}.duckdb", "focus_charges")
        for team in ("energy", "finance")
    } == {
        "energy": [("EffectiveCost", "Cost.")],
        "finance": [("EffectiveCost", "Cost."), ("x_Strike", "Price.")],
    }


def comments_of(file, table):
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(
            "select column_name, comment from duckdb_columns()"
            " where schema_name = 'marts' and table_name = ?"
            " order by column_index",
            [table],
        ).fetchall()


def columns_of(file, table):
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.table(f"marts.{table}").columns


def test_rows_are_sorted_by_key_and_described_as_the_models_are(built):
    publishing.publish(built)
    parquet = built.published / "finance" / "fct_statements.parquet"
    rows = duckdb.sql(f"select contract_id, price_per_mwh::float from '{parquet}'").fetchall()
    assert rows == [("a", 29.0), ("a", 30.0), ("b", 31.5)]
    with duckdb.connect(str(built.published / "finance.duckdb"), read_only=True) as connection:
        comments = connection.execute(
            "select comment from duckdb_tables() where table_name = 'fct_statements'"
            " union all select comment from duckdb_columns()"
            " where schema_name = 'marts' and table_name = 'fct_statements'"
            " and column_name = 'price_per_mwh'"
        ).fetchall()
    assert comments == [("One row per fct_statements.",), ("Contract price.",)]


def test_an_audience_that_is_no_team_is_refused_with_the_models_file(built):
    write_manifest(built, model("fct_statements", ["finanse"]))
    with pytest.raises(audience.AudienceError) as error:
        publishing.publish(built)
    assert error.value.causes == [
        "models/marts/fct_statements.sql: fct_statements: audience names 'finanse',"
        " expected some of energy, finance, operations"
    ]


def test_a_reader_of_the_old_file_keeps_it_while_a_new_one_is_published(built):
    publishing.publish(built)
    held = duckdb.connect(str(built.published / "finance.duckdb"), read_only=True)
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("delete from marts.fct_statements where contract_id = 'b'")
    publishing.publish(built)
    assert held.execute("select count(*) from marts.fct_statements").fetchall() == [(3,)]
    held.close()
    parquet = built.published / "finance" / "fct_statements.parquet"
    assert duckdb.sql(f"select count(*) from '{parquet}'").fetchall() == [(2,)]


def test_what_a_reader_holds_open_is_not_written_over(built):
    publishing.publish(built)
    names = ("finance.duckdb", "finance/fct_statements.parquet")
    held = {name: (built.published / name).open("rb") for name in names}
    before = {name: (built.published / name).read_bytes() for name in names}
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("delete from marts.fct_statements where contract_id = 'b'")
    publishing.publish(built)
    assert {name: file.read() for name, file in held.items()} == before
    assert [name for name in names if (built.published / name).read_bytes() == before[name]] == []
    for file in held.values():
        file.close()


def test_nothing_is_built_while_it_is_published(built):
    waited = []

    def try_to_build(_: str) -> None:
        try:
            build_lock(built).acquire(timeout=0)
        except Timeout:
            waited.append(True)

    publishing.publish(built, try_to_build)
    assert waited == [True] * len(TEAMS)
    with build_lock(built).acquire(timeout=0):
        pass


def record(book: Book, name: str, content: str) -> None:
    """A file of load records, as far as publishing looks at it."""
    (book.lake / "loads").mkdir(parents=True, exist_ok=True)
    empty = dict.fromkeys(lake.LOAD_RECORD_SCHEMA) | {"data_files": [], "withdrawn_at": []}
    pl.DataFrame([empty | {"reason": content}], schema=lake.LOAD_RECORD_SCHEMA).write_parquet(
        book.lake / "loads" / f"{name}.parquet"
    )


def test_a_publication_says_when_it_was_made(built):
    assert publishing.published_at(built) is None
    before = datetime.now(UTC) - timedelta(seconds=1)
    publishing.publish(built)
    assert before < publishing.published_at(built) < before + timedelta(minutes=1)


def test_what_is_published_is_current_by_its_content_and_not_by_the_times_of_files(built):
    record(built, "batch", "a")
    assert publishing.is_current(built) is False
    publishing.publish(built)
    assert publishing.is_current(built) is True
    for file in (built.warehouse, built.lake / "loads" / "batch.parquet"):
        os.utime(file, (2_000_000_000, 2_000_000_000))
    for file in built.published.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    assert publishing.is_current(built) is True


CHANGES = {
    "another build": build_again,
    "other load records": lambda book: record(book, "batch", "b"),
    "more load records": lambda book: record(book, "failed", "a"),
    "a truncated database": lambda book: truncate(book.published / "finance.duckdb"),
    "a truncated Parquet file": lambda book: truncate(
        book.published / "energy" / "raw_loads.parquet"
    ),
    "a missing Parquet file": lambda book: (
        book.published / "energy" / "fct_statements.parquet"
    ).unlink(),
    "a missing path": lambda book: (book.published / "energy.duckdb").unlink(),
    "another file in place of a path": lambda book: replace(book.published / "energy.duckdb"),
    "a damaged mark": lambda book: truncate(
        book.published / ".versions" / "energy" / "current" / "publication.json"
    ),
}


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def replace(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_published_is_no_longer_current_after(built, change):
    record(built, "batch", "a")
    publishing.publish(built)
    CHANGES[change](built)
    assert publishing.is_current(built) is False
    publishing.publish(built)
    assert publishing.is_current(built) is True


def test_a_build_that_did_not_end_well_is_not_published(built):
    publishing.publish(built)
    build_again(built, is_finished=False)
    assert publishing.is_current(built) is False
    with pytest.raises(publishing.PublishError, match="did not end well: run `wattbook build`"):
        publishing.publish(built)
    build_again(built)
    publishing.publish(built)


def test_nothing_is_published_from_a_lake_with_holes(built):
    record(built, "batch", "a")
    (built.lake / "jobs").mkdir()
    (built.lake / "jobs" / "unknown.parquet").touch()
    with pytest.raises(WarehouseError, match="run `wattbook load` first"):
        publishing.publish(built)


DAYS = model("fct_days", list(TEAMS), day="local_date", days_before=1)


@pytest.fixture
def by_day(built: Book) -> Book:
    """A mart of three months beside one that is always built whole, published."""
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute(
            "create table marts.fct_days as"
            " select unnest(['b', 'a']) as site_id, day::date as local_date, 1 as energy_kwh"
            " from unnest(generate_series(date '2026-08-15', date '2026-10-14', interval 1 day))"
            " as days (day)"
        )
    write_manifest(built, DAYS, STATEMENTS)
    publishing.publish(built)
    return built


def change_days(book: Book, first: str, *, build_from: str | None, by: int = 1) -> None:
    """Another figure on all days from the first on, by a build that began with `build_from`."""
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute(
            "update marts.fct_days set energy_kwh = energy_kwh + ? where local_date >= ?",
            [by, first],
        )
    build_again(book, build_from=build_from)


def days_published(book: Book, team: str) -> list[list[tuple]]:
    """All rows of the days as they lie in a team's database, in its files, and in the warehouse."""
    files = sorted(str(path) for path in (book.published / team / "fct_days").iterdir())
    with duckdb.connect(str(book.published / f"{team}.duckdb"), read_only=True) as connection:
        in_database = connection.execute("from marts.fct_days").fetchall()
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        in_warehouse = connection.execute(
            "from marts.fct_days order by date_trunc('month', local_date), site_id, local_date"
        ).fetchall()
    return [in_database, duckdb.read_parquet(files).fetchall(), in_warehouse]


def is_same_everywhere(book: Book) -> bool:
    return all(
        found == in_warehouse
        for team in TEAMS
        for *published, in_warehouse in [days_published(book, team)]
        for found in published
    )


def months_taken_over(book: Book, team: str = "finance") -> list[str]:
    """Files that the version before has too."""
    versions = book.published / ".versions" / team
    return sorted(
        file.stem
        for file in (versions / "current" / "tables" / "fct_days").iterdir()
        if file.stat().st_nlink > 1
    )


def test_a_mart_by_the_day_has_a_file_per_month(by_day):
    assert is_same_everywhere(by_day)
    assert sorted(
        file.name for file in (by_day.published / "operations" / "fct_days").iterdir()
    ) == [
        "2026-08.parquet",
        "2026-09.parquet",
        "2026-10.parquet",
    ]


def test_a_mart_by_the_day_without_rows_shows_its_columns(by_day):
    with duckdb.connect(str(by_day.warehouse)) as connection:
        connection.execute("delete from marts.fct_days")
    build_again(by_day)
    publishing.publish(by_day)
    [file] = (by_day.published / "finance" / "fct_days").iterdir()
    parquet = duckdb.read_parquet(str(file))
    assert (parquet.columns, parquet.fetchall()) == (["site_id", "local_date", "energy_kwh"], [])


def test_months_before_what_a_build_changed_are_taken_over(by_day):
    # Days from the one before on are built anew, as the model says.
    change_days(by_day, "2026-10-01", build_from="2026-10-02")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == ["2026-08", "2026-09"]


def test_the_days_that_a_model_builds_before_others_are_not_taken_over(by_day):
    change_days(by_day, "2026-09-30", build_from="2026-10-01")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == ["2026-08"]


def test_of_several_builds_since_the_one_that_goes_back_furthest_counts(by_day):
    change_days(by_day, "2026-09-02", build_from="2026-09-02")
    build_again(by_day, is_finished=False, build_from=date(2026, 8, 20))
    change_days(by_day, "2026-10-03", build_from="2026-10-03")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == []


def test_after_a_build_of_everything_everything_is_written(by_day):
    change_days(by_day, "2026-08-15", build_from=None)
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == []


def test_loads_alone_change_no_month(by_day):
    record(by_day, "batch", "a")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == ["2026-08", "2026-09", "2026-10"]


def test_a_mart_shown_in_another_way_is_written_whole(by_day):
    columns = {"energy_kwh": {"description": "", "config": {"meta": {"audience": ["energy"]}}}}
    write_manifest(by_day, model("fct_days", list(TEAMS), columns=columns, day="local_date"))
    change_days(by_day, "2026-10-03", build_from="2026-10-03")
    publishing.publish(by_day)
    assert columns_of(by_day.published / "finance.duckdb", "fct_days") == ["site_id", "local_date"]
    assert months_taken_over(by_day) == []
    with duckdb.connect(str(by_day.published / "finance.duckdb"), read_only=True) as connection:
        assert connection.execute(
            "select table_name from duckdb_tables() order by all"
        ).fetchall() == [
            ("fct_days",),
            ("raw_loads",),
        ]


def test_a_site_whose_prices_are_no_longer_public_is_hidden_in_all_months(by_day):
    with duckdb.connect(str(by_day.warehouse)) as connection:
        connection.execute(
            "create table marts.dim_sites as select 'a' as site_id, true as has_public_prices"
        )
    columns = {"energy_kwh": {"description": "", "config": {"meta": {"confidential": "withheld"}}}}
    write_manifest(by_day, model("fct_days", list(TEAMS), columns=columns, day="local_date"))
    change_days(by_day, "2026-10-03", build_from="2026-10-03")
    publishing.publish(by_day)
    [before, _, in_warehouse] = days_published(by_day, "operations")
    assert [row for row in before if row[0] == "a"] == [
        row for row in in_warehouse if row[0] == "a"
    ]
    with duckdb.connect(str(by_day.warehouse)) as connection:
        connection.execute("update marts.dim_sites set has_public_prices = false")
    build_again(by_day, build_from=date(2026, 10, 3))
    publishing.publish(by_day)
    assert {row[2] for rows in days_published(by_day, "operations")[:2] for row in rows} == {None}
    assert months_taken_over(by_day, "finance") == ["2026-08", "2026-09"]


def test_what_another_version_of_wattbook_wrote_is_written_whole(by_day, monkeypatch):
    monkeypatch.setattr(publishing, "_code", lambda: "of another version")
    assert publishing.is_current(by_day) is False
    change_days(by_day, "2026-10-03", build_from="2026-10-03")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == []


def test_a_version_that_is_damaged_is_not_gone_on_from(by_day):
    file = by_day.published / ".versions" / "finance" / "current" / "finance.duckdb"
    size = file.stat().st_size
    file.write_bytes(b"x" * size)
    change_days(by_day, "2026-10-03", build_from="2026-10-03")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert (months_taken_over(by_day), months_taken_over(by_day, "energy")) == (
        [],
        ["2026-08", "2026-09"],
    )


def test_a_warehouse_built_anew_is_published_whole(by_day):
    with duckdb.connect(str(by_day.warehouse)) as connection:
        connection.execute("delete from raw.builds")
    change_days(by_day, "2026-08-15", build_from="2026-10-03")
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)
    assert months_taken_over(by_day) == []


WORKS = st.lists(
    st.tuples(
        st.sampled_from(["2026-08-15", "2026-09-01", "2026-09-30", "2026-10-14"]),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(WORKS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_was_built_since_what_is_published_is_what_the_warehouse_holds(by_day, works):
    for first, is_whole, is_published in works:
        change_days(by_day, first, build_from=None if is_whole else first, by=3)
        if is_published:
            publishing.publish(by_day)
    build_again(by_day, build_from=date(2026, 10, 14))
    publishing.publish(by_day)
    assert is_same_everywhere(by_day)


class KilledError(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_first", "build_from"),
    [(True, None), (False, None), (False, date(2026, 10, 1))],
    ids=["first", "after another", "taking over months of another"],
)
def test_killed_at_any_point_a_team_sees_one_publication_whole_and_the_next_run_ends_it(
    built, monkeypatch, is_first, build_from
):
    # What is done for a team does not depend on the others.
    for module in (publishing, audience):
        monkeypatch.setattr(module, "TEAMS", ["finance"])
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute(
            "update marts.fct_statements set local_date = '2026-09-30' where note = 'z'"
        )
    write_manifest(built, model("fct_statements", ["finance"], day="local_date"))
    if not is_first:
        publishing.publish(built)
    before = rows_seen(built, "finance")
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("delete from marts.fct_statements where contract_id = 'b'")
    build_again(built, build_from=build_from)
    seen = set()
    for kill in itertools.count():
        book = Book(built.data_dir.with_name(f"killed{kill}"))
        shutil.copytree(built.data_dir, book.data_dir, symlinks=True)
        with monkeypatch.context() as patch:
            stop_at(patch, kill)
            try:
                publishing.publish(book)
                was_killed = False
            except KilledError:
                was_killed = True
        found = rows_seen(book, "finance")
        assert found in (before, (2, 2))
        seen.add(found)
        publishing.publish(book)
        assert publishing.is_current(book)
        assert rows_seen(book, "finance") == (2, 2)
        assert leavings(book) == []
        shutil.rmtree(book.data_dir)
        if not was_killed:
            break
    assert kill > 20
    assert seen == {before, (2, 2)}


def stop_at(patch: pytest.MonkeyPatch, kill: int) -> None:
    """Stop publishing before the file operation of this number."""
    count = itertools.count()

    def guarded(operation):
        def operate(*arguments, **options):
            if next(count) == kill:
                raise KilledError
            return operation(*arguments, **options)

        return operate

    for name in ("mkdir", "replace", "symlink_to", "hardlink_to", "unlink", "write_text", "chmod"):
        patch.setattr(Path, name, guarded(getattr(Path, name)))
    for name in ("_fill", "_new_files", "_sync"):
        patch.setattr(publishing, name, guarded(getattr(publishing, name)))
    for name in ("copyfile", "rmtree"):
        patch.setattr(publishing.shutil, name, guarded(getattr(shutil, name)))


def rows_seen(book: Book, team: str) -> tuple[int, int] | None:
    """Rows of statements in a team's database and in its Parquet files; None before the first."""
    file = book.published / f"{team}.duckdb"
    parquet = [str(path) for path in (book.published / team).glob("fct_statements*/*.parquet")]
    parquet = parquet or [str(path) for path in (book.published / team).glob("fct_st*.parquet")]
    if not file.exists() or not parquet:
        return None
    with duckdb.connect(str(file), read_only=True) as connection:
        [(in_database,)] = connection.execute(
            "select count(*) from marts.fct_statements"
        ).fetchall()
    return in_database, duckdb.read_parquet(parquet).count("*").fetchall()[0][0]


def leavings(book: Book) -> list[str]:
    """What lies in published/ beside two versions of each team and the links to them."""
    teams = [team for team in TEAMS if (book.published / ".versions" / team).exists()]
    kept = {team: {"current"} for team in teams}
    for team in teams:
        number = int((book.published / ".versions" / team / "current").readlink().name)
        kept[team] |= {str(number), str(number - 1)}
    found = [
        f"{team}/{path.name}"
        for team in teams
        for path in (book.published / ".versions" / team).iterdir()
        if path.name not in kept[team]
    ]
    names = {".versions", *TEAMS, *(f"{team}.duckdb" for team in TEAMS)}
    return found + [path.name for path in book.published.iterdir() if path.name not in names]


def test_a_book_of_the_layout_before_is_led_over(built):
    for team in TEAMS:
        (built.published / team).mkdir(parents=True)
        (built.published / team / "fct_old.parquet").touch()
        (built.published / f"{team}.duckdb").write_bytes(b"old")
    assert publishing.is_current(built) is False
    publishing.publish(built)
    assert publishing.is_current(built) is True
    assert leavings(built) == []


def test_files_of_a_team_are_for_its_group_alone(built, monkeypatch):
    owners = {}
    monkeypatch.setattr(access.os, "chown", lambda path, _, group: owners.update({path: group}))
    monkeypatch.setattr(publishing, "groups", lambda _: {"finance": 4711})
    publishing.publish(built)
    versions = built.published / ".versions"
    rights = {
        path.relative_to(versions).as_posix(): oct(path.stat().st_mode & 0o777)
        for path in versions.rglob("*")
        if not path.is_symlink()
    }
    assert {name: found for name, found in rights.items() if found != "0o640"} == {
        name: "0o750" for team in TEAMS for name in (team, f"{team}/1", f"{team}/1/tables")
    }
    assert rights["finance/1/tables/dim_strikes.parquet"] == "0o640"
    assert {path.relative_to(versions).parts[0] for path in owners} == {"finance"}
    assert len(owners) == sum(name.split("/")[0] == "finance" for name in rights)
    assert set(owners.values()) == {4711}


def test_a_disk_without_room_says_so_and_leaves_what_was_published(built, monkeypatch):
    publishing.publish(built)
    build_again(built)

    def no_room(*_: object) -> None:
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_fill", no_room)
        with pytest.raises(publishing.PublishError, match="No space left on device") as error:
            publishing.publish(built)
    assert "make room or give leave to write, and publish again" in error.value.causes[0]
    assert leavings(built) == []
    assert rows_seen(built, "finance") == (3, 3)


def test_what_a_team_may_no_longer_see_is_taken_away(built):
    publishing.publish(built)
    write_manifest(built, STATEMENTS)
    publishing.publish(built)
    assert sorted(file.name for file in (built.published / "finance").iterdir()) == [
        "fct_statements.parquet",
        "raw_loads.parquet",
    ]


def test_a_table_is_found_by_its_bare_name_as_long_as_the_team_sees_it(by_day):
    def bare_names():
        with duckdb.connect(str(by_day.published / "finance.duckdb"), read_only=True) as team:
            names = team.execute("select view_name from duckdb_views() where not internal")
            return {
                name: team.table(name).fetchall() == team.table(f"marts.{name}").fetchall()
                for (name,) in names.fetchall()
            }

    assert bare_names() == dict.fromkeys(["fct_days", "fct_statements", "raw_loads"], True)
    listed = query.run_sql(by_day, "finance", "show tables")
    assert listed["name"].to_list() == ["fct_days", "fct_statements", "raw_loads"]
    write_manifest(by_day, DAYS)
    change_days(by_day, "2026-10-03", build_from="2026-10-03")
    publishing.publish(by_day)
    assert bare_names() == dict.fromkeys(["fct_days", "raw_loads"], True)


def test_before_the_first_build_the_error_says_what_to_run(book):
    with pytest.raises(publishing.PublishError, match="run `wattbook build` first"):
        publishing.publish(book)


def test_a_duckdb_1_4_client_opens_the_published_file(built):
    assert OLD_CLIENT.exists(), "DuckDB 1.4 is not there: `make setup` installs it"
    publishing.publish(built)
    question = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1], read_only=True);"
        "print(duckdb.__version__[:3],"
        " connection.execute('select sum(price_per_mwh) from marts.fct_statements').fetchall(),"
        " connection.execute('select sum(price_per_mwh) from fct_statements').fetchall())"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", question, built.published / "finance.duckdb"],
        env={"PYTHONPATH": str(OLD_CLIENT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "1.4 [(Decimal('90.5'),)] [(Decimal('90.5'),)]\n"
