"""Certificates as they are assigned, for any bundles and any consumption.

The rules are tested with figures beside each model; here the models themselves run on what
Hypothesis thinks of.
"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import lake, warehouse
from pipelines.book import Book
from pipelines.simulator.landing import declare

pytestmark = pytest.mark.slow

MODELS = (
    "int_certificate_claims",
    "int_certificate_hours",
    "int_certificate_months",
    "fct_certificate_assignments",
)
# Two months and two years meet in Berlin at 22:00Z and 23:00Z.
HOURS = [
    datetime(2026, 5, 31, 10, tzinfo=UTC),
    datetime(2026, 6, 30, 20, tzinfo=UTC),
    datetime(2026, 6, 30, 21, tzinfo=UTC),
    datetime(2026, 6, 30, 22, tzinfo=UTC),
    datetime(2026, 12, 31, 22, tzinfo=UTC),
    datetime(2026, 12, 31, 23, tzinfo=UTC),
]
LOCAL_MONTHS = [
    date(2026, 5, 1),
    date(2026, 6, 1),
    date(2026, 6, 1),
    date(2026, 7, 1),
    date(2026, 12, 1),
    date(2027, 1, 1),
]
PERIODS = [
    *((hour, hour + timedelta(hours=1)) for hour in HOURS),
    (datetime(2026, 5, 31, 22, tzinfo=UTC), datetime(2026, 6, 30, 22, tzinfo=UTC)),
    (datetime(2026, 6, 30, 22, tzinfo=UTC), datetime(2026, 7, 31, 22, tzinfo=UTC)),
    (datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC)),
]
SITES = ("a", "b")
PART = 1e-6
"""Each part is rounded to this."""


RAW = {
    "sites": "select 'DE-LU' as bidding_zone, 'DE' as carbon_zone, 'Europe/Berlin' as time_zone",
    "organization": "select 'life_cycle' as emission_factor_basis",
    "contracts": """
        select 'PLANT' as plant_meter_id, true as are_certificates_bundled,
            null::timestamptz as valid_from_at, null::timestamptz as valid_to_at
    """,
    "emission_factors": """
        select 'production_type' as kind, 'wind' as energy_source, basis, value_g_per_kwh,
            false as is_marginal, null::timestamptz as valid_from_at,
            null::timestamptz as valid_to_at
        from (values ('direct', 0.0), ('life_cycle', 11.0)) as f (basis, value_g_per_kwh)
    """,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Models"]:
    """The models' SQL, and a warehouse of nothing else but what they read."""
    book = Book(tmp_path_factory.mktemp("certificates") / "data")
    declare(book)
    lake.write_reference_tables(book)
    lake_dir = ["--vars", json.dumps({"lake_dir": str(book.lake.resolve())})]
    chosen = ["--select", "+fct_certificate_assignments"]
    built = warehouse.invoke_dbt(book, book.warehouse, ["run", *chosen, *lake_dir])
    assert built.success
    compiled = warehouse.invoke_dbt(
        book, book.warehouse, ["compile", "--full-refresh", *chosen, *lake_dir]
    )
    assert compiled.success
    sql = {result.node.name: result.node.compiled_code for result in compiled.result.results}
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        yield Models(connection, sql)


class Models:
    """Runs the models on given consumption and bundles."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
        self.connection, self.sql = connection, sql

    def run(self, consumption: list[tuple], bundles: list[tuple]) -> None:
        execute = self.connection.execute
        for name, rows in RAW.items():
            execute(f"create or replace view raw.{name} as {rows}")
        execute("delete from intermediate.int_clean_volumes")
        execute("delete from staging.stg_certificates")
        if consumption:
            self.connection.executemany(
                "insert into intermediate.int_clean_volumes by name select ? as site_id,"
                " ?::timestamptz as interval_started_at, utc_date.d as utc_date,"
                " ?::date as local_month, 'DE' as carbon_zone, ?::double as grid_import_kwh,"
                " ?::double as clean_kwh, 0 as clean_g from (select ?::date as d) as utc_date",
                consumption,
            )
        if bundles:
            self.connection.executemany(
                "insert into staging.stg_certificates by name select ? as certificate_id,"
                " 'UBA' as issuing_body, ? as issuance_id, ? as device_id,"
                " ?::bigint as first_certificate, ?::bigint as last_certificate,"
                " 'wind' as energy_source, 'DE-LU' as market_zone,"
                " ?::timestamptz as production_started_at, ?::timestamptz as production_ended_at,"
                " ? as status, ?::double as energy_kwh, ?::timestamptz as first_known_at",
                bundles,
            )
        for name in MODELS:
            schema = "marts" if name.startswith("fct_") else "intermediate"
            execute(f"create or replace table {schema}.{name} as {self.sql[name]}")

    def rows(self, sql: str) -> list[tuple]:
        return self.connection.execute(sql).fetchall()


def kwh(most: int) -> st.SearchStrategy[float]:
    return st.integers(0, most * 1000).map(lambda wh: wh / 1000)


@st.composite
def consumptions(draw: st.DrawFn) -> list[tuple]:
    """Import and clean contract volume of each site and hour; either may not have been read."""
    return [
        (
            site,
            hour,
            month,
            draw(st.none() | kwh(100)),
            draw(st.sampled_from([0.0, 0.0, None]) | kwh(120)),
            hour.date(),
        )
        for hour, month in zip(HOURS, LOCAL_MONTHS, strict=True)
        for site in SITES
    ]


@st.composite
def bundle(draw: st.DrawFn, number: int) -> tuple:
    """A bundle of few certificates, so that many are of the same device, hour and numbers."""
    started_at, ended_at = draw(st.sampled_from(PERIODS))
    first, count = draw(st.integers(0, 20)), draw(st.integers(1, 30))
    device = draw(st.sampled_from(["WIND-1", "WIND-2", None, "PLANT"]))
    status = draw(st.sampled_from(["active", "active", "claimed", "cancelled", "withdrawn"]))
    issuance = draw(st.sampled_from(["1", "2"]))
    known_at = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=draw(st.integers(0, 2)))
    last, energy = first + count - 1, float(count * draw(st.sampled_from([1, 7, 40])))
    return (
        f"{number}", issuance, device, first, last, started_at, ended_at, status, energy, known_at
    )  # fmt: skip


BUNDLES = st.integers(0, 12).flatmap(
    lambda count: st.tuples(*(bundle(number) for number in range(count))).map(list)
)


@settings(max_examples=60, deadline=None)
@given(consumption=consumptions(), bundles=BUNDLES)
def test_nothing_is_assigned_twice_nor_beyond_what_was_consumed(models, consumption, bundles):
    models.run(consumption, bundles)

    # Each bundle stands whole in the mart, in one way or another.
    parts = dict(
        models.rows(
            "select certificate_id, sum(bundle_kwh) from marts.fct_certificate_assignments"
            " group by all"
        )
    )
    assert parts == pytest.approx(
        {row[0]: row[8] for row in bundles}, abs=PART * 10 + 1e-5 + PART * len(SITES) * 6
    )

    # Of bundles that share a certificate at most one is counted.
    assert (
        models.rows(
            """
            select one.certificate_id, other.certificate_id
            from intermediate.int_certificate_claims as one
            join intermediate.int_certificate_claims as other
                on one.certificate_id < other.certificate_id
                and one.production_started_at = other.production_started_at
                and (one.device_id = other.device_id or one.issuance_id = other.issuance_id)
            join staging.stg_certificates as a on one.certificate_id = a.certificate_id
            join staging.stg_certificates as b on other.certificate_id = b.certificate_id
            where one.refusal is null and other.refusal is null
                and a.first_certificate <= b.last_certificate
                and b.first_certificate <= a.last_certificate
            """
        )
        == []
    )

    known = [row for row in consumption if row[3] is not None and row[4] is not None]
    by_hour = {
        row[:2]: row[2]
        for row in models.rows(
            "select site_id, hour_started_at, sum(bundle_kwh)"
            " from marts.fct_certificate_assignments where covers = 'hour' group by all"
        )
    }
    need = {(site, hour): max(0.0, used - clean) for site, hour, _, used, clean, _ in known}
    for key, assigned in by_hour.items():
        assert assigned <= need[key] + PART * len(bundles) + PART

    by_month = {
        row[:2]: row[2]
        for row in models.rows(
            "select site_id, local_month, sum(bundle_kwh)"
            " from marts.fct_certificate_assignments"
            " where assignment_status = 'assigned' group by all"
        )
    }
    for (site, month), assigned in by_month.items():
        used = sum(row[3] for row in known if row[0] == site and row[2] == month)
        assert assigned <= used + PART * 4 * (len(bundles) + 1)


@settings(max_examples=30, deadline=None)
@given(consumption=consumptions(), bundles=BUNDLES)
def test_an_hours_certificates_serve_all_that_is_needed_before_any_are_left(
    models, consumption, bundles
):
    models.run(consumption, bundles)
    wrong = models.rows(
        """
        with pools as (
            select hour_started_at, sum(energy_kwh) as pool_kwh
            from intermediate.int_certificate_claims
            where granularity = 'hour' and refusal is null group by all
        )
        select hour_started_at, sum(certificate_kwh) as used_kwh,
            sum(greatest(0, import_kwh - clean_kwh)) as need_kwh,
            any_value(pools.pool_kwh) as held_kwh
        from intermediate.int_certificate_hours
        left join pools using (hour_started_at)
        group by all
        having abs(used_kwh - least(need_kwh, coalesce(held_kwh, 0))) > 1e-5
        """
    )
    assert wrong == []


def test_months_that_are_built_again_draw_on_what_those_before_left(models):
    consumption = [
        (site, hour, month, used, 0.0, hour.date())
        for hour, month, used in zip(HOURS, LOCAL_MONTHS, (60.0, 20, 20, 70, 90, 50), strict=True)
        for site in SITES
    ]
    year = ("y", "1", "HYDRO", 0, 0, *PERIODS[-1], "active", 333.333, HOURS[0])
    hour = ("h", "2", "WIND-1", 0, 0, *PERIODS[3], "active", 50.0, HOURS[0])
    models.run(consumption, [year, hour])
    columns = "site_id, local_month, hourly_kwh, monthly_kwh, round(yearly_kwh, 4), certificate_g"
    whole = models.rows(f"select {columns} from intermediate.int_certificate_months order by all")
    assert [row[:5] for row in whole] == [
        ("a", date(2026, 5, 1), 0.0, 0.0, 60.0),
        ("a", date(2026, 6, 1), 0.0, 0.0, 40.0),
        ("a", date(2026, 7, 1), 25.0, 0.0, 45.0),
        ("a", date(2026, 12, 1), 0.0, 0.0, 21.6665),
        ("a", date(2027, 1, 1), 0.0, 0.0, 0.0),
        ("b", date(2026, 5, 1), 0.0, 0.0, 60.0),
        ("b", date(2026, 6, 1), 0.0, 0.0, 40.0),
        ("b", date(2026, 7, 1), 25.0, 0.0, 45.0),
        ("b", date(2026, 12, 1), 0.0, 0.0, 21.6665),
        ("b", date(2027, 1, 1), 0.0, 0.0, 0.0),
    ]
    for touched in (date(2026, 12, 31), date(2026, 7, 15), date(2026, 6, 2)):
        rebuild(models, touched)
        assert (
            models.rows(f"select {columns} from intermediate.int_certificate_months order by all")
            == whole
        )


def rebuild(models: Models, touched: date) -> None:
    """Build the months again as a run does to which a day of data has come."""
    [(path,)] = models.rows("select path from duckdb_databases() where path is not null")
    file = Path(path)
    models.connection.close()
    book = Book(file.parent)
    variables = warehouse.Plan(book, file, (touched,)).dbt_vars
    answer = warehouse.invoke_dbt(
        book,
        file,
        ["run", "--select", "int_certificate_months", "--vars", json.dumps(variables)],
    )
    assert answer.success, answer.exception
    models.connection = duckdb.connect(str(file))
    models.connection.execute("set timezone = 'UTC'")
