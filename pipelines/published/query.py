"""Ask the published book: SQL on one team's file, read-only.

What belongs here: opening the file safely, running one statement, showing the answer. What does
not: writing what is asked (`publishing.py`), or any figure's formula (`dbt_project/`).
"""

import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

import duckdb
import polars as pl
import polars.selectors as selectors
from rich.table import Table

from pipelines.book import Book
from pipelines.errors import BookError

TEAMS = ("energy", "finance", "operations")
WITH_CONTRACT_PRICES = ("energy", "finance")
Format = Literal["csv", "json", "parquet"]

INSTANT = "%Y-%m-%dT%H:%M:%SZ"
_FORMULA = r"^[=+@\t\r-]"


class QueryError(BookError):
    """The question cannot be answered; the cause says why in one line."""


def run_sql(
    book: Book, team: str, sql: str, parameters: Mapping[str, object] | None = None
) -> pl.DataFrame:
    """The rows one SQL statement gives on what `team` sees; see `opened` and `ask`.

    Raises:
        QueryError: no such team, nothing published yet, or the statement is wrong.
    """
    with opened(book, team) as connection:
        return ask(connection, sql, parameters)


def opened(book: Book, team: str) -> duckdb.DuckDBPyConnection:
    """What `team` sees, for questions that one publication is to answer.

    Tables can be named with or without their schema `marts`; times come back in UTC. A statement
    can reach nothing but the team's file: no other files, no extensions, no settings, no network.

    Raises:
        QueryError: no such team, or nothing published yet.
    """
    if team not in TEAMS:
        raise QueryError([f"team {team!r} does not exist: expected one of {', '.join(TEAMS)}"])
    file = book.published / f"{team}.duckdb"
    if not file.exists():
        raise QueryError([f"{file}: not published yet: run `wattbook run` first"])
    connection = _opened(file)
    connection.execute("set timezone = 'UTC'")
    connection.execute("set search_path = 'marts'")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def ask(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None
) -> pl.DataFrame:
    """The rows one SQL statement gives; `parameters` are the values of `$name` in it.

    Raises:
        QueryError: the statement is wrong.
    """
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise QueryError([f"found {len(statements)} SQL statements: ask one at a time"])
        relation = connection.sql(statements[0], params=dict(parameters or {}))
        if relation is None:
            raise QueryError("the statement gives no rows: ask with select, from, describe or show")
        rows = relation.to_arrow_table()
    except duckdb.Error as error:
        raise QueryError([_one_line(error)]) from error
    return pl.DataFrame(rows)


def _opened(file: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(
            str(file.resolve()),
            read_only=True,
            config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"},
        )
    except duckdb.Error as error:
        raise QueryError(
            [f"{file}: found a damaged file ({_one_line(error)}): run `wattbook publish`"]
        ) from error


def encode(answer: pl.DataFrame, form: Format) -> bytes:
    """An answer as the bytes of a CSV, JSON (one list of objects) or Parquet file.

    Text of a CSV that a spreadsheet would take for a formula gets an apostrophe before it, by which
    it shows as the text it is.
    """
    buffer = io.BytesIO()
    if form == "csv":
        answer.with_columns(
            selectors.datetime().dt.strftime(INSTANT),
            selectors.nested().map_elements(_nested, return_dtype=pl.String),
            selectors.string().str.replace(_FORMULA, "'${0}"),
        ).write_csv(buffer)
    elif form == "json":
        # DuckDB's sums of integers come as decimals, which JSON would show as text.
        answer.with_columns(
            selectors.datetime().dt.strftime(INSTANT),
            (selectors.decimal() - selectors.by_dtype(pl.Decimal(38, 0))).cast(pl.Float64),
            selectors.by_dtype(pl.Decimal(38, 0)).cast(pl.Int128),
        ).write_json(buffer)
        buffer.write(b"\n")
    else:
        answer.write_parquet(buffer)
    return buffer.getvalue()


def table(answer: pl.DataFrame, title: str | None = None) -> Table:
    """An answer as a table for people: numbers to the right, a dash where there is nothing."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name, kind in answer.schema.items():
        shown.add_column(name, justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in answer.iter_rows():
        shown.add_row(*(show(value) for value in row))
    return shown


def show(value: object) -> str:
    """One value as people read it: at least three significant digits, times in UTC."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def _nested(value: object) -> str:
    return str(value.to_list() if isinstance(value, pl.Series) else value)


def _one_line(error: duckdb.Error) -> str:
    """The first paragraph of DuckDB's message, without the copy of the statement below it."""
    return " ".join(str(error).split("\n\n")[0].split())
