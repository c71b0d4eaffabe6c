"""Ask the published book: SQL on one team's file, read-only.

What belongs here: opening the file safely, running one statement, its answer as values and bytes.
What does not: writing what is asked (`publishing.py`), laying an answer out on a terminal
(`display.py`), or any figure's formula (`dbt_project/`).
"""

import difflib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import polars as pl
import polars.selectors as selectors

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published.sql import sql_name

TEAMS = ("energy", "finance", "operations")
WITH_CONTRACT_PRICES = ("energy", "finance")
Format = Literal["csv", "json", "parquet"]
_Answer = TypeVar("_Answer")

INSTANT = "%Y-%m-%dT%H:%M:%SZ"
MARK = "publication.json"
"""What a publication says of itself, beside the team's file."""
COUNTED_WITHIN_S = 1.0
ROWS_AT_ONCE = 2000
_FORMULA = r"^[=+@\t\r-]"
_NUMBERS = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double", "decimal"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint", "bignum"),
}
# Of DuckDB's types those that Polars, or the files it writes, do not know.
_AS_TEXT = re.compile(r"\b(INTERVAL|BIT|BLOB|BIGNUM|UHUGEINT|UNION|TIME WITH TIME ZONE)\b|\[\d+\]")
_NO_ROWS = ["the statement gives no rows: ask with select, from, describe or show"]
_NO_TABLE = re.compile(r'Table with name "?([^"\s]+)"? does not exist')
_TABLES = "select table_name from duckdb_tables() where schema_name = 'marts' order by table_name"


class QueryError(BookError):
    """The question cannot be answered; the cause says why in one line."""


@dataclass(frozen=True)
class Rows:
    """Some rows of an answer, as DuckDB gives them."""

    names: tuple[str, ...]
    is_number: tuple[bool, ...]
    values: list[tuple[Any, ...]]


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
    names = "from duckdb_views() where schema_name = 'main' and not internal"
    if not connection.execute(names).fetchall():
        # What was published before bare names led anywhere; where they do, `show tables` would
        # list each table twice.
        connection.execute("set search_path = 'marts'")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def ask(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None
) -> pl.DataFrame:
    """The rows one SQL statement gives; `parameters` are the values of `$name` in it.

    Intervals, bits, blobs and what else files cannot hold come as text.

    Raises:
        QueryError: the statement is wrong.
    """
    with _told(connection):
        relation = connection.sql(_only(connection, sql), params=dict(parameters or {}))
        if relation is None:
            raise QueryError(_NO_ROWS)
        twice = {name for name in relation.columns if relation.columns.count(name) > 1}
        if twice:
            raise QueryError(
                [f"found column {name} more than once: name each by `as`" for name in sorted(twice)]
            )
        kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
        if any(_AS_TEXT.search(kind) for kind in kinds.values()):
            relation = relation.project(
                ", ".join(
                    f"{sql_name(name)}::varchar as {sql_name(name)}"
                    if _AS_TEXT.search(kind)
                    else sql_name(name)
                    for name, kind in kinds.items()
                )
            )
        return pl.DataFrame(_interruptible(connection, relation.to_arrow_table))


def batches(connection: duckdb.DuckDBPyConnection, sql: str, size: int) -> Iterator[Rows]:
    """The rows of one SQL statement in order, `size` at a time as they come; one batch at least.

    Raises:
        QueryError: the statement is wrong.
    """
    with _told(connection):
        statement = _only(connection, sql)
        _interruptible(connection, lambda: connection.execute(statement))
        if not connection.description:
            raise QueryError(_NO_ROWS)
        names = tuple(name for name, *_ in connection.description)
        is_number = tuple(kind.id in _NUMBERS for _, kind, *_ in connection.description)
        values = _interruptible(connection, lambda: connection.fetchmany(size))
        yield Rows(names, is_number, values)
        while values:
            values = _interruptible(connection, lambda: connection.fetchmany(size))
            if values:
                yield Rows(names, is_number, values)


def first_rows(
    connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None
) -> tuple[Rows, int | None]:
    """The first rows of one SQL statement, all without a limit, and how many it has.

    The others are counted and not fetched; None where that takes longer than people wait.

    Raises:
        QueryError: the statement is wrong.
    """
    if limit is None:
        start, *others = batches(connection, sql, ROWS_AT_ONCE)
        values = [*start.values, *(row for batch in others for row in batch.values)]
        return replace(start, values=values), len(values)
    start = next(batches(connection, sql, limit + 1))
    if len(start.values) <= limit:
        return start, len(start.values)
    connection.abort()
    timer = threading.Timer(COUNTED_WITHIN_S, connection.interrupt)
    timer.start()
    try:
        with _told(connection):
            count = len(connection.sql(_only(connection, sql)))
    except duckdb.InterruptException:
        count = None
    finally:
        timer.cancel()
    return replace(start, values=start.values[:limit]), count


def _interruptible(connection: duckdb.DuckDBPyConnection, work: Callable[[], _Answer]) -> _Answer:
    """What the work comes to. Ctrl-C ends it at once.

    DuckDB looks for signals between its tasks alone, of which one may last for hours where the main
    thread takes it. Here that thread waits, and interrupts.
    """
    with ThreadPoolExecutor(1) as worker:
        answer = worker.submit(work)
        try:
            return answer.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


@contextmanager
def _told(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Say what is wrong with a statement; ctrl-C ends it as it ends anything."""
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise QueryError([_cause(connection, error)]) from error
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from error


def _only(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement of a text."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError([f"found {len(statements)} SQL statements: ask one at a time"])
    return statements[0]


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
            selectors.nested().map_elements(nested_text, return_dtype=pl.String),
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
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return str(value)


def nested_text(value: object) -> str:
    """A list or struct as a file's cell has it."""
    return str(value.to_list() if isinstance(value, pl.Series) else value)


def _cause(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> str:
    """Why a statement failed; of a name that is not there, which there are like it."""
    missing = _NO_TABLE.search(str(error))
    if missing is None or not isinstance(error, duckdb.CatalogException):
        return _one_line(error)
    name = missing[1].rpartition(".")[2]
    names = [name for (name,) in connection.execute(_TABLES).fetchall()]
    if teams := of_other_teams(connection).get(name):
        return f"table {name} is published for {' and '.join(teams)}, not for this team"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    meant = f": did you mean {', '.join(near)}?" if near else ": `wattbook tables` lists them"
    return f"table {name} does not exist{meant}"


def of_other_teams(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Tables that a team does not see -> teams that do, as the publication says beside its file."""
    [(path,)] = connection.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchall()
    mark = Path(path).parent / MARK
    if not mark.exists():
        return {}
    named: dict[str, list[str]] = json.loads(mark.read_text()).get("of_other_teams", {})
    return named


def _one_line(error: duckdb.Error) -> str:
    """DuckDB's message without the copy of the statement in it."""
    parts = str(error).split("\n\n")
    kept = [parts[0], *(part for part in parts[1:] if part.startswith("Candidate bindings"))]
    return " ".join(" ".join(kept).replace("bindings: :", "bindings:").split())
