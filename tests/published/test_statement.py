"""Statements: what is printed and written is what the published lines say."""

import re
from datetime import date
from decimal import Decimal

import duckdb
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipelines.book import Book
from pipelines.cli import app
from pipelines.published import query, statement

# 210 mm less the margins of 14 mm, at 96 pixels an inch.
A4_WIDTH_PX = 688
LINES = """
    select * from (values
        ('lupinus', date '2026-09-01', 1, 'energy', timestamptz '2026-01-01 06:00Z', 'none',
            3000.125, 'MWh', 31.5, false, 94503.94, 7560.32, 80328.35, 1440, 0, 1.0, false, false),
        ('lupinus', date '2026-09-01', 2, 'energy', timestamptz '2026-09-16 05:00Z', 'no_volume',
            0.0, 'MWh', null, false, 0.0, 0.0, 0.0, 1440, 0, 1.0, false, false),
        ('lupinus', date '2026-09-01', 3, 'difference', timestamptz '2026-09-16 05:00Z', 'none',
            10.0, 'MWh', -0.0125, true, -0.13, -0.01, -0.11, 1440, 0, 1.0, false, false),
        ('lupinus', date '2026-09-01', 4, 'node_hours', null, 'none',
            5.0, 'node-hour', 2.6, false, 13.0, 0.0, 13.0, 1440, 0, 1.0, false, true),
        ('lupinus', date '2026-10-01', 1, 'energy', timestamptz '2026-09-16 05:00Z', 'none',
            null, 'MWh', 29.75, false, null, null, null, 2976, 3, 0.999, true, false)
    ) as lines (
        contract_id, local_month, statement_line_number, line, terms_valid_from_at, clause_applied,
        quantity, quantity_unit, unit_price, is_average_price, contract_amount,
        contract_tax_amount, amount, expected_interval_count, missing_interval_count,
        coverage_ratio, is_open, is_shadow
    ),
    (values ('USD', 'EUR', 'standard', 0.08)) as terms (
        contract_currency_code, currency_code, tax_treatment, tax_ratio
    )
"""
CONTRACTS = """
    select * from (values
        ('lupinus', 'ppa_pay_as_produced', 'Lupinus <solar> & co', 'Lupinus LLC', 'franklin',
            'America/Chicago', timestamptz '2026-01-01 06:00Z', timestamptz '2026-09-16 05:00Z'),
        ('lupinus', 'ppa_pay_as_produced', 'Lupinus <solar> & co', 'Lupinus LLC', 'franklin',
            'America/Chicago', timestamptz '2026-09-16 05:00Z', null)
    ) as contracts (
        contract_id, contract_kind, name, counterparty, site_id, time_zone, valid_from_at,
        valid_to_at
    )
"""


@pytest.fixture
def published(book: Book) -> Book:
    """A book of which finance sees two statements of one contract, operations none."""
    book.published.mkdir(parents=True)
    for team in ("finance", "operations"):
        with duckdb.connect(":memory:") as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute(
                f"attach '{book.published / team}.duckdb' as team (storage_version 'v1.2.0')"
            )
            connection.execute("create schema team.marts")
            connection.execute(f"create table team.marts.dim_contracts as {CONTRACTS}")
            if team == "finance":
                connection.execute(f"create table team.marts.fct_contract_statements as {LINES}")
    return book


@pytest.fixture
def september(published: Book) -> statement.Statement:
    return statement.read(published, "finance", "lupinus", date(2026, 9, 1))


def printed(parts: statement.Statement) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        for part in statement.table(parts):
            console.print(part)
    return capture.get()


def test_totals_are_the_sums_of_the_rounded_lines_without_shadow_prices(september) -> None:
    assert september.totals == {
        "net": Decimal("94503.81"),
        "tax": Decimal("7560.31"),
        "gross": Decimal("102064.12"),
        "reporting": Decimal("80328.24"),
    }


def test_the_statement_prints_its_lines_terms_and_clauses(september) -> None:
    rows = [
        [cell.strip() for cell in line.strip("│┃").split("│")]
        for line in printed(september).splitlines()
        if line.startswith("│")
    ]
    amounts = ["94,503.94", "7,560.32", "80,328.35"]
    assert rows == [
        ["energy", "2026-01-01", "", "3,000.125 MWh", "31.5000", *amounts],
        ["energy", "2026-09-16", "no volume", "0.000 MWh", "", "0.00", "0.00", "0.00"],
        ["difference", "2026-09-16", "", "10.000 MWh", "⌀ -0.0125", "-0.13", "-0.01", "-0.11"],
        ["node hours (shadow)", "", "", "5.000 node-hour", "2.6000", "13.00", "0.00", "13.00"],
        ["net", "", "", "", "", "94,503.81", "7,560.31", "80,328.24"],
    ]


def test_an_unfinished_month_with_gaps_has_no_total_and_says_why(published) -> None:
    october = statement.read(published, "finance", "lupinus", date(2026, 10, 1))
    assert october.totals == {"net": None, "tax": None, "gross": None, "reporting": None}
    assert list(statement.remarks(october)) == [
        "The month is not over: the amounts are those so far.",
        "energy: 3 of 2976 intervals lack a reading or a price, "
        "so that the line has no amount yet.",
    ]


def test_csv_holds_the_lines_and_html_shows_them_without_asking_anybody(
    september, tmp_path
) -> None:
    csv, html = statement.write(september, tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in (csv, html)] == [
        "lupinus/2026-09.csv",
        "lupinus/2026-09.html",
    ]
    lines = pl.read_csv(csv)
    assert lines["contract_amount"].to_list() == [94503.94, 0.0, -0.13, 13.0]
    page = html.read_text()
    cells = re.findall(r'<td class="number"[^>]*>([^<]*)</td>', page)
    assert cells[:6] == ["3,000.125 MWh", "31.5000", "94,503.94", "7,560.32", "80,328.35", "100.0%"]
    assert cells[-4:] == ["94,503.81", "7,560.31", "80,328.24", "102,064.12"]
    assert "Lupinus &lt;solar&gt; &amp; co" in page
    assert not re.search(r"https?:|src=|@import|url\(", page)


def test_no_column_is_cut_off_on_screen_or_paper(browser, september, tmp_path) -> None:
    _, html = statement.write(september, tmp_path)
    for media, width in (("screen", 390), ("screen", 1440), ("print", A4_WIDTH_PX)):
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.emulate_media(media=media)
        tab.goto(html.as_uri())
        widest = tab.evaluate(
            "Math.max(...[...document.querySelectorAll('.wide, html')]"
            ".map(element => element.scrollWidth - element.clientWidth))"
        )
        assert widest <= 0, (media, width)
        tab.close()


@pytest.mark.parametrize(
    ("team", "contract", "month", "cause"),
    [
        (
            "finance",
            "nobody",
            date(2026, 9, 1),
            "contract 'nobody' does not exist: expected one of lupinus",
        ),
        (
            "finance",
            "lupinus",
            date(2026, 8, 1),
            "contract 'lupinus' has no statement for 2026-08: there are 2026-09, 2026-10",
        ),
        (
            "operations",
            "lupinus",
            date(2026, 9, 1),
            "team 'operations' does not see statements: ask as finance or energy (--team)",
        ),
    ],
)
def test_a_statement_that_is_not_there_says_what_is(published, team, contract, month, cause):
    with pytest.raises(statement.StatementError) as refused:
        statement.read(published, team, contract, month)
    assert refused.value.causes == [cause]


def test_the_command_prints_the_statement_and_writes_it_where_asked(published, tmp_path) -> None:
    def ask(*arguments: str):
        command = ["--data-dir", str(published.data_dir), "statement", "lupinus", *arguments]
        return CliRunner().invoke(app, command)

    folder = published.published / "statements" / "lupinus"
    usual = ask("2026-09")
    assert (usual.exit_code, usual.stdout.splitlines()[-2:]) == (
        0,
        [f"wrote {folder / '2026-09.csv'}", f"wrote {folder / '2026-09.html'}"],
    )
    assert "102,064.12" in (folder / "2026-09.html").read_text()
    assert "94,503.94" in usual.stdout

    elsewhere = ask("2026-10", "--team", "finance", "--output", str(tmp_path / "out"))
    assert elsewhere.exit_code == 0
    assert sorted(file.name for file in (tmp_path / "out" / "lupinus").iterdir()) == [
        "2026-10.csv",
        "2026-10.html",
    ]

    refused = ask("2026-09", "--team", "operations")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "error: team 'operations' does not see statements: ask as finance or energy (--team)\n",
    )


@pytest.mark.parametrize("text", ["2026-13", "2026-9", "September", "2026-09-01", ""])
def test_a_month_is_given_as_year_and_month(text) -> None:
    with pytest.raises(ValueError, match=r"2026|month"):
        statement.parse_month(text)


def test_a_question_takes_the_values_of_its_parameters(published) -> None:
    answer = query.run_sql(
        published,
        "finance",
        "select count(*) as n from dim_contracts where name = $name",
        {"name": "Lupinus <solar> & co"},
    )
    assert answer.rows() == [(2,)]
