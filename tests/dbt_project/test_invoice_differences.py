"""Invoices of the demo against settlements: every placed error is found, and nothing else."""

import duckdb
import pytest

from pipelines.book import Book


@pytest.fixture(scope="module")
def book(demo_book: Book) -> duckdb.DuckDBPyConnection:
    """The demo's warehouse, with what the simulator placed and knows as `truth_<name>`."""
    connection = duckdb.connect(":memory:")
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"attach '{demo_book.warehouse}' as book (read_only)")
    for name in ("invoice_errors", "settlements"):
        file = demo_book.data_dir / "truth" / f"{name}.parquet"
        connection.execute(f"create view truth_{name} as from read_parquet('{file}')")
    return connection


def test_every_placed_error_is_found_with_its_cause_and_no_other_difference_is_reported(book):
    found = book.execute(
        """
        select contract_id, strftime(local_month, '%Y-%m'), line, cause
        from book.marts.fct_invoice_differences where cause <> 'none' order by all
        """
    ).fetchall()
    placed = book.execute("select * from truth_invoice_errors order by all").fetchall()
    assert found == placed
    assert sorted(cause for *_, cause in placed) == [
        *("clause", "escalation", "fx", "later_reading", "missing_in_invoice"),
        *("not_in_settlement", "price", "rounding", "volume"),
    ]


def test_lines_that_agree_differ_by_nothing_and_the_others_by_a_cent_at_least(book):
    counted = book.execute(
        """
        select cause = 'none' as agrees, bool_and(difference_amount = 0),
            bool_and(abs(difference_amount) >= 0.01), count(*) >= 4
        from book.marts.fct_invoice_differences group by agrees order by agrees
        """
    ).fetchall()
    assert counted == [(False, False, True, True), (True, True, False, True)]


def test_differences_of_a_month_are_what_was_invoiced_less_what_the_simulator_owes(book):
    wrong = book.execute(
        """
        with months as (
            select contract_id, strftime(local_month, '%Y-%m') as month,
                sum(invoice_amount) as invoiced, sum(difference_amount) as difference
            from book.marts.fct_invoice_differences group by all
            having bool_and(coalesce(invoice_currency_code, 'USD') = 'USD')
        )
        select * from months join truth_settlements as t
            on months.contract_id = t.contract_id and months.month = left(t.local_month, 7)
        where abs(invoiced - t.contract_amount - difference) > 0.011
        """
    ).fetchall()
    assert wrong == []


def test_the_line_that_nobody_agreed_on_stands_beside_nothing(book):
    assert book.execute(
        """
        select contract_id, line, invoiced_amount, settled_amount, difference_amount,
            reporting_difference_amount < 1250, contract_currency_code, currency_code, explanation
        from book.marts.fct_invoice_differences where cause = 'not_in_settlement'
        """
    ).fetchall() == [
        (
            *("franklin-lupinus2-vppa", "balancing", 1250.0, 0.0, 1250.0, True, "USD", "EUR"),
            "The contract settles no such line in this month",
        )
    ]
