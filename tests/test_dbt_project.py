"""The dbt project as a whole: what it declares is what the lake holds and what its models give.

The arithmetic itself is tested beside each model, in the unit tests that the first test here runs.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml

from pipelines import lake, reference, rollup, warehouse
from pipelines.schemas import RAW_TABLES
from pipelines.settings import Book

SQL_TYPES = {
    pl.String(): "varchar",
    pl.Int64(): "bigint",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Date(): "date",
    pl.Datetime("us", "UTC"): "timestamptz",
    pl.List(pl.String()): "varchar[]",
    pl.List(pl.Date()): "date[]",
}
UNITS = (
    *("_w", "_kw", "_mw", "_kwh", "_mwh", "_ratio", "_g", "_kg", "_per_kwh", "_per_mwh"),
    *("_s", "_minutes", "_hours", "_gpu_hour", "_node_hour", "_per_kw", "_count", "_interruptions"),
)
MONEY = ("amount", "cost", "costs", "penalties", "value")
ORDINALS = ("price_sequence", "severity", "rank")


@pytest.fixture(scope="module")
def empty_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A book that was built before any file came, with every dbt test."""
    book = Book(tmp_path_factory.mktemp("empty") / "data")
    reference.write_tables(book)
    answer = warehouse.invoke_dbt(
        book,
        book.warehouse,
        ["build", "--vars", json.dumps({"lake_dir": str(book.lake.resolve())})],
    )
    assert answer.success, [
        f"{result.node.name}: {result.message}"
        for result in answer.result.results
        if result.status not in ("success", "pass")
    ]
    return book


@pytest.fixture(scope="module")
def models(empty_book: Book) -> dict[str, dict[str, Any]]:
    """The models of the manifest by name."""
    manifest = json.loads(warehouse.manifest_path(empty_book).read_text())
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }


@pytest.fixture(scope="module")
def columns(empty_book: Book) -> dict[str, dict[str, str]]:
    """Type by column name of every table dbt made."""
    with duckdb.connect(str(empty_book.warehouse), read_only=True) as connection:
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(
            "select table_name, column_name, data_type from information_schema.columns"
            " where table_schema in ('staging', 'intermediate', 'marts')"
        ).fetchall():
            found.setdefault(table, {})[column] = kind
    return found


def lake_schemas() -> dict[str, pl.Schema]:
    """Schema of every table of the lake, as the code that writes it declares it."""
    flat = reference.flatten(reference.load(Book(Path("nowhere")).reference))
    return {
        **{
            name: pl.Schema({column: kind.dtype for column, kind in table.schema.columns().items()})
            for name, table in RAW_TABLES.items()
        },
        **{name: frame.schema for name, frame in flat.items()},
        "raw_loads": pl.Schema(lake.LOAD_RECORD_SCHEMA),
        "job_nodes": pl.Schema(lake.JOB_NODES_SCHEMA),
        "gpu_intervals": rollup.GPU_INTERVALS,
        "node_intervals": rollup.NODE_INTERVALS,
    }


def mart_columns(columns: dict[str, dict[str, str]]) -> Iterator[tuple[str, str, str]]:
    for table, kinds in columns.items():
        if table.startswith(("dim_", "fct_", "kpi_")):
            yield from ((table, column, kind) for column, kind in kinds.items())


def test_a_book_without_any_file_builds_and_passes_every_unit_test(empty_book):
    with duckdb.connect(str(empty_book.warehouse), read_only=True) as connection:
        assert connection.execute("select count(*) from marts.fct_energy_balance").fetchall() == [
            (0,)
        ]


def test_sources_declare_the_tables_and_columns_of_the_lake():
    text = (warehouse.PROJECT_DIR / "models" / "sources.yml").read_text()
    [source] = yaml.safe_load(text)["sources"]
    declared = {
        table["name"]: {column["name"]: column["data_type"] for column in table["columns"]}
        for table in source["tables"]
        if "config" in table
    }
    written = {
        name: {column: SQL_TYPES[kind] for column, kind in schema.items()}
        for name, schema in lake_schemas().items()
    }
    assert declared == written


def test_every_model_says_its_grain(models):
    assert [
        name for name, model in models.items() if "one row per" not in model["description"].lower()
    ] == []


def test_every_column_is_described_and_every_described_column_is_there(models, columns):
    described = {
        name: {column for column, about in model["columns"].items() if about["description"]}
        for name, model in models.items()
    }
    differing = {
        name: described[name] ^ set(columns[name])
        for name in models
        if described[name] != set(columns[name])
    }
    assert differing == {}


def test_every_mart_names_its_audience(models):
    assert [
        name
        for name, model in models.items()
        if model["schema"] == "marts" and not model["config"]["meta"].get("audience")
    ] == []


def test_every_measured_column_of_a_mart_ends_in_its_unit(columns):
    without = [
        f"{table}.{column}"
        for table, column, kind in mart_columns(columns)
        if kind in ("DOUBLE", "BIGINT", "INTEGER", "DECIMAL", "HUGEINT")
        and not column.removesuffix("_sensitive").removesuffix("_tolerant").endswith(UNITS)
        and column not in ORDINALS
        and column.rsplit("_", 1)[-1] not in MONEY
    ]
    assert without == [], without


def test_every_mart_with_money_names_its_currency(columns):
    without = {
        table
        for table, column, _ in mart_columns(columns)
        if column.rsplit("_", 1)[-1] in MONEY and "currency_code" not in columns[table]
    }
    assert without == set()


def test_contract_prices_are_for_finance_and_energy_alone(models):
    for table, column in (
        ("dim_contracts", "contract_price_per_mwh"),
        ("dim_contracts", "price_per_node_hour"),
    ):
        audience = models[table]["columns"][column]["config"]["meta"]["audience"]
        assert sorted(audience) == ["energy", "finance"]
