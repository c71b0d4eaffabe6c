"""What a team's file must not give away, tried on the demo."""

import re
from datetime import date

import duckdb
import numpy as np
import polars as pl
import pytest

from pipelines import reference
from pipelines.book import Book
from tests.published.price_attack import Price, recovered

PRICE = re.compile("price(?!_hours)|_per_(mwh|kw|node|mw_)|damages")
# A MWh is 1000 kWh, a kW of a quarter of an hour 0.25 kWh; nodes have four GPUs.
PER_KWH = (1.0, 0.001)
PER_KW = (1.0, 4.0, 4000.0)
PER_NODE = (1.0, 0.25)


def tables(demo_book: Book, team: str) -> dict[str, pl.DataFrame]:
    with duckdb.connect(str(demo_book.published / f"{team}.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        names = connection.execute("select table_name from duckdb_tables()").fetchall()
        found = {}
        for (name,) in names:
            frame = pl.from_arrow(connection.sql(f"from marts.{name}").to_arrow_table())
            assert isinstance(frame, pl.DataFrame)
            found[name] = frame
    return found


@pytest.mark.parametrize("team", ["energy", "finance", "operations"])
def test_nobody_gets_the_names_of_those_who_own_jobs(demo_book, team):
    jobs = pl.read_parquet(demo_book.lake / "jobs" / "*.parquet")
    users = jobs["user_name"].drop_nulls().unique()
    assert len(users) > 3

    leaks = [
        (name, column)
        for name, frame in tables(demo_book, team).items()
        for column in frame.select(pl.col(pl.String)).columns
        if frame[column].is_in(users.implode()).any()
        or any(frame[column].str.contains(user, literal=True).any() for user in users)
    ]

    assert leaks == []


@pytest.fixture(scope="module")
def rates(demo_book: Book) -> pl.DataFrame:
    return reference.load(demo_book.reference).fx_rates


@pytest.fixture(scope="module")
def prices(demo_book: Book) -> list[Price]:
    """Every price of every contract of the demo but 0, each in what it may be counted by."""
    found = {}
    for contract in reference.load(demo_book.reference).contracts:
        for terms in contract.terms:
            for name, value in _numbers(terms.model_dump()):
                if value and PRICE.search(name):
                    multiples = (
                        PER_KWH
                        if "per_mwh" in name
                        else PER_KW
                        if "per_kw" in name
                        else PER_NODE
                        if "node" in name
                        else (1.0, 1 / terms.gpu_count)
                        if name == "hourly_price"
                        else (1.0,)
                    )
                    label = f"{contract.contract_id} {name} {value}"
                    found[label] = Price(
                        label, contract.site_id, abs(value), contract.currency_code, multiples
                    )
    return list(found.values())


def _numbers(terms, name=""):
    """Each number of a contract's terms, however deep, with its name."""
    if isinstance(terms, dict):
        for key, value in terms.items():
            yield from _numbers(value, key)
    elif isinstance(terms, list | tuple):
        for value in terms:
            yield from _numbers(value, name)
    elif isinstance(terms, int | float) and not isinstance(terms, bool):
        yield name, float(terms)


def test_the_attack_finds_every_price_in_what_finance_gets(demo_book, prices, rates):
    assert len(prices) == 26

    found = recovered(tables(demo_book, "finance")["fct_contract_settlements"], prices, rates)

    assert set(found) == {price.name for price in prices}


def test_the_attack_finds_prices_in_marginal_costs_as_they_are(demo_book, prices, rates):
    """By demand charge, energy and node-hour: what operations gets in their place is not exact."""
    found = recovered(tables(demo_book, "finance")["fct_marginal_cost"], prices, rates)

    assert {
        "franklin-grid demand_charge_per_kw 4.0",
        "sparks-supply energy_price_per_mwh 70.0",
        "juelich-allocation-2026 price_per_node_hour 2.6",
    } <= set(found)


def test_operations_cannot_work_out_a_contract_price_from_its_file(demo_book, prices, rates):
    found = {
        name: recovered(frame, prices, rates)
        for name, frame in tables(demo_book, "operations").items()
    }

    assert {name: guesses for name, guesses in found.items() if guesses} == {}


@pytest.mark.parametrize(
    ("planted", "is_found"),
    [
        # 31.5 USD per MWh, in the currency of the book.
        (pl.col("kwh") / 1000 * 31.5 * 0.9, True),
        # The same beside 0.04 EUR of each GPU-hour: the slope over the kWh.
        (pl.col("kwh") / 1000 * 31.5 * 0.9 + 40, True),
        # In one of four rows, as a price of some hours is.
        (
            pl.when(pl.col("row") % 4 == 0)
            .then(pl.col("kwh") * 0.02835)
            .otherwise(pl.col("noise")),
            True,
        ),
        (pl.col("noise"), False),
        # Rounded to powers of 1.25, which 28.35 EUR is not.
        (pl.col("kwh") / 1000 * 1.25**15, False),
    ],
)
def test_a_planted_price_is_found_and_numbers_that_merely_vary_are_none(planted, is_found):
    price = Price("strike", "a", 31.5, "USD", PER_KWH)
    rates = pl.DataFrame(
        {"rate_date": [date(2026, 5, 1)], "currency_code": ["USD"], "rate_to_reporting": [0.9]}
    )
    noise = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "site_id": "a",
            "local_date": date(2026, 5, 1),
            "row": range(400),
            "kwh": noise.uniform(500, 900, 400),
            "noise": noise.uniform(5, 40, 400),
            "currency_code": "EUR",
        }
    ).select("site_id", "local_date", energy_kwh="kwh", cost=planted, currency_code="currency_code")

    assert (recovered(table, [price], rates) != {}) is is_found
