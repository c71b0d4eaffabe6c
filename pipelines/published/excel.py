"""Answers as Excel workbooks.

What belongs here: what Excel cannot hold, and how values are typed in its cells. What does not:
other files (`query.encode`), and what is asked (`query.py`).
"""

import io
from datetime import UTC, date, datetime

import polars as pl
import polars.selectors as selectors
import xlsxwriter

from pipelines.published.query import QueryError, nested_text

MAX_ROWS = 1_048_575
"""Beside the header."""
MAX_COLUMNS = 16_384
MAX_CHARACTERS = 32_767
# Excel counts days from here and keeps 15 digits of a number.
FIRST_DAY = date(1900, 1, 1)
LAST_DAY = date(9999, 12, 31)
FIRST_UNSAFE_INTEGER = 10**15


def encode(answer: pl.DataFrame) -> bytes:
    """An answer as the bytes of a workbook of one sheet: typed cells below a header that stays.

    Times are without a zone, as Excel knows none, in UTC, as the header says. Text is never run as
    a formula. A column with what Excel would alter (integers beyond 15 digits, dates before 1900)
    is text.

    Raises:
        QueryError: there are more rows, columns or characters than Excel takes.
    """
    if answer.height > MAX_ROWS:
        raise QueryError(
            [
                f"found {answer.height:,} rows, Excel takes {MAX_ROWS:,}: narrow it by where or"
                " limit, or write --format csv or parquet"
            ]
        )
    if answer.width > MAX_COLUMNS:
        raise QueryError(
            [f"found {answer.width:,} columns, Excel takes {MAX_COLUMNS:,}: select those you need"]
        )
    cells = answer.with_columns(
        selectors.nested().map_elements(nested_text, return_dtype=pl.String),
        *(answer[name].cast(pl.String) for name in answer.columns if _is_altered(answer[name])),
    )
    for name in cells.select(selectors.string()).columns:
        longest = cells[name].str.len_chars().max()
        if isinstance(longest, int) and longest > MAX_CHARACTERS:
            raise QueryError(
                [
                    f"{name}: found a text of {longest:,} characters, Excel takes"
                    f" {MAX_CHARACTERS:,}: shorten it by left({name}, {MAX_CHARACTERS}), or write"
                    " --format csv"
                ]
            )
    cells = cells.with_columns(selectors.datetime().dt.replace_time_zone(None)).rename(
        {name: f"{name} (UTC)" for name in answer.select(selectors.datetime(time_zone="*")).columns}
    )
    buffer = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(buffer, {**options, "nan_inf_to_errors": True}) as workbook:
        # The same bytes for the same rows.
        workbook.set_properties({"created": datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)})
        sheet = workbook.add_worksheet("answer")
        head = workbook.add_format({"bold": True, "bottom": 1})
        for column, (name, kind) in enumerate(cells.schema.items()):
            sheet.write_string(0, column, name, head)
            form = workbook.add_format({"num_format": _number_format(kind)})
            sheet.set_column(column, column, _width(name, cells[name], kind), form)
            sheet.write_column(1, column, cells[name].to_list(), form)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, cells.height, max(cells.width - 1, 0))
    return buffer.getvalue()


def _is_altered(column: pl.Series) -> bool:
    """Whether Excel would show other values than these."""
    kind = column.dtype
    if kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0):
        return bool((column.cast(pl.Float64).abs() >= FIRST_UNSAFE_INTEGER).any())
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return not bool(column.dt.year().is_between(FIRST_DAY.year, LAST_DAY.year).all())
    return isinstance(kind, pl.Time)


def _number_format(kind: pl.DataType) -> str:
    if isinstance(kind, pl.Datetime):
        return "yyyy-mm-dd hh:mm:ss"
    if kind == pl.Date:
        return "yyyy-mm-dd"
    if kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0):
        return "#,##0"
    return "General" if not kind.is_numeric() else "#,##0.000"


def _width(name: str, column: pl.Series, kind: pl.DataType) -> int:
    """Of a column, in characters: its name and values, a long text cut off."""
    if isinstance(kind, pl.Datetime):
        longest = 19
    elif kind.is_numeric():
        longest = 14
    else:
        found = column.cast(pl.String).str.len_chars().max()
        longest = found if isinstance(found, int) else 0
    return min(max(len(name) + 3, longest + 1), 60)
