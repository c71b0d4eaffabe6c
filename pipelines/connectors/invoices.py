"""Invoice CSV: the lines that a contract's counterparty charged, one table for all counterparties.

What belongs here: that table and reading it. What does not: what the book itself settles a
contract at, and whether the two agree (dbt, `fct_invoice_differences`).

Columns, in any order, others ignored:

| column | what |
|---|---|
| `invoice_id` | the counterparty's number; a later file with the same number replaces its lines |
| `line_number` | of the invoice, from 1 |
| `contract_id` | as in reference/contracts |
| `billing_month` | the contract's local month, as 2026-09 |
| `line` | what is charged, as in the statement: energy, difference, demand, fixed_fee … |
| `terms_from` | local date since when the terms charged for hold; optional |
| `quantity`, `quantity_unit` | e.g. 1234.567 MWh; optional for a line without quantity |
| `unit_price` | per quantity unit; optional |
| `amount`, `currency_code` | net of tax, positive when the buyer pays |
| `issued_at` | ISO 8601 with Z or an offset |
"""

import polars as pl

from pipelines.connectors.common import Context, Tables
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    csv_rows,
    instant,
    number,
    require_columns,
    shown,
    text,
)

_REQUIRED = [
    "invoice_id",
    "line_number",
    "contract_id",
    "billing_month",
    "line",
    "amount",
    "currency_code",
    "issued_at",
]
_OPTIONAL = ["terms_from", "quantity", "quantity_unit", "unit_price"]
_EXPECTED = f"an invoice CSV with the columns {', '.join(_REQUIRED)}"


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read invoice lines; `known_at` is the time of issue.

    Raises:
        UnreadableFile: when it is not such a CSV.
    """
    del file_name, context
    rows = csv_rows(content, expected=_EXPECTED)
    require_columns(rows, _REQUIRED, expected=_EXPECTED)
    rows = rows.with_columns(
        pl.lit(None, pl.String).alias(name) for name in _OPTIONAL if name not in rows.columns
    )
    fields = {
        "invoice_id": text("invoice_id").required("invoice_id", "the counterparty's number"),
        "invoice_line_number": _line_number(),
        "contract_id": text("contract_id").required("contract_id", "a contract of reference"),
        "billing_month": _date("billing_month", pl.col("billing_month") + "-01", "2026-09"),
        "line": text("line").required("line", "what is charged, e.g. energy"),
        "terms_from": _date("terms_from", pl.col("terms_from"), "2026-09-16"),
        "quantity": number("quantity"),
        "quantity_unit": text("quantity_unit"),
        "unit_price": number("unit_price"),
        "amount": number("amount").required("amount", "what is charged, net of tax"),
        "currency_code": _currency(),
        "issued_at": instant("issued_at").required("issued_at", "a time with its zone"),
    }
    fields["billing_month"] = fields["billing_month"].required("billing_month", "a month, 2026-09")
    fields["known_at"] = Field(fields["issued_at"].value)
    return {"invoices": assemble(rows, fields)}


def _line_number() -> Field:
    raw = pl.col("line_number")
    value = raw.cast(pl.Int64, strict=False)
    is_fine = (value >= 1).fill_null(value=False)
    told = pl.format("line_number '{}': expected a whole number from 1", shown(raw))
    field = Field(pl.when(is_fine).then(value), (Problem(raw.is_not_null() & ~is_fine, told),))
    return field.required("line_number", "a whole number from 1")


def _date(name: str, iso: pl.Expr, example: str) -> Field:
    value = iso.str.to_date("%Y-%m-%d", strict=False)
    told = pl.format(f"{name} '{{}}': expected as {example}", shown(pl.col(name)))
    return Field(value, (Problem(pl.col(name).is_not_null() & value.is_null(), told),))


def _currency() -> Field:
    raw = pl.col("currency_code")
    is_fine = raw.str.contains("^[A-Z]{3}$")
    told = pl.format("currency_code '{}': expected three letters such as EUR", shown(raw))
    field = Field(pl.when(is_fine).then(raw), (Problem(~is_fine, told),))
    return field.required("currency_code", "three letters such as EUR")
