"""What a team's file must not give away, tried on the demo."""

from itertools import product

import duckdb
import numpy as np
import polars as pl
import pytest

from pipelines import reference
from pipelines.book import Book

SAMPLE_ROWS = 200


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


def strikes_found(frame: pl.DataFrame, strikes: list[float], rates: pl.DataFrame) -> list[tuple]:
    """Columns (a, b, c) whose (a - b) / c or a / c + b is a price, in its currency or in euro.

    Whoever looks for prices looks at the lines of one contract at a time.
    """
    time = next((name for name in ("interval_started_at", "local_date") if name in frame), None)
    if time is None:
        return []
    if "site_id" in frame:
        frame = frame.filter(pl.col("site_id") == "franklin")
    frame = frame.with_columns(rate_date=pl.col(time).cast(pl.Date)).join(
        rates, on="rate_date", how="left"
    )
    keys = [name for name in ("contract_id", "source_id", "line") if name in frame]
    parts = frame.partition_by(keys) if keys else [frame]
    return [found for part in parts for found in _strikes_found_in(part, strikes)]


def _strikes_found_in(frame: pl.DataFrame, strikes: list[float]) -> list[tuple]:
    frame = frame.sample(min(SAMPLE_ROWS, len(frame)), seed=1)
    numbers = [
        name
        for name, kind in frame.schema.items()
        if kind.is_numeric()
        and name != "rate_to_reporting"
        # What is constant or empty tells nothing about a price.
        and frame[name].drop_nulls().n_unique() > 3
    ]
    if not numbers or frame.is_empty():
        return []
    values = frame.select(pl.col(numbers).cast(pl.Float64)).to_numpy().T
    rate = frame["rate_to_reporting"].to_numpy()
    found = []
    minuends = [*enumerate(numbers)]
    for (i, a), (j, b) in product(minuends, [(-1, "0"), *minuends]):
        if i == j:
            continue
        other = values[j] if j >= 0 else np.zeros(len(rate))
        with np.errstate(divide="ignore", invalid="ignore"):
            quotients = ((values[i] - other) / values, values[i] / values)
            for strike, scale in product(strikes, (1.0, 1000.0)):
                for price in (np.full(len(rate), strike), strike * rate):
                    guesses = (np.abs(quotients[0] * scale), quotients[1] * scale + other)
                    for guess in guesses:
                        hits = np.abs(guess / price - 1) < 1e-4
                        shares = hits.sum(axis=1) / np.maximum(1, np.isfinite(guess).sum(axis=1))
                        found += [
                            (a, b, numbers[k], strike)
                            for k in np.flatnonzero(shares > 0.1)
                            if k != i
                        ]
    return found


@pytest.fixture(scope="module")
def strikes(demo_book) -> list[float]:
    contracts = reference.flatten(reference.load(demo_book.reference))["contracts"]
    return contracts["price_per_mwh"].drop_nulls().unique().sort().to_list()


@pytest.fixture(scope="module")
def rates(demo_book) -> pl.DataFrame:
    rates = reference.load(demo_book.reference).fx_rates
    return rates.filter(pl.col("currency_code") == "USD").drop("currency_code")


def test_operations_cannot_work_out_a_contract_price_from_its_file(demo_book, strikes, rates):
    assert strikes == [29.75, 31.5, 34.2]

    found = {
        name: strikes_found(frame, strikes, rates)
        for name, frame in tables(demo_book, "operations").items()
    }

    assert {name: columns for name, columns in found.items() if columns} == {}


def test_the_attack_finds_the_prices_in_what_finance_gets(demo_book, strikes, rates):
    settlements = tables(demo_book, "finance")["fct_contract_settlements"]

    found = strikes_found(settlements, strikes, rates)

    assert {strike for *_, strike in found} == set(strikes)
