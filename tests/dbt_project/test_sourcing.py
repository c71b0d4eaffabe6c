"""Sourcing coverage of the demo against a calculation hour by hour from the reference files."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
import yaml

from pipelines.book import Book

SITES = ["franklin", "juelich", "sparks"]


def read(reference: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((reference / name).read_text())


def contracts_of(reference: Path, site_id: str) -> list[dict[str, Any]]:
    contracts = [yaml.safe_load(f.read_text()) for f in sorted((reference / "contracts").iterdir())]
    return [contract for contract in contracts if contract["site_id"] == site_id]


def in_force(terms: list[dict[str, Any]], day: date) -> dict[str, Any]:
    """The version of terms that holds on a local date; nothing where none does."""
    return next(
        (
            version
            for version in terms
            if version["valid_from"] <= day and day < (version.get("valid_to") or date.max)
        ),
        {},
    )


def hours_of(time_zone: str) -> pl.DataFrame:
    """Every hour from April 2026 to November 2028 by the site's clock."""
    zone = ZoneInfo(time_zone)
    start = datetime(2026, 4, 1, tzinfo=zone).astimezone(UTC)
    end = datetime(2028, 12, 1, tzinfo=zone).astimezone(UTC)
    count = (end - start) // timedelta(hours=1)
    days = [(start + timedelta(hours=n)).astimezone(zone).date() for n in range(count)]
    return pl.DataFrame({"day": days}).with_columns(month=pl.col("day").dt.truncate("1mo"))


def power_by_month(reference: Path, site: dict[str, Any]) -> pl.DataFrame:
    """Committed and secured power and debt as means of the month's hours."""
    plan = sorted(
        (
            entry
            for entry in read(reference, "capacity_plan.yml")["commitments"]
            if entry["site_id"] == site["site_id"]
        ),
        key=lambda entry: entry["from_month"],
    )
    hours = hours_of(site["time_zone"])
    rows = []
    for (day,) in hours.select("day").iter_rows():
        terms = in_force(site["terms"], day)
        entry = [e for e in plan if e["from_month"] <= day.strftime("%Y-%m")][-1]
        committed = entry["committed_it_mw"] * terms["design_pue"]
        secured = min(
            terms["grid_firm_mw"] + terms["local_committed_mw"], terms["electrical_limit_mw"]
        )
        debt = max(0.0, committed - secured)
        use = entry["utilization_ratio"]
        missing = max(0.0, committed * use - secured)
        rows.append((committed, secured, debt, missing, committed * use))
    names = ["committed_mw", "secured_mw", "energy_debt_mw", "expected_debt_mw", "consumption"]
    return (
        hours.hstack(pl.DataFrame(rows, schema=names, orient="row"))
        .group_by("month", maintain_order=True)
        .agg(
            pl.len().cast(pl.Float64).alias("month_hours"),
            pl.col(names[:4]).mean(),
            pl.col("consumption").sum().alias("expected_consumption_mwh"),
            pl.col("expected_debt_mw").sum().alias("energy_debt_mwh"),
        )
    )


def volumes_by_month(reference: Path, site: dict[str, Any]) -> pl.DataFrame:
    """Contracted volume at P50 and P90, delivered and at a known price, summed over hours."""
    hours = hours_of(site["time_zone"]).with_columns(count=pl.len().over("month"))
    plants = [c for c in contracts_of(reference, site["site_id"]) if "share_of_plant" in c]
    rows = []
    for day, month, count in hours.iter_rows():
        p50 = p90 = fixed = 0.0
        for contract in plants:
            terms = in_force(contract["terms"], day)
            if not terms:
                continue
            share = contract["share_of_plant"] / count
            if contract["kind"] == "ppa_pay_as_produced":
                p50 += share * terms["p50_mwh"][month.month - 1]
                p90 += share * terms["p90_mwh"][month.month - 1]
            fixed += share * terms["p50_mwh"][month.month - 1]
        rows.append((p50, p90, fixed))
    names = ["contract_p50_mwh", "contract_p90_mwh", "fixed_mwh"]
    return (
        hours.hstack(pl.DataFrame(rows, schema=names, orient="row"))
        .group_by("month", maintain_order=True)
        .agg(pl.col(names).sum())
    )


@pytest.fixture(scope="module")
def booked(demo_book: Book) -> pl.DataFrame:
    with duckdb.connect(str(demo_book.warehouse), read_only=True) as connection:
        table = connection.sql("from marts.fct_sourcing_coverage").to_arrow_table()
    return pl.DataFrame(table).sort("site_id", "local_month")


@pytest.mark.parametrize("site_id", SITES)
def test_months_of_the_demo_are_what_the_reference_files_give_hour_by_hour(
    demo_book: Book, booked: pl.DataFrame, site_id: str
):
    site = read(demo_book.reference, f"sites/{site_id}.yml")
    power = power_by_month(demo_book.reference, site)
    volumes = volumes_by_month(demo_book.reference, site)
    expected = power.join(volumes, on="month")
    figures = booked.filter(site_id=site_id)

    assert figures["local_month"].to_list() == expected["month"].to_list()
    for name in (
        *("month_hours", "committed_mw", "secured_mw", "energy_debt_mw", "expected_debt_mw"),
        *("expected_consumption_mwh", "energy_debt_mwh", "contract_p50_mwh", "contract_p90_mwh"),
    ):
        assert figures[name].to_list() == pytest.approx(expected[name].to_list(), abs=1e-6), name
    has_fixed_tariff = site_id == "sparks"
    assert figures["price_cover_ratio"].to_list() == pytest.approx(
        [
            1.0 if has_fixed_tariff else min(1, fixed / consumption)
            for fixed, consumption in expected.select(
                "fixed_mwh", "expected_consumption_mwh"
            ).iter_rows()
        ],
        abs=1e-9,
    )


def test_money_is_energy_at_the_forward_price_of_the_sites_zone(
    demo_book: Book, booked: pl.DataFrame
):
    prices = {
        (zone, month): price
        for zone, month, price, _ in pl.read_csv(demo_book.reference / "forward_prices.csv").rows()
    }
    rates = pl.read_csv(demo_book.reference / "fx_rates.csv", try_parse_dates=True)
    [rate] = rates.filter(rate_date=date(2026, 11, 2), currency_code="USD")["rate_to_reporting"]
    zones = {"franklin": ("HB_NORTH", rate), "juelich": ("DE-LU", 1.0), "sparks": ("US-NW", 1.0)}
    wrong = []
    priced = 0
    for row in booked.filter(pl.col("site_id").is_in(SITES)).iter_rows(named=True):
        zone, exchange_rate = zones[row["site_id"]]
        price = prices.get((zone, row["local_month"].strftime("%Y-%m")))
        priced += price is not None
        for energy, cost in (
            ("energy_debt_mwh", "energy_debt_cost"),
            ("open_p50_mwh", "open_p50_cost"),
            ("open_p90_mwh", "open_p90_cost"),
        ):
            if price is None:
                is_right = row[cost] is None and row["missing_inputs"] == "forward_price"
            else:
                is_right = (
                    row[cost] == pytest.approx(row[energy] * price * exchange_rate, abs=1e-3)
                    and row["missing_inputs"] == "none"
                    and row["exchange_rate_date"] == date(2026, 11, 2)
                )
            if not is_right:
                wrong.append((row["site_id"], row["local_month"], cost))

    assert wrong == []
    assert priced == 20 + 25


def test_franklin_runs_into_debt_when_its_tranche_of_2027_outruns_the_firm_connection(
    booked: pl.DataFrame,
):
    assert booked.select("site_id", "first_debt_month").unique().sort("site_id").rows() == [
        ("cloud-us-south", None),
        ("franklin", date(2027, 7, 1)),
        ("juelich", None),
        ("sparks", None),
    ]
    # Stacked without sourcing until the larger connection of 15 April 2028, which cures 8 of 10 MW.
    months = [date(2026, 4, 1), date(2027, 6, 1), date(2027, 7, 1), date(2028, 3, 1)]
    assert booked.filter(
        pl.col("local_month").is_in([*months, date(2028, 5, 1)]), site_id="franklin"
    ).select("committed_added_mw", "secured_added_mw", "energy_debt_mw").rows() == [
        (0, 0, 0),
        (7.2, 0, 0),
        (21.6, 0, 2.8),
        (28.8, 0, 10),
        (28.8, 8, 2),
    ]


def test_months_that_are_over_show_what_was_drawn_beside_what_was_expected(booked: pl.DataFrame):
    known = booked.filter(pl.col("actual_consumption_mwh").is_not_null())

    assert known.group_by("site_id").len().sort("site_id").rows() == [
        ("franklin", 6),
        ("juelich", 6),
        ("sparks", 6),
    ]
    assert known["month_kind"].unique().to_list() == ["past"]
    ratio = known["actual_consumption_mwh"] / known["expected_consumption_mwh"]
    assert ratio.min() > 0.95
    assert ratio.max() < 1.05


def test_the_committed_gpus_of_the_cloud_are_an_estimate_that_its_provider_secures(
    booked: pl.DataFrame,
):
    # 192 GPUs of 1.3 kW until the end of 2026.
    assert booked.filter(site_id="cloud-us-south").group_by(
        "secured_by", "is_power_estimate", "committed_mw", "secured_mw", maintain_order=True
    ).agg(pl.len()).rows() == [
        ("provider", True, 0.2496, 0.2496, 9),
        ("provider", True, 0.0, 0.0, 23),
    ]
