"""The packs of the demo's last full week: figures, size, and what operations may not learn."""

import json
import re

import duckdb
import pytest

from pipelines import pack
from pipelines.book import Book
from pipelines.pack import PublishedPack
from pipelines.simulator.landing import declare
from tests.pack.test_page import cut_sheets, different_figures, figures, opened, printed

WEEK = "2026-W44"
PRICES = """
    select distinct price
    from (
        unpivot marts.dim_contracts
        on columns('.*price_per_.*')
        into name column_name value price
    )
"""


@pytest.fixture(scope="module")
def packs(demo_book, tmp_path_factory) -> tuple[Book, dict[str, PublishedPack]]:
    """The demo's published files beside packs of their own: the demo stays as it is."""
    book = Book(tmp_path_factory.mktemp("packs") / "data")
    declare(book)
    book.published.mkdir(parents=True)
    for file in demo_book.published.glob("*.duckdb"):
        (book.published / file.name).symlink_to(file)
    return book, {one.team: one for one in pack.publish(book)}


@pytest.mark.parametrize("team", ["energy", "finance", "operations"])
def test_every_figure_of_the_demo_is_what_its_sql_gives(browser, packs, team):
    book, published = packs
    folder = published[team].folder
    tab, asked = opened(browser, folder)

    assert published[team].week == WEEK
    assert len(figures(tab)) > 200
    assert different_figures(tab, book, team, folder) == []
    assert len(printed(tab)) == 2
    assert cut_sheets(tab) == []
    assert (folder / "index.html").stat().st_size < 3_000_000
    assert asked == []


def spellings(price: float) -> set[str]:
    """How a price may be written, with point or comma, rounded to cents or not."""
    texts = {f"{price:.10g}", f"{price:.2f}", f"{price:,.2f}"}
    # A whole number says nothing: it may be any count.
    return {
        text
        for text in texts | {text.replace(".", ",") for text in texts}
        if "." in text or "," in text
    }


def found_prices(folder, prices: list[float]) -> set[tuple[str, str]]:
    texts = {
        "pack.json": (folder / "pack.json").read_bytes().decode(),
        # Coordinates of charts are no figures.
        "index.html": re.sub(
            r'<style>.*?</style>| (?:d|transform|viewBox|style|[xyrc]\w?|width|height)="[^"]*"',
            "",
            (folder / "index.html").read_bytes().decode(),
            flags=re.DOTALL,
        ),
    }
    return {
        (name, text)
        for name, content in texts.items()
        for price in prices
        for text in spellings(price)
        if re.search(rf"(?<![\d.,]){re.escape(text)}(?![\d])", content)
    }


def test_operations_pack_holds_no_contract_price_and_that_of_finance_does(packs):
    book, published = packs
    with duckdb.connect(str(book.published / "finance.duckdb"), read_only=True) as connection:
        prices = [price for (price,) in connection.execute(PRICES).fetchall()]
    assert {29.75, 34.2} <= set(prices)

    assert found_prices(published["operations"].folder, prices) == set()
    assert ("index.html", "29.75") in found_prices(published["finance"].folder, prices)
    assert ("pack.json", "29.75") in found_prices(published["energy"].folder, prices)


def test_operations_pack_asks_tables_that_operations_sees_alone(packs):
    book, published = packs
    sections = json.loads((published["operations"].folder / "pack.json").read_text())["sections"]
    with duckdb.connect(str(book.published / "operations.duckdb"), read_only=True) as connection:
        seen = {
            name
            for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()
        }
    asked = {
        table
        for section in sections.values()
        for table in re.findall(r"\b(?:from|join) ([a-z]\w+)", section["sql"])
    }
    assert asked <= seen
    assert "dim_contracts" not in asked
