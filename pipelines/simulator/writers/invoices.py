"""Invoice CSV from invoice lines.

What belongs here: the text of the table described in `connectors/invoices.py`. What does not: what
a counterparty charges (the simulator).
"""

import polars as pl

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def write_invoices(invoices: pl.DataFrame) -> bytes:
    """Write one line per invoice line; amounts and prices as given, dates in ISO 8601."""
    return (
        invoices.select(
            "invoice_id",
            pl.col("invoice_line_number").alias("line_number"),
            "contract_id",
            pl.col("billing_month").dt.strftime("%Y-%m"),
            "line",
            pl.col("terms_from").dt.strftime("%Y-%m-%d"),
            "quantity",
            "quantity_unit",
            "unit_price",
            "amount",
            "currency_code",
            pl.col("issued_at").dt.strftime(_TIME),
        )
        .write_csv()
        .encode()
    )
