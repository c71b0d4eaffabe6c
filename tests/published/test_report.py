"""Data-centre reports: what is printed and written is what the published fields say."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.book import Book
from pipelines.cli import app
from pipelines.published import query, report

FIELDS = """
    select * from (values
        ('name', 'I.1(a)', 'Name', null, null, 'Hall <1> & 2', 'reference/sites: name', 1.0,
            false, null),
        ('edc', 'II.1(d)', 'Total energy consumption, EDC', 2200.5e0, 'kWh', null,
            'fct_energy_balance: facility meter', 0.5, false, null),
        ('eit', 'II.1(e)', 'Energy consumption of IT equipment, EIT', 2000.0, 'kWh', null,
            'fct_energy_balance: IT meter', 0.5, false, null),
        ('win', 'II.1(h)', 'Total water input, WIN', null, 'm³', null,
            'reference/sites: data_centre_years.water_input_m3', null, true, 'not given'),
        ('pue', 'III(a)', 'Power usage effectiveness, PUE', 1.1e0, 'ratio', null, 'EDC / EIT',
            0.5, false, null),
        ('ref', 'III(d)', 'Renewable energy factor, REF', null, 'ratio', null, 'ERES-TOT / EDC',
            0.0, true, 'no interval of the year has a reading for it')
    ) as fields (
        field_id, annex_reference, field_name, reported_quantity, reported_quantity_unit,
        value_text, field_source, coverage_ratio, is_missing, missing_reason
    ), (values ('hall', date '2026-01-01')) as years (site_id, local_year)
"""


@pytest.fixture
def published(book: Book) -> Book:
    """A book of which energy sees one report, operations none."""
    book.published.mkdir(parents=True)
    for team in ("energy", "operations"):
        with duckdb.connect(":memory:") as connection:
            connection.execute(
                f"attach '{book.published / team}.duckdb' as team (storage_version 'v1.2.0')"
            )
            connection.execute("create schema team.marts")
            if team == "energy":
                connection.execute(f"create table team.marts.fct_data_centre_reports as {FIELDS}")
    return book


def test_the_page_shows_each_field_with_its_source_or_why_it_is_missing(published) -> None:
    page = report.render(report.read(published, "energy", "hall", 2026))
    rows = [
        [" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr>\n(<td.*?)</tr>", page, re.DOTALL)
    ]
    assert rows == [
        ["Name I.1(a)", "Hall &lt;1&gt; &amp; 2", "100.0%", "reference/sites: name"],
        [
            "Total energy consumption, EDC II.1(d)",
            "2,200.5 kWh",
            "50.0%",
            "fct_energy_balance: facility meter",
        ],
        [
            "Energy consumption of IT equipment, EIT II.1(e)",
            "2,000 kWh",
            "50.0%",
            "fct_energy_balance: IT meter",
        ],
        ["Total water input, WIN II.1(h)", "missing", "-", "not given"],
        ["Power usage effectiveness, PUE III(a)", "1.1000", "50.0%", "EDC / EIT"],
        [
            "Renewable energy factor, REF III(d)",
            "missing",
            "0.0%",
            "no interval of the year has a reading for it",
        ],
    ]
    assert "4 of 6 fields given" in page
    assert not re.search(r"https?:|src=|@import|url\(", page)


def test_remarks_say_what_is_missing_and_that_nothing_is_extrapolated(published) -> None:
    assert list(report.remarks(report.read(published, "energy", "hall", 2026))) == [
        "2 of 6 fields are missing; nothing is put in for them.",
        "Coverage is the share of the year's 15-minute intervals with a reading. Sums hold what was"
        " read and are not extrapolated to the year.",
        "Due by 15 May of the following year for data centres in the Union with an installed IT"
        " power demand of at least 500 kW.",
    ]


def test_the_command_prints_the_report_and_writes_it_where_asked(published, tmp_path) -> None:
    def ask(*arguments: str):
        return CliRunner().invoke(
            app, ["--data-dir", str(published.data_dir), "report", *arguments]
        )

    folder = published.published / "reports" / "hall"
    usual = ask("hall", "2026")
    assert (usual.exit_code, usual.stdout.splitlines()[-2:]) == (
        0,
        [f"wrote {folder / '2026.csv'}", f"wrote {folder / '2026.html'}"],
    )
    assert "2,200.5 kWh" in usual.stdout
    written = pl.read_csv(folder / "2026.csv")
    assert written["reported_quantity"].to_list() == [None, 2200.5, 2000.0, None, 1.1, None]

    elsewhere = ask("hall", "2026", "--output", str(tmp_path / "out"))
    assert elsewhere.exit_code == 0
    assert (tmp_path / "out" / "hall" / "2026.html").exists()


@pytest.mark.parametrize(
    ("team", "site", "year", "cause"),
    [
        ("energy", "hall", 2025, "site 'hall' has no report for 2025: there are hall 2026"),
        ("energy", "attic", 2026, "site 'attic' has no report for 2026: there are hall 2026"),
        (
            "operations",
            "hall",
            2026,
            "team 'operations' does not see data-centre reports: ask as energy or finance (--team)",
        ),
    ],
)
def test_a_report_that_is_not_there_says_what_is(published, team, site, year, cause) -> None:
    with pytest.raises(report.ReportError) as refused:
        report.read(published, team, site, year)
    assert refused.value.causes == [cause]


@pytest.mark.parametrize("site", ["juelich", "sparks", "franklin"])
def test_energy_of_the_demo_is_that_of_a_calculation_from_the_readings(demo_book, site) -> None:
    """EDC, EIT and PUE from the lake's readings by Polars; REF from the parts of ERES-TOT."""
    roles = (
        pl.read_parquet(demo_book.lake / "reference" / "meters.parquet")
        .filter(pl.col("site_id") == site, pl.col("role").is_in(["facility_total", "it_load"]))
        .select("meter_id", "flow", "role", "multiplier")
    )
    zone = {"juelich": "Europe/Berlin", "sparks": "America/Los_Angeles"}.get(
        site, "America/Chicago"
    )
    start, end = (
        datetime(year, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC) for year in (2026, 2027)
    )
    energy = (
        pl.scan_parquet(demo_book.lake / "meter_readings" / "**" / "*.parquet")
        .join(roles.lazy(), on=["meter_id", "flow"])
        .filter(
            pl.col("interval_started_at") >= start,
            pl.col("interval_started_at") < end,
        )
        .sort("known_at", "load_id", "source_row")
        .unique(["meter_id", "flow", "interval_started_at"], keep="last")
        .with_columns(
            kwh=pl.col("quantity")
            * pl.col("multiplier")
            * pl.col("unit").replace_strict({"Wh": 0.001, "kWh": 1.0, "MWh": 1000.0}),
            quarters=(
                pl.col("interval_ended_at") - pl.col("interval_started_at")
            ).dt.total_minutes()
            / 15,
        )
        .filter(pl.col("quality") != "missing", pl.col("kwh").is_not_null())
        .group_by("role")
        .agg(pl.sum("kwh"), pl.sum("quarters"))
        .collect()
    )
    read = {role: (kwh, quarters) for role, kwh, quarters in energy.rows()}
    expected = (end - start).total_seconds() / 900

    fields = {
        row["field_id"]: row
        for row in report.read(demo_book, "energy", site, 2026).fields.iter_rows(named=True)
    }
    for field, role in (("edc", "facility_total"), ("eit", "it_load")):
        kwh, quarters = read[role]
        assert fields[field]["reported_quantity"] == pytest.approx(kwh, rel=1e-9)
        assert fields[field]["coverage_ratio"] == pytest.approx(quarters / expected, abs=1e-9)
    assert fields["pue"]["reported_quantity"] == pytest.approx(
        read["facility_total"][0] / read["it_load"][0], rel=1e-6
    )

    certificates = query.run_sql(
        demo_book,
        "energy",
        "select * from fct_certificate_assignments where assignment_status = 'assigned'",
    ).filter(
        pl.col("site_id") == site,
        pl.col("registry_status").is_in(["cancelled", "claimed"]),
        pl.col("local_month") >= date(2026, 1, 1),
        pl.col("energy_source").is_in(["wind", "solar", "hydro"]),
    )
    assert fields["eres_goo"]["reported_quantity"] == pytest.approx(
        certificates["bundle_kwh"].sum()
    )
    balance = query.run_sql(
        demo_book, "energy", "select * from fct_energy_balance where year(local_date) = 2026"
    ).filter(pl.col("site_id") == site)
    own = balance.select(
        (pl.col("onsite_generation_kwh") - pl.col("grid_export_kwh")).clip(lower_bound=0).sum()
    ).item()
    assert fields["eres_os"]["reported_quantity"] == pytest.approx(own)
    contracted = (
        query.run_sql(
            demo_book,
            "energy",
            "select * from fct_contract_settlements where contract_kind = 'ppa_pay_as_produced'"
            " and line = 'energy'",
        )
        .filter(pl.col("site_id") == site)
        .group_by("interval_started_at")
        .agg(volume_kwh=pl.col("quantity").sum() * 1000)
        .join(balance, on="interval_started_at")
        .select(pl.min_horizontal("volume_kwh", "grid_supplied_kwh").sum())
        .item()
    )
    assert fields["eres_ppa"]["reported_quantity"] == pytest.approx(contracted or 0, rel=1e-6)
    assert fields["ref"]["reported_quantity"] == pytest.approx(
        (certificates["bundle_kwh"].sum() + own + (contracted or 0)) / read["facility_total"][0],
        rel=1e-6,
    )
