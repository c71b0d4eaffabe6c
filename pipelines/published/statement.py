"""A contract's statement of one month: printed, and as CSV and HTML, as an invoice reads.

What belongs here: reading `fct_contract_statements` from the published book and laying it out. What
does not: what a line amounts to, or its rounding (`dbt_project/`). The totals at the foot are sums
of lines that are rounded already, so that they add up by hand.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published import page, query

_TERMS = """
    select *
    from dim_contracts
    where
        contract_id = $contract
        and coalesce(valid_from_at, timestamptz '-infinity') at time zone time_zone
        < cast($month as date) + interval 1 month
    order by valid_from_at desc nulls last
    limit 1
"""
_LINES = """
    select *
    from fct_contract_statements
    where contract_id = $contract and local_month = cast($month as date)
    order by statement_line_number
"""
_KNOWN_MONTHS = """
    select strftime(local_month, '%Y-%m') as month
    from fct_contract_statements
    where contract_id = $contract
    group by local_month
    order by local_month
"""
_CONTRACTS = "select distinct contract_id from dim_contracts order by contract_id"


class StatementError(BookError):
    """There is no such statement; the cause says what there is."""


@dataclass(frozen=True)
class Statement:
    """One contract and local month."""

    contract: dict[str, Any]
    """Row of `dim_contracts` of the latest terms in force in the month."""
    month: date
    lines: pl.DataFrame
    """Rows of `fct_contract_statements`, in the order of the statement."""

    @property
    def name(self) -> str:
        """Folder and file it goes to, without suffix: `<contract>/<month>`."""
        return f"{self.contract['contract_id']}/{self.month:%Y-%m}"

    @property
    def is_open(self) -> bool:
        """Whether the month is not over in the book."""
        return bool(self.lines["is_open"].any())

    @property
    def totals(self) -> dict[str, Decimal | None]:
        """Net, tax and gross in the contract's currency, net in the reporting currency.

        None where a line is missing. Lines reckoned at a shadow price are nobody's debt and count
        in no total.
        """
        due = self.lines.filter(~pl.col("is_shadow"))
        net, tax, reporting = (
            _sum(due[name]) for name in ("contract_amount", "contract_tax_amount", "amount")
        )
        gross = None if net is None or tax is None else net + tax
        return {"net": net, "tax": tax, "gross": gross, "reporting": reporting}


def read(book: Book, team: str, contract_id: str, month: date) -> Statement:
    """The statement of a contract for a local month, as the team sees it.

    Raises:
        StatementError: no such contract or month, or the team may not see statements.
        QueryError: nothing is published yet.
    """
    tables = query.run_sql(book, team, "select table_name from information_schema.tables")
    if "fct_contract_statements" not in tables["table_name"].to_list():
        raise StatementError(
            [f"team {team!r} does not see statements: ask as finance or energy (--team)"]
        )
    asked = {"contract": contract_id, "month": month}
    terms = query.run_sql(book, team, _TERMS, asked)
    if terms.is_empty():
        known = query.run_sql(book, team, _CONTRACTS)["contract_id"].to_list()
        raise StatementError(
            [f"contract {contract_id!r} does not exist: expected one of {', '.join(known)}"]
        )
    lines = query.run_sql(book, team, _LINES, asked)
    if lines.is_empty():
        months = query.run_sql(book, team, _KNOWN_MONTHS, {"contract": contract_id})["month"]
        there = ", ".join(months) if len(months) else "none yet"
        raise StatementError(
            [f"contract {contract_id!r} has no statement for {month:%Y-%m}: there are {there}"]
        )
    return Statement(terms.row(0, named=True), month, lines)


def parse_month(text: str) -> date:
    """The first day of a month given as 2026-09.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"\d{4}-\d{2}", text):
        raise ValueError(f"found {text!r}, expected a month as 2026-09")
    return date.fromisoformat(f"{text}-01")


def write(statement: Statement, folder: Path) -> list[Path]:
    """Write `<contract>/<month>.csv` and `.html` below `folder`; the files written."""
    csv, html = (folder / f"{statement.name}.{suffix}" for suffix in ("csv", "html"))
    csv.parent.mkdir(parents=True, exist_ok=True)
    csv.write_bytes(query.encode(statement.lines, "csv"))
    html.write_text(render(statement), encoding="utf-8")
    return [csv, html]


def render(statement: Statement) -> str:
    """The statement as one HTML page that needs nothing else."""
    return page.render(
        "statement.html.j2",
        contract=statement.contract,
        month=statement.month,
        lines=list(_shown_lines(statement)),
        totals={name: _money(amount) for name, amount in statement.totals.items()},
        currency_code=statement.lines["contract_currency_code"][0],
        reporting_currency_code=statement.lines["currency_code"][0],
        has_shadow=bool(statement.lines["is_shadow"].any()),
        remarks=list(remarks(statement)),
    )


def table(statement: Statement) -> Iterator[Table | str]:
    """What to print, one part after the other."""
    contract, currency = statement.contract, statement.lines["contract_currency_code"][0]
    shown = Table(
        title=f"{contract['name']} ({contract['contract_kind']}), {contract['counterparty']}: "
        f"{statement.month:%Y-%m}",
        title_justify="left",
        show_footer=True,
    )
    totals = statement.totals
    for name, footer in (
        ("line", "net"),
        ("terms from", ""),
        ("clause", ""),
        ("quantity", ""),
        ("unit price", ""),
        (f"amount {currency}", _money(totals["net"])),
        (f"tax {currency}", _money(totals["tax"])),
        (f"amount {statement.lines['currency_code'][0]}", _money(totals["reporting"])),
    ):
        is_text = name in ("line", "terms from", "clause")
        shown.add_column(name, footer, justify="left" if is_text else "right")
    for line in _shown_lines(statement):
        shown.add_row(
            line["line"] + (" (shadow)" if line["is_shadow"] else ""),
            line["terms_from"],
            line["clause"],
            line["quantity"],
            line["unit_price"],
            line["contract_amount"],
            line["contract_tax_amount"],
            line["amount"],
        )
    yield shown
    yield from remarks(statement)


def remarks(statement: Statement) -> Iterator[str]:
    """What a reader has to know before paying."""
    if statement.is_open:
        yield "The month is not over: the amounts are those so far."
    for row in statement.lines.filter(pl.col("missing_interval_count") > 0).iter_rows(named=True):
        yield (
            f"{_words(row['line'])}: {row['missing_interval_count']} of"
            f" {row['expected_interval_count']} intervals lack a reading or a price,"
            " so that the line has no amount yet."
        )
    if statement.lines["is_average_price"].any():
        yield "Unit prices marked ⌀ are means, weighted by quantity."


def _shown_lines(statement: Statement) -> Iterator[dict[str, Any]]:
    time_zone = statement.contract["time_zone"]
    local_from = statement.lines["terms_valid_from_at"].dt.convert_time_zone(time_zone)
    for row, terms_from in zip(
        statement.lines.iter_rows(named=True), local_from.to_list(), strict=True
    ):
        mark = "⌀ " if row["is_average_price"] else ""
        yield {
            "number": row["statement_line_number"],
            "line": _words(row["line"]),
            "terms_from": "" if terms_from is None else f"{terms_from:%Y-%m-%d}",
            "clause": ""
            if row["clause_applied"] in (None, "none")
            else _words(row["clause_applied"]),
            "quantity": ""
            if row["quantity"] is None
            else f"{row['quantity']:,.3f} {row['quantity_unit']}",
            "unit_price": "" if row["unit_price"] is None else f"{mark}{row['unit_price']:,.4f}",
            "contract_amount": _money(row["contract_amount"]),
            "contract_tax_amount": _money(row["contract_tax_amount"]),
            "amount": _money(row["amount"]),
            "tax": _tax(row["tax_treatment"], row["tax_ratio"]),
            "is_shadow": row["is_shadow"],
            "coverage": f"{row['coverage_ratio']:.1%}",
        }


def _sum(amounts: pl.Series) -> Decimal | None:
    """The exact sum of amounts that are rounded to the cent; None where one is missing."""
    if amounts.null_count():
        return None
    return sum((Decimal(str(amount)) for amount in amounts.to_list()), Decimal(0))


def _money(amount: float | Decimal | None) -> str:
    return "-" if amount is None else f"{amount:,.2f}"


def _tax(treatment: str, ratio: float) -> str:
    return f"{ratio:.3%}".rstrip("0%").rstrip(".") + " %" if ratio else _words(treatment)


def _words(name: str) -> str:
    return name.replace("_", " ")
