"""The dbt project as a whole: what it declares is what the lake holds and what its models give.

The arithmetic itself is tested beside each model, in the unit tests that the first test here runs.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml
from dagster_dbt import DagsterDbtTranslator

# What `fetch_column_metadata` calls, for which there is no public name.
from dagster_dbt.core import dbt_cli_event
from sqlglot import MappingSchema
from sqlglot.lineage import Node
from sqlglot.lineage import lineage as lineage_of_query

from pipelines import lake, reference, warehouse
from pipelines.book import Book
from pipelines.lake import records, rollup
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.landing import DEMO_REFERENCE
from tests.dbt_project.conftest import lake_vars

SQL_TYPES = {
    pl.String(): "varchar",
    pl.Int64(): "bigint",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Date(): "date",
    pl.Datetime("us", "UTC"): "timestamptz",
    pl.List(pl.String()): "varchar[]",
    pl.List(pl.Date()): "date[]",
    pl.List(pl.Float64()): "double[]",
    pl.List(pl.Datetime("us", "UTC")): "timestamptz[]",
    pl.List(pl.Struct(records.DATA_FILE_SCHEMA)): (
        "struct(file varchar, row_count bigint, file_bytes bigint, sha256 varchar)[]"
    ),
}
UNITS = (
    *("_w", "_kw", "_mw", "_kwh", "_mwh", "_ratio", "_g", "_kg", "_per_kwh", "_per_mwh"),
    *("_s", "_minutes", "_hours", "_gpu_hour", "_node_hour", "_per_kw", "_count", "_interruptions"),
)
MONEY = ("amount", "cost", "costs", "price", "value")
MONEY_WORDS = re.compile(
    "(cost|price|value|charge|saving|penalt|drift)(?!_(kwh|from|market|loc|hour|carbon|cov))"
)
# The organization's own, or none.
OF_NO_CONTRACT = {
    *("variable_cost_per_gpu_hour", "value_per_lost_gpu_hour", "target_value"),
    *("lost_value", "power_limit_lost_value"),
    *("expected_energy_cost_per_gpu_hour", "is_shadow_price", "has_public_prices"),
    *("marginal_cost_coverage_ratio", "price_market", "price_sequence", "fixed_price_payer"),
    *("negative_price_clause", "negative_price_period_minutes", "negative_price_hours"),
    "negative_price_scope",
}
# A quantity has its unit beside it.
ORDINALS = (
    *("price_sequence", "severity", "rank", "statement_line_number", "invoice_line_number"),
    *("quantity", "reported_quantity", "invoiced_quantity", "settled_quantity", "found_quantity"),
    *("expected_change", "measured_change"),
)
WITHOUT_ORIGIN = {
    ("fct_energy_constraint_incidents", "penalty_cost"): "no kind of contract has one",
    ("fct_energy_constraint_incidents", "signals"): "names that the models give",
    ("fct_energy_constraint_incidents", "primary_cause"): "one of those names",
    ("fct_energy_constraint_incidents", "layer"): "follows from the name",
    ("fct_contract_settlements", "quantity_unit"): "follows from the line",
    ("fct_contract_statements", "quantity_unit"): "follows from the line",
    ("fct_invoice_differences", "settled_quantity_unit"): "follows from the line",
    (
        "fct_certificate_assignments",
        "assignment_status",
    ): "follows from which part of a bundle the row is",
    ("fct_certificate_assignments", "covers"): "likewise",
    **{
        ("fct_data_centre_reports", column): "follows from the field of the regulation"
        for column in (
            "field_id",
            "annex_reference",
            "field_name",
            "reported_quantity_unit",
            "field_source",
        )
    },
    **{
        ("fct_findings", column): "follows from the rule"
        for column in ("is_withheld", "found_quantity_unit", "mend", "source_table")
    },
    ("fct_findings", "occurrence_count"): "rows of a rule counted",
    ("fct_data_quality", "finding_count"): "likewise",
    ("kpi_gaps", "input_id"): "names that the project gives",
    ("kpi_gaps", "kpi_id"): "likewise",
    ("kpi_gaps", "kpi_name"): "likewise",
    ("kpi_gaps", "comes_from"): "follows from the name",
    ("fct_supply_waterfall", "layer"): "follows from the kind of source",
    ("fct_supply_waterfall", "source_kind"): "follows from which table the source is of",
}
"""Columns of marts that stand for no column of a raw table, and why."""

# One process builds the empty book, for all that read it.
pytestmark = pytest.mark.xdist_group("dbt_project")

Column = tuple[str, str]
"""A table, with `raw.` before that of a source, and one of its columns."""


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of the manifest by name."""
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }


@pytest.fixture(scope="module")
def lineage(
    empty_book: Book, manifest: dict[str, Any], models: dict[str, dict[str, Any]]
) -> dict[Column, set[Column]]:
    """What each column of a model is made of, as the Dagster UI shows it."""
    types: dict[str, dict[str, dict[str, str]]] = {}
    with duckdb.connect(str(empty_book.warehouse), read_only=True) as connection:
        for *names, column, kind in connection.execute(
            "select table_catalog, table_schema, table_name, column_name, data_type"
            " from information_schema.columns"
        ).fetchall():
            relation = ".".join(f'"{name}"' for name in names)
            types.setdefault(relation, {})[column] = {"data_type": kind}

    @lru_cache(maxsize=1)
    def of_all_columns(sql: str, schema: MappingSchema, dialect: str) -> dict[str, Node]:
        return lineage_of_query(None, sql, schema=schema, dialect=dialect, trim_selects=False)

    found: dict[Column, set[Column]] = {}
    with pytest.MonkeyPatch.context() as patch:
        # Dagster follows one column after the other and reads the query anew for each.
        patch.setattr(
            dbt_cli_event,
            "lineage",
            lambda column, sql, schema, dialect: of_all_columns(sql, schema, dialect)[column],
        )
        for name, model in models.items():
            parents = [
                (manifest["nodes"] | manifest["sources"])[parent]["relation_name"]
                for parent in model["depends_on"]["nodes"]
            ]
            metadata = dbt_cli_event._build_column_lineage_metadata(
                dbt_cli_event.EventHistoryMetadata(
                    columns=types[model["relation_name"]],
                    parents={parent: types[parent] for parent in parents},
                ),
                model,
                manifest,
                DagsterDbtTranslator(),
                warehouse.dbt_dir(empty_book) / "target",
                None,
            )
            for column, parts in metadata["dagster/column_lineage"].deps_by_column.items():
                found[name, column] = {
                    (
                        part.asset_key.path[-1]
                        if part.asset_key.path[0] != "raw"
                        else ".".join(part.asset_key.path),
                        part.column_name,
                    )
                    for part in parts
                }
    return found


@pytest.fixture(scope="module")
def columns(empty_book: Book) -> dict[str, dict[str, str]]:
    """Type by column name of every table dbt made."""
    with duckdb.connect(str(empty_book.warehouse), read_only=True) as connection:
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(
            "select table_name, column_name, data_type from information_schema.columns"
            " where table_schema in ('staging', 'intermediate', 'calculations', 'marts')"
        ).fetchall():
            found.setdefault(table, {})[column] = kind
    return found


def lake_schemas() -> dict[str, pl.Schema]:
    """Schema of every table of the lake, as the code that writes it declares it."""
    flat = reference.flatten(reference.load(DEMO_REFERENCE))
    return {
        **{
            name: pl.Schema({column: kind.dtype for column, kind in table.schema.columns().items()})
            for name, table in RAW_TABLES.items()
        },
        # Mappings are for those who read files, no model asks for them.
        **{name: frame.schema for name, frame in flat.items() if name != "mappings"},
        "raw_loads": pl.Schema(lake.LOAD_RECORD_SCHEMA),
        "job_nodes": pl.Schema(lake.JOB_NODES_SCHEMA),
        "undeclared_names": pl.Schema(lake.UNDECLARED_SCHEMA),
        # The view reads the date in the name of the file.
        **{
            name: pl.Schema({**schema, "utc_date": pl.Date})
            for name, schema in rollup.ROLL_UPS.items()
        },
    }


def origins(lineage: dict[Column, set[Column]], column: Column) -> set[Column]:
    """The columns of raw tables that a column is made of, through all models between."""
    seen = {column}
    waiting = [column]
    while waiting:
        new = lineage.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return {part for part in seen if part[0].startswith("raw.")}


def mart_columns(columns: dict[str, dict[str, str]]) -> Iterator[tuple[str, str, str]]:
    for table, kinds in columns.items():
        if table.startswith(("dim_", "fct_", "kpi_")):
            yield from ((table, column, kind) for column, kind in kinds.items())


def test_a_book_without_any_file_builds_and_passes_every_unit_test(empty_book):
    with duckdb.connect(str(empty_book.warehouse), read_only=True) as connection:
        assert connection.execute("select count(*) from marts.fct_energy_balance").fetchall() == [
            (0,)
        ]


def test_the_reporting_currency_is_worth_one_on_every_day_of_the_century(empty_book):
    with duckdb.connect(str(empty_book.warehouse), read_only=True) as connection:
        found = connection.execute(
            "select min(rate_date), max(rate_date), count(distinct rate_date), count(*)"
            " from staging.stg_fx_rates where currency_code = 'EUR' and rate_to_reporting = 1"
        ).fetchall()
    assert found == [(date(2000, 1, 1), date(2099, 12, 31), 36_525, 36_525)]


def test_every_table_declares_constraints_and_they_are_tested(manifest, models):
    tested = {
        node["attached_node"]
        for node in manifest["nodes"].values()
        if (node.get("test_metadata") or {}).get("name") == "constraints"
    }
    of_models = {
        name: [one["type"] for one in model["constraints"]] for name, model in models.items()
    }
    of_columns = {
        name: [one["type"] for column in model["columns"].values() for one in column["constraints"]]
        for name, model in models.items()
    }
    tables = {name for name, model in models.items() if model["config"]["materialized"] != "view"}
    assert len(tables) > 100
    assert {name for name in tables if not of_models[name] + of_columns[name]} == set()
    assert {name for name in tables if models[name]["unique_id"] not in tested} == set()
    # What the test looks for: of others it would say nothing.
    assert {kind for kinds in of_models.values() for kind in kinds} == {"primary_key", "unique"}
    assert {kind for kinds in of_columns.values() for kind in kinds} == {"not_null", "check"}


@pytest.mark.slow
def test_a_book_without_any_file_passes_every_data_test(empty_book):
    answer = warehouse.invoke_dbt(
        empty_book,
        empty_book.warehouse,
        ["test", "--select", "test_type:data", "--vars", lake_vars(empty_book)],
    )
    tests = [result for result in answer.result.results if result.node.resource_type == "test"]
    assert tests
    assert answer.success
    assert [(result.node.name, result.message) for result in tests if result.status != "pass"] == []


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


def test_no_line_of_a_yml_is_too_long_to_read():
    assert [
        f"{file.relative_to(warehouse.PROJECT_DIR)}:{number}: {len(line)} characters, at most 120"
        for file in sorted(warehouse.PROJECT_DIR.glob("models/**/*.yml"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if len(line) > 120
    ] == []


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


def test_a_column_name_has_one_description_over_all_marts(models):
    described: dict[str, dict[str, list[str]]] = {}
    for name, model in models.items():
        if model["schema"] == "marts":
            for column, about in model["columns"].items():
                text = " ".join(about["description"].split())
                described.setdefault(column, {}).setdefault(text, []).append(name)
    assert {column: texts for column, texts in described.items() if len(texts) > 1} == {}


def test_a_model_that_is_built_whole_every_day_says_why_that_does(models):
    built_whole = {
        name
        for name, model in models.items()
        if model["config"]["materialized"] not in ("incremental", "view")
    }
    says_so = {name for name, model in models.items() if model["config"]["meta"].get("built_whole")}
    assert built_whole == says_so


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
        for table, column, kind in mart_columns(columns)
        if kind != "BOOLEAN"
        and column.rsplit("_", 1)[-1] in MONEY
        and "currency_code" not in columns[table]
    }
    assert without == set()


def test_contract_prices_are_for_finance_and_energy_alone(models):
    for table, column in (
        *(
            ("dim_contracts", f"{kind}_price_per_mwh")
            for kind in ("contract", "floor", "cap", "certificate", "shortfall", "excess")
        ),
        ("dim_contracts", "price_per_node_hour"),
    ):
        audience = models[table]["columns"][column]["config"]["meta"]["audience"]
        assert sorted(audience) == ["energy", "finance"]


def test_every_amount_that_operations_sees_is_confidential_or_rests_on_no_contract(models):
    """Whoever adds one says how it is shown where contract prices are not for the reader."""
    without = [
        (table, name)
        for table, model in models.items()
        if "operations" in model["config"]["meta"].get("audience", ())
        for name, column in model["columns"].items()
        if MONEY_WORDS.search(name)
        and "operations" in column["config"]["meta"].get("audience", ["operations"])
        and "confidential" not in column["config"]["meta"]
        and name not in OF_NO_CONTRACT
    ]

    assert without == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "among_its_origins"),
    [
        (
            ("kpi_site_weekly", "pue_ratio"),
            {("raw.meter_readings", "quantity"), ("raw.meters", "multiplier")},
        ),
        (
            ("kpi_site_weekly", "coverage_ratio"),
            {("raw.meter_readings", "quantity"), ("raw.organization", "time_zone")},
        ),
        (
            ("kpi_site_weekly", "mean_availability_ratio"),
            {
                ("raw.capacity_plan", "committed_it_mw"),
                ("raw.grid_events", "import_limit_kw"),
                ("raw.battery_samples", "available_discharge_kw"),
            },
        ),
        (
            ("kpi_site_weekly", "location_based_g_per_kwh"),
            {("raw.grid_carbon", "direct_g_per_kwh"), ("raw.meter_readings", "quantity")},
        ),
        (
            ("kpi_site_weekly", "mean_marginal_cost_per_gpu_hour"),
            {("raw.market_prices", "price_per_mwh"), ("raw.cloud_charges", "effective_cost")},
        ),
        (
            ("kpi_organization_weekly", "incident_minutes"),
            {("raw.meter_readings", "interval_started_at")},
        ),
        (
            ("fct_marginal_cost", "marginal_price_per_mwh"),
            {
                ("raw.market_prices", "price_per_mwh"),
                ("raw.grid_connections", "network_per_mwh"),
                ("raw.batteries", "degradation_cost_per_mwh"),
                ("raw.fx_rates", "rate_to_reporting"),
            },
        ),
        (
            ("fct_contract_settlements", "amount"),
            {
                ("raw.contracts", "price_per_mwh"),
                ("raw.market_prices", "price_per_mwh"),
                ("raw.meter_readings", "quantity"),
                ("raw.fx_rates", "rate_to_reporting"),
            },
        ),
        (
            ("fct_invoice_differences", "difference_amount"),
            {
                ("raw.invoices", "amount"),
                ("raw.contracts", "price_per_mwh"),
                ("raw.meter_readings", "quantity"),
            },
        ),
        (
            ("fct_data_quality", "quarantined_row_count"),
            {("raw.raw_loads", "quarantined_row_count")},
        ),
    ],
)
def test_a_figure_can_be_followed_back_to_what_was_loaded(lineage, column, among_its_origins):
    assert among_its_origins <= origins(lineage, column)


@pytest.mark.slow
def test_every_column_of_a_mart_comes_from_a_column_of_a_raw_table(lineage, columns):
    without = {
        (table, column)
        for table, column, _ in mart_columns(columns)
        if not origins(lineage, (table, column))
    }
    assert without == set(WITHOUT_ORIGIN)


@pytest.mark.slow
def test_a_day_without_exchange_rate_is_a_finding_and_stops_nothing(book):
    lake.write_reference_tables(book)
    at = datetime(2027, 2, 1, 6, tzinfo=UTC)
    price = {
        "zone": "HB_NORTH",
        "market": "real_time",
        "sequence": 1,
        "interval_started_at": at,
        "interval_ended_at": at + timedelta(minutes=15),
        "price_per_mwh": 30.0,
        "currency_code": "USD",
        "known_at": at,
        "load_id": "a",
        "source_file": "prices_csv/a.csv",
        "source_row": 0,
    }
    folder = book.lake / "market_prices"
    folder.mkdir(parents=True)
    pl.DataFrame([price], schema=lake_schemas()["market_prices"]).write_parquet(
        folder / "a.parquet"
    )

    answer = warehouse.invoke_dbt(
        book, book.warehouse, ["run", "--select", "+int_price_findings", "--vars", lake_vars(book)]
    )

    assert answer.success, answer.exception
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        assert connection.execute(
            "select rule_id, site_id, subject_id, utc_date from intermediate.int_price_findings"
        ).fetchall() == [("fx_rate_missing", None, "USD", at.date())]
