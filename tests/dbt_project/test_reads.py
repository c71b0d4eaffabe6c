"""What the models read when a day is built, on the demo: a day must cost a day."""

import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from pipelines import warehouse
from pipelines.book import Book
from pipelines.simulator.landing import declare

LOOK_BACK = timedelta(days=65)
"""A build goes from the last day of the month before on, and looks up to a month before that."""
DAYS = ("utc_date", "local_date", "interval_started_at", "hour_started_at")
"""Columns that tell of which day a row is, the first that a table has."""
A_YEAR = "a measure of the contract's year or of the twelve months before"
OWN_SUMS = "its own sums of the days before"
OF_INCIDENTS = "a row per incident and interval"
OF_DAYS = "a row per workload, site and day"
OF_CLOUDS = "a row per workload and hour of a cloud's bill"
READ_WHOLE = {
    ("int_demand_peaks", "int_site_intervals"): A_YEAR,
    ("int_demand_peaks", "int_meter_roles_pivoted"): A_YEAR,
    ("int_tolling_settlements", "int_battery_intervals"): A_YEAR,
    ("int_ppa_settlements", "int_contract_volumes"): A_YEAR,
    ("fct_battery_ledger", "fct_battery_ledger"): "what the last interval left in each battery",
    ("int_certificate_hours", "int_certificate_claims"): "a row per certificate",
    ("int_certificate_months", "int_certificate_claims"): "a row per certificate",
    ("int_certificate_months", "int_certificate_months"): "a row per month",
    ("int_grid_carbon", "int_certificate_months"): "a row per month",
    ("fct_data_quality", "fct_data_quality"): OWN_SUMS,
    ("fct_workload_energy", "fct_workload_energy"): OWN_SUMS,
    ("fct_workload_energy", "calc_incident_losses"): OF_INCIDENTS,
    ("fct_workload_energy", "int_cloud_workload_hours"): OF_CLOUDS,
    ("fct_workload_segments", "calc_incident_losses"): OF_INCIDENTS,
    ("fct_workload_segments", "int_cloud_workload_hours"): OF_CLOUDS,
    ("kpi_site_daily", "kpi_site_daily"): OWN_SUMS,
    ("kpi_site_daily", "fct_all_in_costs"): OF_DAYS,
    ("kpi_site_daily", "calc_incident_intervals"): OF_INCIDENTS,
    ("kpi_site_weekly", "fct_all_in_costs"): OF_DAYS,
    ("kpi_site_weekly", "calc_incident_intervals"): OF_INCIDENTS,
    ("kpi_organization_weekly", "fct_all_in_costs"): OF_DAYS,
    ("kpi_organization_weekly", "calc_incident_intervals"): OF_INCIDENTS,
}
"""Models, and tables of days of which they read more, and why."""


@pytest.fixture(scope="module")
def scans(demo_book: Book, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, int]]:
    """Model, table, and rows that come out of the scan of it, as the last day is built again."""
    book = Book(tmp_path_factory.mktemp("reads"))
    declare(book)
    shutil.copyfile(demo_book.warehouse, book.warehouse)
    last = max(warehouse.touched_dates(demo_book))
    told = json.dumps(warehouse.Plan(demo_book, book.warehouse, (last,)).dbt_vars)
    answer = warehouse.invoke_dbt(book, book.warehouse, ["compile", "--vars", told])
    assert answer.success
    found = []
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        for result in answer.result.results:
            node = result.node
            if node.resource_type == "model" and node.config.materialized == "incremental":
                query = f"explain (analyze, format json) {node.compiled_code}"
                [(_, profile)] = connection.execute(query).fetchall()
                found += [(node.name, *scan) for scan in scans_of(json.loads(profile)["operator"])]
    return found


def scans_of(operators: list[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """Table and rows that come out of each scan of a query profile."""
    for operator in operators:
        if operator["type"] == "TABLE_SCAN" and "Table" in operator["extra_info"]:
            table = operator["extra_info"]["Table"]
            yield table.split(".")[-1].strip('"'), operator["intermediate_rows"]
        yield from scans_of(operator.get("children", []))


def recent_rows(book: Book, day: date) -> dict[str, tuple[int, int]]:
    """Per table of days: rows of the days that a build may look back on, and all rows."""
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        tables = connection.execute(
            "select schema_name, table_name, list(column_name) from duckdb_columns()"
            " where table_name in (select table_name from duckdb_tables()) and schema_name <> 'raw'"
            " group by all"
        ).fetchall()
        first = day - LOOK_BACK
        return {
            table: connection.execute(
                f"select count(*) filter (where {of_day} >= ?), count(*) from {schema}.{table}",
                [first],
            ).fetchall()[0]
            for schema, table, columns in tables
            for of_day in [name for name in DAYS if name in columns][:1]
        }


def test_a_day_is_built_without_reading_the_history(scans, demo_book):
    rows = recent_rows(demo_book, max(warehouse.touched_dates(demo_book)))
    assert len({model for model, _, _ in scans}) > 35
    assert {table for _, table, _ in scans} > {"fct_energy_balance", "int_workload_intervals"}
    assert {
        (model, table): f"{read} of {rows[table][1]} rows, {rows[table][0]} of late"
        for model, table, read in scans
        if table in rows and read > rows[table][0] and (model, table) not in READ_WHOLE
    } == {}
