"""Who gets which table and column, and that files are replaced whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from filelock import Timeout

from pipelines.book import Book
from pipelines.published import publishing
from pipelines.published.query import TEAMS
from pipelines.warehouse import build_lock, manifest_path

OLD_CLIENT = Path(sys.prefix) / "duckdb-1.4"

RAW_LOADS_SOURCE = {
    "name": "raw_loads",
    "description": "One row per landing file.",
    "columns": {
        "source_file": {"description": "Path below landing/."},
        "status": {"description": "loaded, partial or failed."},
    },
}


def model(name, audience=None, schema="marts", columns=None):
    """A model as it stands in dbt's manifest."""
    meta = {} if audience is None else {"audience": audience}
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
    book.data_dir.mkdir(parents=True)
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
            "create table raw.raw_loads as select 'nem12/a.csv' as source_file, 'loaded' as status"
        )
    write_manifest(
        book,
        STATEMENTS,
        model("fct_unfinished"),
        model("dim_strikes", ["finance"]),
        model("int_secrets", ["finance"], schema="intermediate"),
    )
    return book


def write_manifest(book, *models):
    manifest_path(book).parent.mkdir(parents=True, exist_ok=True)
    manifest = {
        "nodes": {node["name"]: node for node in models},
        "sources": {publishing.RAW_LOADS: RAW_LOADS_SOURCE},
    }
    manifest_path(book).write_text(json.dumps(manifest))


def test_each_team_gets_the_marts_whose_audience_names_it(built):
    assert publishing.publish(built) == {
        "energy": ["fct_statements", "raw_loads"],
        "finance": ["dim_strikes", "fct_statements", "raw_loads"],
        "operations": ["fct_statements", "raw_loads"],
    }


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
            "select column_name, comment from duckdb_columns() where table_name = ?"
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
            " where table_name = 'fct_statements' and column_name = 'price_per_mwh'"
        ).fetchall()
    assert comments == [("One row per fct_statements.",), ("Contract price.",)]


def test_an_audience_that_is_no_team_is_refused_with_the_models_file(built):
    write_manifest(built, model("fct_statements", ["finanse"]))
    with pytest.raises(publishing.PublishError) as error:
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


def test_what_is_published_is_current_until_a_build_or_a_load_comes_after_it(built):
    def dated(file: Path, second: int) -> None:
        os.utime(file, (1_790_000_000 + second, 1_790_000_000 + second))

    loads = built.lake / "loads"
    loads.mkdir(parents=True)
    for name in ("batch", "schema"):
        (loads / f"{name}.parquet").touch()
    is_current = [publishing.is_current(built)]
    publishing.publish(built)
    teams = [built.published / f"{team}.duckdb" for team in TEAMS]
    for file in teams:
        dated(file, 10)
    dated(loads / "schema.parquet", 20)  # holds no load
    for changed, second in [
        (loads / "batch.parquet", 10),
        (built.warehouse, 10),
        (loads / "batch.parquet", 11),
        (loads / "batch.parquet", 9),
        (built.warehouse, 11),
        (built.warehouse, 9),
        (teams[1], 8),
        (teams[1], 10),
    ]:
        dated(changed, second)
        is_current.append(publishing.is_current(built))
    teams[2].unlink()
    is_current.append(publishing.is_current(built))
    assert is_current == [
        *(False, False, True),  # nothing published; a warehouse of today; all of one time
        *(False, True),  # a later load
        *(False, True),  # a later build
        *(False, True),  # a team whose publish was cut off
        False,  # a team without a file
    ]


def test_what_a_team_may_no_longer_see_is_taken_away(built):
    publishing.publish(built)
    write_manifest(built, STATEMENTS)
    publishing.publish(built)
    assert sorted(file.name for file in (built.published / "finance").iterdir()) == [
        "fct_statements.parquet",
        "raw_loads.parquet",
    ]


def test_what_a_killed_publish_left_behind_does_not_stop_the_next(built):
    built.published.mkdir(parents=True)
    (built.published / ".finance.duckdb.draft").write_bytes(b"half a file")
    (built.published / ".finance.draft").mkdir()
    (built.published / ".finance.draft" / "x.parquet").write_bytes(b"half")
    publishing.publish(built)
    assert sorted(file.name for file in built.published.iterdir()) == [
        "energy",
        "energy.duckdb",
        "finance",
        "finance.duckdb",
        "operations",
        "operations.duckdb",
    ]


def test_before_the_first_build_the_error_says_what_to_run(book):
    with pytest.raises(publishing.PublishError, match="run `wattbook build` first"):
        publishing.publish(book)


def test_a_duckdb_1_4_client_opens_the_published_file(built):
    assert OLD_CLIENT.exists(), "DuckDB 1.4 is not there: `make setup` installs it"
    publishing.publish(built)
    question = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1], read_only=True);"
        "print(duckdb.__version__[:3],"
        " connection.execute('select sum(price_per_mwh) from marts.fct_statements').fetchall())"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", question, built.published / "finance.duckdb"],
        env={"PYTHONPATH": str(OLD_CLIENT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "1.4 [(Decimal('90.5'),)]\n"
