"""Workbooks: typed cells, text that stays text, and what Excel cannot hold."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import openpyxl
import polars as pl
import pytest

from pipelines.published import excel
from pipelines.published.query import QueryError


def sheet(answer: pl.DataFrame):
    return openpyxl.load_workbook(io.BytesIO(excel.encode(answer))).active


def test_cells_are_typed_and_times_are_in_utc_as_the_header_says():
    found = sheet(
        pl.DataFrame(
            {
                "site_id": ["juelich", None],
                "started_at": [datetime(2026, 10, 25, 1, 30, tzinfo=UTC), None],
                "local_date": [date(2026, 10, 25), None],
                "amount": [Decimal("12.50"), None],
                "row_count": [3, None],
                "is_open": [True, None],
            }
        )
    )
    assert list(found.values) == [
        ("site_id", "started_at (UTC)", "local_date", "amount", "row_count", "is_open"),
        (
            *("juelich", datetime(2026, 10, 25, 1, 30), datetime(2026, 10, 25), 12.5, 3, True),  # noqa: DTZ001
        ),
        (None,) * 6,
    ]
    assert [cell.data_type for cell in found[2]] == ["s", "d", "d", "n", "n", "b"]
    assert found.freeze_panes == "A2"
    assert found.column_dimensions["B"].width > len("started_at (UTC)")


@pytest.mark.parametrize("text", ["=1+1", "{=A1}", "+1", "@sum", "http://example.org", "-2"])
def test_text_is_never_run_as_a_formula_nor_made_a_link(text):
    cell = sheet(pl.DataFrame({"name": [text]}))["A2"]
    assert (cell.value, cell.data_type, cell.hyperlink) == (text, "s", None)


def test_what_excel_would_alter_is_text():
    found = sheet(
        pl.DataFrame(
            {
                "id": [1234567890123456789, 1],
                "since": [date(1899, 12, 31), date(2026, 1, 1)],
                "counts": [[1, 2], [3]],
            }
        )
    )
    assert list(found.values)[1:] == [
        ("1234567890123456789", "1899-12-31", "[1, 2]"),
        ("1", "2026-01-01", "[3]"),
    ]


def test_more_rows_than_excel_takes_are_refused_with_what_mends_it():
    with pytest.raises(QueryError) as error:
        excel.encode(pl.DataFrame({"n": range(1_048_576)}))
    assert error.value.causes == [
        "found 1,048,576 rows, Excel takes 1,048,575: narrow it by where or limit, or write"
        " --format csv or parquet"
    ]


def test_a_text_that_excel_would_drop_is_refused_with_what_mends_it():
    with pytest.raises(
        QueryError, match=r"note: found a text of 32,768 characters.*left\(note, 32"
    ):
        excel.encode(pl.DataFrame({"note": ["x" * 32_768]}))
