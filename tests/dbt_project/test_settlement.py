"""What must hold of any contract's settlement, and real prices settled a second way.

The arithmetic of each clause and kind is worked out by hand beside the models.
"""

from datetime import UTC, date, datetime
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import reference
from tests.dbt_project.settlement_models import CONTRACT, SettlementModels, quarters, series
from tests.real_files import real_file

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 1, tzinfo=UTC)
COUNT = 8

# A millionth of the currency: prices and amounts are rounded to nine decimals.
near = lambda value: pytest.approx(value, abs=1e-6)  # noqa: E731
many = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
energies = st.lists(st.integers(0, 3000), min_size=COUNT, max_size=COUNT)
market_prices = st.lists(
    st.decimals(-200, 500, places=2).map(float), min_size=COUNT, max_size=COUNT
)
kinds = st.sampled_from(
    [
        {
            "kind": "ppa_pay_as_produced",
            "price_per_mwh": 45.5,
            "negative_price_clause": "no_volume",
        },
        {"kind": "vppa_cfd", "price_per_mwh": 45.5, "fixed_price_payer": "buyer"},
        {"kind": "vppa_cfd", "price_per_mwh": 45.5, "negative_price_clause": "zero_floor"},
        {"kind": "collar", "floor_price_per_mwh": 30.0, "cap_price_per_mwh": 70.25},
    ]
)
periods = st.sampled_from([15, 30, 60])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> SettlementModels:
    return SettlementModels(tmp_path_factory.mktemp("settlement"))


def settle(
    models: SettlementModels,
    contracts: list[dict[str, Any]],
    kwh: list[float],
    prices: list[float],
    **tables: pl.DataFrame,
) -> duckdb.DuckDBPyConnection:
    readings = series(START, kwh, 15, "energy_kwh")
    market = series(START, prices, 15, "price_per_mwh")
    return models.run(contracts, quarters(START, len(kwh)), readings, market, **tables)


def amounts(book: duckdb.DuckDBPyConnection) -> dict[tuple[str, datetime], tuple[float, ...]]:
    rows = book.execute(
        "select contract_id, interval_started_at, sum(quantity), sum(contract_amount)"
        " from warehouse.marts.fct_contract_settlements group by all"
    ).fetchall()
    return {(contract, start): tuple(values) for contract, start, *values in rows}


@many
@given(kind=kinds, share=st.integers(0, 100), kwh=energies, prices=market_prices, minutes=periods)
def test_half_the_share_of_a_plant_settles_at_half_the_amount(
    models, kind, share, kwh, prices, minutes
):
    terms = {**CONTRACT, **kind, "settlement_period_minutes": minutes}
    part = {**terms, "contract_id": "part", "share_of_plant": share / 100}
    found = amounts(settle(models, [{**terms, "contract_id": "whole"}, part], kwh, prices))

    assert len(found) == 2 * COUNT
    for (contract, start), (volume, amount) in found.items():
        if contract == "part":
            whole_volume, whole_amount = found["whole", start]
            assert volume == near(whole_volume * share / 100)
            assert amount == near(whole_amount * share / 100)


@many
@given(
    bounds=st.tuples(st.integers(-50, 200), st.integers(-50, 200)).map(sorted),
    kwh=energies,
    prices=market_prices,
    minutes=periods,
)
def test_a_collar_lies_between_its_floor_and_its_cap(models, bounds, kwh, prices, minutes):
    floor, cap = (float(bound) for bound in bounds)
    collar = {
        **CONTRACT,
        "kind": "collar",
        "floor_price_per_mwh": floor,
        "cap_price_per_mwh": cap,
        "settlement_period_minutes": minutes,
    }
    found = amounts(settle(models, [collar], kwh, prices))

    assert len(found) == COUNT
    for volume, amount in found.values():
        assert floor * volume - 1e-6 <= amount <= cap * volume + 1e-6


@many
@given(kind=kinds, parts=st.lists(energies, min_size=3, max_size=3), prices=market_prices)
def test_finer_readings_of_the_same_energy_settle_alike(models, kind, parts, prices):
    contract = [{**CONTRACT, **kind}]
    finer = [energy for quarter in zip(*parts, strict=True) for energy in quarter]
    whole = [sum(quarter) for quarter in zip(*parts, strict=True)]
    market = series(START, prices, 15, "price_per_mwh")
    finer_market = series(START, [price for price in prices for _ in range(3)], 5, "price_per_mwh")

    coarse = models.run(
        contract, quarters(START, COUNT), series(START, whole, 15, "energy_kwh"), market
    )
    fine = models.run(
        contract, quarters(START, COUNT), series(START, finer, 5, "energy_kwh"), finer_market
    )

    assert amounts(fine) == {key: near(value) for key, value in amounts(coarse).items()}


@many
@given(
    strike=st.decimals(0, 150, places=2).map(float),
    kwh=energies,
    prices=market_prices,
    minutes=periods,
)
def test_the_difference_and_the_market_price_add_up_to_the_strike_whoever_pays_it(
    models, strike, kwh, prices, minutes
):
    terms = {
        **CONTRACT,
        "kind": "vppa_cfd",
        "price_per_mwh": strike,
        "settlement_period_minutes": minutes,
    }
    book = settle(
        models,
        [
            {**terms, "contract_id": "ours", "fixed_price_payer": "buyer"},
            {**terms, "contract_id": "theirs", "fixed_price_payer": "counterparty"},
        ],
        kwh,
        prices,
    )

    rows = book.execute(
        "select contract_id, volume_mwh, settlement_price_per_mwh, contract_amount"
        " from warehouse.marts.fct_contract_settlements"
    ).fetchall()
    assert len(rows) == 2 * COUNT
    for contract, volume, price, amount in rows:
        difference = amount if contract == "ours" else -amount
        assert difference + volume * price == near(volume * strike)


@many
@given(kwh=energies, prices=market_prices)
def test_an_hour_settles_at_its_volume_times_its_mean_price(models, kwh, prices):
    hourly = {
        **CONTRACT,
        "kind": "vppa_cfd",
        "price_per_mwh": 40.0,
        "settlement_period_minutes": 60,
    }
    book = settle(models, [hourly], kwh, prices)

    found = book.execute(
        "select date_trunc('hour', interval_started_at) as hour, sum(contract_amount)"
        " from warehouse.marts.fct_contract_settlements group by hour order by hour"
    ).fetchall()
    assert [amount for _, amount in found] == [
        near(sum(kwh[hour : hour + 4]) / 1000 * (40 - sum(prices[hour : hour + 4]) / 4))
        for hour in (0, 4)
    ]


def test_without_an_index_month_the_price_is_not_known(models):
    indexed = {
        **CONTRACT,
        "price_per_mwh": 50.0,
        "escalation_kind": "cpi",
        "escalation_index": "HICP-DE",
        "escalation_base_date": date(2024, 1, 1),
        "escalation_base_month": date(2023, 10, 1),
        "escalation_lag_months": 3,
    }
    indices = pl.DataFrame(
        {
            "index": ["HICP-DE", "HICP-DE", "CPI-U"],
            "month": [date(2023, 10, 1), date(2024, 10, 1), date(2025, 10, 1)],
            "value": [100.0, 102.0, 103.0],
        }
    )

    connection = settle(models, [indexed], [1.0], [1.0], price_indices=indices)

    assert connection.execute(
        "select unit_price, contract_amount from warehouse.marts.fct_contract_settlements"
    ).fetchall() == [(None, None)]


def test_without_an_exchange_rate_an_amount_is_not_known_in_reporting_currency(models):
    dollars = {**CONTRACT, "price_per_mwh": 50.0, "currency_code": "USD"}
    rates = pl.DataFrame(
        {"rate_date": [date(2026, 2, 28)], "currency_code": ["USD"], "rate_to_reporting": [0.9]}
    )

    connection = settle(models, [dollars], [1.0], [1.0], fx_rates=rates)

    assert connection.execute(
        "select contract_amount, contract_currency_code, amount"
        " from warehouse.marts.fct_contract_settlements"
    ).fetchall() == [(near(0.05), "USD", None)]


@pytest.mark.parametrize(
    ("file", "time_zone"),
    [
        ("DE-LU_electricity_prices_2024.csv", "Europe/Berlin"),
        ("US-TEX-ERCO_electricity_prices_2024.csv", "America/Chicago"),
    ],
)
def test_a_leap_year_of_real_prices_settles_as_worked_out_apart(models, file, time_zone):
    # The local column of these files is no more than a label: the UTC one tells every hour once.
    hourly = pl.read_csv(real_file("prices_csv", file)).select(
        interval_started_at=pl.col("Datetime (UTC)").str.to_datetime(
            "%Y-%m-%d %H:%M:%S%z", time_unit="us", time_zone="UTC"
        ),
        # One price of the Texas file is -1.4e-14: noise about 0, and not negative.
        price_per_mwh=pl.col("Price (USD/MWh)").round(6) + 0.0,
    )
    assert len(hourly) == 366 * 24
    start = datetime(2024, 1, 1, tzinfo=UTC)
    quarter = pl.int_range(pl.len())
    frame = quarters(start, 366 * 96).with_columns(
        # A plant of 100 MW with no pattern in common with the clock.
        energy_kwh=((quarter * 7919) % 25_000).cast(pl.Float64),
        local=pl.col("interval_started_at").dt.convert_time_zone(time_zone),
        hour=pl.col("interval_started_at").dt.truncate("1h"),
    )
    frame = frame.join(hourly.rename({"interval_started_at": "hour"}), on="hour")
    terms = {
        **CONTRACT,
        "time_zone": time_zone,
        "currency_code": "USD",
        "share_of_plant": 0.3,
        "valid_from_at": start,
    }
    contracts = [
        {
            **terms,
            "contract_id": "pap",
            "price_per_mwh": 40.0,
            "negative_price_clause": "no_volume",
        },
        {
            **terms,
            "contract_id": "run",
            "price_per_mwh": 40.0,
            "negative_price_clause": "no_volume",
            "negative_price_hours": 3,
            "certificate_price_per_mwh": 1.5,
        },
        {
            **terms,
            "contract_id": "remainder",
            "price_per_mwh": 40.0,
            "negative_price_clause": "no_volume",
            "negative_price_hours": 3,
            "negative_price_scope": "remainder",
        },
        {
            **terms,
            "contract_id": "cfd",
            "kind": "vppa_cfd",
            "price_per_mwh": 40.0,
            "negative_price_clause": "zero_floor",
            "settlement_period_minutes": 60,
        },
        {
            **terms,
            "contract_id": "collar",
            "kind": "collar",
            "floor_price_per_mwh": 30.0,
            "cap_price_per_mwh": 60.0,
        },
        {
            **terms,
            "contract_id": "base",
            "kind": "ppa_baseload",
            "price_per_mwh": 70.0,
            "baseload_mw": 8.0,
            "shape_risk": "buyer",
        },
        {
            **terms,
            "contract_id": "shape",
            "kind": "ppa_fixed_shape",
            "price_per_mwh": 65.0,
            "escalation_kind": "fixed",
            "escalation_base_date": date(2022, 7, 1),
            "escalation_ratio_per_year": 0.02,
        },
    ]
    window = {"contract_id": "shape", "valid_from_at": start, "month_from": 1, "month_to": 12}
    shapes = pl.DataFrame(
        [
            {**window, "day_kind": "workday", "hour_from": 8, "hour_to": 20, "power_mw": 12.0},
            {**window, "day_kind": "weekend", "hour_from": 0, "hour_to": 24, "power_mw": 4.0},
        ],
        schema=reference.TABLES["contract_shapes"],
    )
    book = models.run(
        contracts,
        frame.select("interval_started_at"),
        frame.select("interval_started_at", "energy_kwh", minutes=pl.lit(15)),
        hourly.with_columns(minutes=pl.lit(60), currency_code=pl.lit("USD")),
        contract_shapes=shapes,
    )

    price, produced = pl.col("price_per_mwh"), pl.col("energy_kwh") * 0.3 / 1000
    local_hour, weekday = pl.col("local").dt.hour(), pl.col("local").dt.weekday()
    runs = hourly.select(
        hour="interval_started_at",
        is_negative=pl.col("price_per_mwh") < 0,
        run=(pl.col("price_per_mwh") < 0).rle_id(),
    ).with_columns(length=pl.len().over("run"), position=pl.int_range(1, pl.len() + 1).over("run"))
    frame = frame.join(runs, on="hour")
    in_run = pl.col("is_negative") & (pl.col("length") >= 3)
    in_remainder = pl.col("is_negative") & (pl.col("position") > 3)
    power = pl.when(weekday > 5).then(4).when(local_hour.is_between(8, 19)).then(12).otherwise(0)
    escalated = (
        pl.when(pl.col("local").dt.date() < date(2024, 7, 1))
        .then(65 * 1.02)
        .otherwise(65 * 1.02**2)
    )
    worked_out = frame.group_by(local_month=pl.col("local").dt.strftime("%Y-%m")).agg(
        (pl.when(price >= 0).then(produced).otherwise(0) * 40).sum().alias("pap energy"),
        (pl.when(~in_run).then(produced).otherwise(0) * 40).sum().alias("run energy"),
        (pl.when(~in_run).then(produced).otherwise(0) * 1.5).sum().alias("run certificates"),
        (pl.when(~in_remainder).then(produced).otherwise(0) * 40).sum().alias("remainder energy"),
        (produced * (40 - pl.max_horizontal(price, 0))).sum().alias("cfd difference"),
        (produced * price.clip(30, 60)).sum().alias("collar energy"),
        (produced * 70).sum().alias("base energy"),
        ((2 - produced) * price).sum().alias("base shape"),
        (power / 4 * escalated).sum().alias("shape energy"),
    )
    expected = worked_out.unpivot(index="local_month", variable_name="line", value_name="amount")

    lines = book.execute(
        "select strftime(local_month, '%Y-%m'), contract_id || ' ' || line, sum(contract_amount),"
        " sum(amount) from warehouse.marts.fct_contract_statements group by all"
    ).fetchall()
    found = {(month, line): amount for month, line, amount, _ in lines}
    told = {(month, line): amount for month, line, amount in expected.rows()}
    assert found.keys() == told.keys()
    # A line that is rounded once is within half a cent; a month with two prices has two lines.
    assert {key: pytest.approx(amount, abs=0.00501) for key, amount in told.items()} == found
    assert {
        (month, line): pytest.approx(amount * 0.9, abs=0.011) for month, line, amount, _ in lines
    } == {(month, line): amount for month, line, _, amount in lines}
    assert book.execute(
        "select count(*) from warehouse.marts.fct_contract_statements where coverage_ratio < 1"
    ).fetchall() == [(0,)]
