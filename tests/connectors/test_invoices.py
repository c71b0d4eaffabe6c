"""Invoices: the lines that a counterparty charged."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.connectors import invoices
from pipelines.connectors.common import REJECT_REASON, Context, UnreadableFile
from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers.invoices import write_invoices

CONTEXT = Context(cluster_time_zones={})
HEADER = (
    "invoice_id,line_number,contract_id,billing_month,line,terms_from,"
    "quantity,quantity_unit,unit_price,amount,currency_code,issued_at\n"
)


def read(text: str) -> pl.DataFrame:
    return invoices.read(text.encode(), file_name="i.csv", context=CONTEXT)["invoices"]


def test_a_line_is_read_as_it_stands() -> None:
    rows = read(
        HEADER + "L-9,1,lupinus,2026-09,energy,2026-09-16,1234.5,MWh,29.75,36726.38,USD,"
        "2026-10-05T12:00:00Z\n"
    )
    assert rows.rows(named=True) == [
        {
            "invoice_id": "L-9",
            "invoice_line_number": 1,
            "contract_id": "lupinus",
            "billing_month": date(2026, 9, 1),
            "line": "energy",
            "terms_from": date(2026, 9, 16),
            "quantity": 1234.5,
            "quantity_unit": "MWh",
            "unit_price": 29.75,
            "amount": 36726.38,
            "currency_code": "USD",
            "issued_at": datetime(2026, 10, 5, 12, tzinfo=UTC),
            "known_at": datetime(2026, 10, 5, 12, tzinfo=UTC),
            REJECT_REASON: None,
        }
    ]


def test_columns_that_may_be_left_out_are_null() -> None:
    rows = read(
        "invoice_id,line_number,contract_id,billing_month,line,amount,currency_code,issued_at\n"
        "L-9,1,lupinus,2026-09,fixed_fee,-5,USD,2026-10-05T12:00:00Z\n"
    )
    assert rows.select("terms_from", "quantity", "quantity_unit", "unit_price").row(0) == (
        None,
        None,
        None,
        None,
    )
    assert rows[REJECT_REASON][0] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "L,0,c,2026-09,energy,,1,MWh,2,2,USD,2026-10-05T12:00:00Z",
            "line_number '0': expected a whole number from 1",
        ),
        (
            "L,1,c,2026-13,energy,,1,MWh,2,2,USD,2026-10-05T12:00:00Z",
            "billing_month '2026-13': expected as 2026-09",
        ),
        (
            "L,1,c,2026-09,energy,,1,MWh,2,NaN,USD,2026-10-05T12:00:00Z",
            "amount 'NaN': expected a number",
        ),
        (
            "L,1,c,2026-09,energy,,1,MWh,2,2,usd,2026-10-05T12:00:00Z",
            "currency_code 'usd': expected three letters such as EUR",
        ),
        (
            "L,1,c,2026-09,energy,,1,MWh,2,2,USD,2026-10-05T12:00:00",
            "issued_at '2026-10-05T12:00:00' has no time zone: "
            "expected Z or an offset such as +02:00",
        ),
        (
            "L,1,,2026-09,energy,,1,MWh,2,2,USD,2026-10-05T12:00:00Z",
            "contract_id is empty: expected a contract of reference",
        ),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: str, reason: str) -> None:
    good = "L,2,c,2026-09,energy,,1,MWh,2,2,USD,2026-10-05T12:00:00Z"
    assert read(f"{HEADER}{line}\n{good}\n")[REJECT_REASON].to_list() == [reason, None]


def test_another_table_is_no_invoice() -> None:
    with pytest.raises(UnreadableFile, match="invoice_id, line_number"):
        read("meter_id,amount\n1,2\n")


AMOUNTS = st.decimals(-10_000_000, 10_000_000, places=2).map(float)


@given(
    st.lists(
        st.tuples(
            st.dates(date(2020, 1, 1), date(2040, 12, 28)).map(lambda day: day.replace(day=1)),
            st.none() | st.dates(date(2020, 1, 1), date(2040, 1, 1)),
            st.none() | AMOUNTS,
            AMOUNTS,
            st.sampled_from(["energy", "demand", 'a, quoted "line"']),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_back(lines: list[tuple[object, ...]]) -> None:
    rows = pl.DataFrame(
        [
            {
                "invoice_id": "I-1",
                "invoice_line_number": number,
                "contract_id": "c",
                "billing_month": month,
                "line": line,
                "terms_from": terms_from,
                "quantity": quantity,
                "quantity_unit": None if quantity is None else "MWh",
                "unit_price": quantity,
                "amount": amount,
                "currency_code": "EUR",
                "issued_at": datetime(2026, 10, 5, 12, tzinfo=UTC),
            }
            for number, (month, terms_from, quantity, amount, line) in enumerate(lines, start=1)
        ],
        schema={
            name: dtype
            for name, dtype in RAW_TABLES["invoices"].schema.create_empty().schema.items()
            if name in payload_columns(RAW_TABLES["invoices"])
        },
    )
    back = read(write_invoices(rows).decode())
    assert back.select(rows.columns).equals(rows)
    assert back[REJECT_REASON].null_count() == len(rows)
