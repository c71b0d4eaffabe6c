"""Contract prices that nothing else can be, through the whole pipeline: who finds them in packs."""

import json
import re
import shutil
from datetime import UTC, datetime

import pytest

from pipelines import lake, pack, warehouse
from pipelines.book import Book
from pipelines.pack import PublishedPack, delivery
from pipelines.published import publishing
from pipelines.simulator import landing
from pipelines.simulator.landing import DEMO_REFERENCE

pytestmark = pytest.mark.demo

# Whole, and so long that digits of a pack do not come to be the same by chance.
PRICES = {"franklin-lupinus-pap": 15_485_863, "franklin-lupinus2-vppa": 32_452_843}
SEPARATOR = r"(?:[.,'\u2019_\s]|&nbsp;)?"


def found_prices(text: str) -> set[str]:
    """Contracts whose price can be read: its digits, wherever the marks stand, or close to it.

    What a difference contract pays for a MWh is its price less that of the market.
    """
    numbers = {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", text)}
    return {
        contract
        for contract, price in PRICES.items()
        if re.search(SEPARATOR.join(str(price)), text)
        or any(abs(number / price - 1) < 1e-5 for number in numbers)
    }


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PublishedPack]:
    """The packs of a week of the demo's first month, its purchase agreements at these prices."""
    book = Book(tmp_path_factory.mktemp("prices") / "data")
    shutil.copytree(DEMO_REFERENCE, book.data_dir / "reference")
    for contract, price in PRICES.items():
        file = book.reference / "contracts" / f"{contract}.yml"
        text = re.sub(r"(?m)^( +price_per_mwh:) .*$", rf"\1 {price}", file.read_text())
        # In the currency of the pack, so that no rate hides them.
        file.write_text(text.replace("currency_code: USD", "currency_code: EUR"))
    landing.simulate(book.data_dir, until=datetime(2026, 5, 5, tzinfo=UTC))
    lake.load(book)
    warehouse.build(book)
    publishing.publish(book)
    return {one.team: one for one in pack.publish(book)}


@pytest.mark.parametrize(
    "text",
    [
        "at 15485863 EUR",
        "15,485,863.00",
        "15.485.863,00",
        "15 485 863",
        "15485.863 EUR/kWh",
        '"unit_price": 15485863.0',
        "pays 15,485,851.20 a MWh",
    ],
)
def test_a_price_is_found_however_it_is_written(text):
    assert found_prices(text) == {"franklin-lupinus-pap"}
    assert found_prices(text.replace("8", "9")) == set()


@pytest.mark.parametrize("name", ["index.html", "pack.json"])
def test_the_search_finds_the_prices_in_the_packs_with_contract_prices(packs, name):
    for team in ("energy", "finance"):
        assert found_prices((packs[team].folder / name).read_text()) == set(PRICES)


def test_operations_pack_and_what_is_sent_of_it_hold_none(packs):
    folder = packs["operations"].folder
    document = json.loads((folder / "pack.json").read_text())
    texts = {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}
    assert {"index.html", "pack.json"} <= set(texts)

    texts["text of the message"] = delivery.summary(document, str(folder / "index.html"))

    assert {name: found_prices(text) for name, text in texts.items() if found_prices(text)} == {}
