"""What teams get to read, in PostgreSQL too: one schema per team, changed in one transaction.

What belongs here: loading what changed of the teams' published files into the database that
`WATTBOOK_POSTGRES_DSN` names. What does not: who sees what (`publishing.py` has decided it in the
files that are loaded), and the roles that may read (`deploy/postgres-roles.sql`, which an
administrator runs).

Schema `wattbook` holds, for the publisher alone, what the teams' schemas hold: `publications`, one
row per team, says what its tables were made from; `parts` has one row per table and UTC day with
the digest of the day's rows. Only days whose digest differs are replaced, by `delete` and `copy`:
readers wait for neither, and see the state before until the transaction ends. Where the database
holds the publication from which the files took over months, those are not looked at. A table that
is new, or has other columns than before, is written beside the old one and takes its name in the
end, which is the one thing that readers may wait for, `LOCK_MILLISECONDS` at most.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published.sql import sql_name, sql_text

if TYPE_CHECKING:
    from adbc_driver_postgresql.dbapi import Connection, Cursor

DSN_VARIABLE = "WATTBOOK_POSTGRES_DSN"
ROLES = "deploy/postgres-roles.sql"
LOCK_TRIES = 60

TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
}
"""DuckDB's types and those of PostgreSQL that stand for them; all else is text there."""
DAYS = ("DATE", "TIMESTAMP WITH TIME ZONE")

PARTS = {
    "schema_name": pl.String,
    "table_name": pl.String,
    "part": pl.String,
    "row_count": pl.Int64,
    "digest": pl.String,
}
TABLE = {"schema_name": pl.String, "table_name": pl.String}
BOOKKEEPING = (
    """
    create table if not exists wattbook.publications (
        schema_name text primary key,
        built_from text not null,
        published_at timestamptz not null default now()
    )
    """,
    """
    create table if not exists wattbook.parts (
        schema_name text,
        table_name text,
        part text,
        row_count bigint not null,
        digest text not null,
        primary key (schema_name, table_name, part)
    )
    """,
)
COLUMNS = """
    select
        namespaces.nspname as schema_name,
        tables.relname as table_name,
        columns.attname as column_name,
        format_type(columns.atttypid, columns.atttypmod) as data_type,
        col_description(tables.oid, columns.attnum) as comment,
        obj_description(tables.oid, 'pg_class') as table_comment
    from pg_class as tables
    inner join pg_namespace as namespaces on tables.relnamespace = namespaces.oid
    left join pg_attribute as columns
        on tables.oid = columns.attrelid and columns.attnum > 0 and not columns.attisdropped
    where
        tables.relkind = 'r'
        and pg_get_userbyid(tables.relowner) = current_user
        and namespaces.nspname in ({schemas})
    order by tables.oid, columns.attnum
"""
# A reader may be at work on a table that is to go, and others wait behind who waits for it. That
# may take less than a second for all tables together, and is tried again after a while. It is SQL
# since ADBC does not go on after a statement that failed before all is rolled back.
DROP = """
    do $$
    declare
        name text;
        started_at timestamptz;
        waited integer;
    begin
        for attempt in 1..{tries} loop
            begin
                started_at := clock_timestamp();
                foreach name in array array[{tables}] loop
                    waited := 1000 * extract(epoch from clock_timestamp() - started_at);
                    perform set_config('lock_timeout', greatest(1, 700 - waited)::text, true);
                    execute 'lock table ' || name || ' in access exclusive mode';
                end loop;
                foreach name in array array[{tables}] loop
                    execute 'drop table ' || name;
                end loop;
                return;
            exception when lock_not_available then
                perform pg_sleep(0.5);
            end;
        end loop;
        raise exception 'could not replace %, since queries on them do not end',
            array_to_string(array[{tables}], ', ')
            using errcode = 'lock_not_available';
    end
    $$
"""
# What the server says of itself; more of a message may quote what a connection string holds.
TOLD = (
    "password authentication failed",
    "no pg_hba.conf entry",
    "could not translate host name",
    "Connection refused",
    "No such file or directory",
    "timeout expired",
    "does not exist",
    "too many clients",
    "the database system is",
    "SSL",
)


class PostgresError(BookError):
    """PostgreSQL could not be given what was published; it holds what it held before."""


@dataclass(frozen=True)
class Table:
    """A table as it is in PostgreSQL, or is to be."""

    comment: str | None
    columns: dict[str, str]
    """Column -> PostgreSQL's type."""
    comments: dict[str, str | None]
    day: str | None = None
    """The column whose UTC days are replaced each by itself; none where the table is small."""


Tables = dict[tuple[str, str], Table]


@dataclass(frozen=True)
class Kept:
    """What a publication of a team has taken over from one before."""

    built_from: str
    """What that one was made from."""
    first_new: Mapping[str, tuple[str, date]]
    """Table -> column, and the day in it from which rows are not taken over; others are new."""


def publish(
    dsn: str, book: Book, made_from: Mapping[str, str], kept: Mapping[str, Kept | None]
) -> None:
    """Load what changed of each team's published file into its schema, in one transaction.

    `made_from` says of each team what its files were made from, `kept` what they took over.

    Raises:
        PostgresError: nothing was changed; the cause says what mends it.
    """
    with _files(book, made_from) as files, _connected(dsn) as connection:
        _check_schemas(connection, made_from)
        with connection.cursor() as cursor:
            cursor.execute("select pg_try_advisory_xact_lock(hashtext('wattbook.publications'))")
            if not cursor.fetchone()[0]:
                raise PostgresError(
                    ["PostgreSQL: found another publication under way: publish again when it ended"]
                )
            for statement in BOOKKEEPING:
                cursor.execute(statement)
            cursor.execute("select schema_name, built_from from wattbook.publications")
            held = dict(cursor.fetchall())
            first_new = {
                (team, table): first
                for team, taken in kept.items()
                if taken is not None and taken.built_from == held.get(team)
                for table, first in taken.first_new.items()
            }
            _replace(cursor, files, made_from, first_new)
            cursor.execute("delete from wattbook.publications")
            now = pl.DataFrame(
                list(made_from.items()), schema=["schema_name", "built_from"], orient="row"
            )
            _append(cursor, "wattbook", "publications", now.to_arrow())
        connection.commit()


def is_current(dsn: str, made_from: Mapping[str, str]) -> bool:
    """Whether the schemas of the teams hold what was made from this; not where nobody answers."""
    try:
        with _connected(dsn) as connection:
            found = _rows(
                connection, "select to_regclass('wattbook.publications') is not null as is_there"
            )
            if not found["is_there"].item():
                return False
            rows = _rows(connection, "select schema_name, built_from from wattbook.publications")
    except PostgresError:
        return False
    return dict(rows.iter_rows()) == dict(made_from)


def _replace(
    cursor: "Cursor",
    files: duckdb.DuckDBPyConnection,
    made_from: Mapping[str, str],
    first_new: Mapping[tuple[str, str], tuple[str, date]],
) -> None:
    """Make the teams' tables those of the files; what is the same stays untouched.

    Of tables in `first_new` all rows before that day are the same, without looking at them.
    """
    schemas = ", ".join(map(sql_text, made_from))
    found, wanted = _tables_found(cursor, schemas), _tables_wanted(files, made_from)
    renewed = [
        key
        for key, table in wanted.items()
        if key not in found or list(found[key].columns.items()) != list(table.columns.items())
    ]
    cursor.execute("select schema_name, table_name, part, row_count, digest from wattbook.parts")
    before = _frame(cursor, PARTS)
    first = {
        key: first
        for key, (day, first) in first_new.items()
        if key in wanted and key not in renewed and wanted[key].day == day
    }
    taken_over = before.join(
        pl.DataFrame(
            [(*key, str(day)) for key, day in first.items()],
            schema={**TABLE, "first": pl.String},
            orient="row",
        ),
        on=list(TABLE),
    ).filter(pl.col("part") < pl.col("first"))
    after = pl.concat(
        [
            taken_over.select(list(PARTS)),
            *(_parts(files, key, table, first.get(key)) for key, table in wanted.items()),
        ]
    )
    kept = before.join(after, on=list(PARTS), how="semi").join(
        pl.DataFrame(renewed, schema=TABLE, orient="row"), on=list(TABLE), how="anti"
    )
    gone, come = (
        parts.join(kept, on=list(PARTS), how="anti").partition_by(list(TABLE), as_dict=True)
        for parts in (before, after)
    )
    for key, table in wanted.items():
        if key in renewed:
            _make(cursor, files, key, table, come.get(key))
            continue
        if key in gone:
            _delete(cursor, key, table, gone[key])
        _copy(cursor, files, key, table, key[1], come.get(key))
        _describe(cursor, key, key[1], table, found[key])
    _keep_account(cursor, gone, come)
    _swap(cursor, renewed, sorted(set(found) - set(wanted)), found)


def _files(book: Book, teams: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """The teams' published files, each attached under the name of its team."""
    connection = duckdb.connect(":memory:")
    connection.execute("set timezone = 'UTC'; set enable_progress_bar = false")
    for team in teams:
        file = (book.published / f"{team}.duckdb").resolve()
        connection.execute(f"attach {sql_text(file)} as {sql_name(team)} (read_only)")
    return connection


def _tables_wanted(files: duckdb.DuckDBPyConnection, teams: Mapping[str, str]) -> Tables:
    rows = files.execute(
        "select columns.database_name, columns.table_name, any_value(tables.comment),"
        " list([columns.column_name, columns.data_type, columns.comment]"
        " order by columns.column_index)"
        " from duckdb_columns() as columns"
        " inner join duckdb_tables() as tables using (database_name, schema_name, table_name)"
        " where columns.schema_name = 'marts'"
        " group by columns.database_name, columns.table_name order by all"
    ).fetchall()
    return {
        (team, table): Table(
            comment,
            {name: _type(kind) for name, kind, _ in columns},
            {name: said or None for name, _, said in columns},
            next((name for name, kind, _ in columns if kind in DAYS), None),
        )
        for team, table, comment, columns in rows
        if team in teams
    }


def _type(kind: str) -> str:
    """PostgreSQL's type for one of DuckDB, as `format_type` writes it."""
    if kind.endswith("[]"):
        return f"{_type(kind.removesuffix('[]'))}[]"
    if kind.startswith("DECIMAL"):
        return kind.replace("DECIMAL", "numeric")
    return TYPES.get(kind, "text")


def _tables_found(cursor: "Cursor", schemas: str) -> Tables:
    cursor.execute(COLUMNS.format(schemas=schemas))
    tables: Tables = {}
    for schema, name, column, kind, comment, table_comment in cursor.fetchall():
        table = tables.setdefault((schema, name), Table(table_comment, {}, {}))
        if column is not None:
            table.columns[column], table.comments[column] = kind, comment
    return tables


def _parts(
    files: duckdb.DuckDBPyConnection, key: tuple[str, str], table: Table, first: date | None
) -> pl.DataFrame:
    """Rows and digest of each part of a table, from a day on."""
    condition = f" where {sql_name(str(table.day))} >= date '{first}'" if first else ""
    parts = files.sql(
        f"select {_part(table)} as part, count(*) as row_count,"
        f" cast(sum(hash(seen)) as varchar) as digest from {_source(key)} as seen{condition}"
        " group by all"
    ).pl()
    return parts.select(
        pl.lit(key[0]).alias("schema_name"), pl.lit(key[1]).alias("table_name"), *parts.columns
    ).cast(PARTS)


def _part(table: Table) -> str:
    """SQL of the UTC day of a row, empty where it has none."""
    return (
        "''" if table.day is None else f"coalesce(cast({sql_name(table.day)}::date as varchar), '')"
    )


def _make(
    cursor: "Cursor",
    files: duckdb.DuckDBPyConnection,
    key: tuple[str, str],
    table: Table,
    parts: pl.DataFrame | None,
) -> None:
    """Write a table beside the one it will replace: created there, readers' rights are its own."""
    name = f"{key[1]}.new"
    target = f"{sql_name(key[0])}.{sql_name(name)}"
    columns = ", ".join(f"{sql_name(column)} {kind}" for column, kind in table.columns.items())
    cursor.execute(f"create table {target} ({columns})")
    _copy(cursor, files, key, table, name, parts)
    if table.day is not None:
        cursor.execute(f"create index on {target} ({sql_name(table.day)})")
    _describe(cursor, key, name, table, None)


def _copy(
    cursor: "Cursor",
    files: duckdb.DuckDBPyConnection,
    key: tuple[str, str],
    table: Table,
    target: str,
    parts: pl.DataFrame | None,
) -> None:
    """Add the rows of the parts to a table.

    Raises:
        PostgresError: a value is none of PostgreSQL's.
    """
    if parts is None:
        return
    columns = ", ".join(
        f"{_value(sql_name(name), kind)} as {sql_name(name)}"
        for name, kind in table.columns.items()
    )
    days = ", ".join(map(sql_text, parts["part"]))
    rows = files.sql(f"select {columns} from {_source(key)} where {_part(table)} in ({days})")
    try:
        _append(cursor, key[0], target, rows.to_arrow_reader(100_000))
    except duckdb.Error as error:
        raise PostgresError(
            [
                f"PostgreSQL: {key[0]}.{key[1]}: found what it cannot take"
                f" ({' '.join(str(error).split())}): mend its model, build and publish again"
            ]
        ) from error


def _value(column: str, kind: str) -> str:
    """SQL of a column as PostgreSQL takes it."""
    if kind == "text":
        # A character that text of PostgreSQL cannot hold.
        return f"replace(cast({column} as varchar), chr(0), '')"
    if kind.startswith(("date", "timestamp")) and not kind.endswith("[]"):
        # ADBC would make another time of it.
        return f"case when isinf({column}) then error('found an infinite time') else {column} end"
    return column


def _delete(cursor: "Cursor", key: tuple[str, str], table: Table, parts: pl.DataFrame) -> None:
    """Take the rows of the parts out of a table.

    Raises:
        PostgresError: they are not those that were loaded.
    """
    cursor.execute(f"delete from {_source(key, '')} where {_of_parts(table, parts['part'])}")
    expected = parts["row_count"].sum()
    if cursor.rowcount != expected:
        raise PostgresError(
            [
                f"PostgreSQL: {key[0]}.{key[1]}: found {cursor.rowcount} rows of what was published"
                f" before, expected {expected}: somebody else has written there: drop the table and"
                " publish again"
            ]
        )


def _of_parts(table: Table, parts: pl.Series) -> str:
    """SQL of whether a row is of the parts, in ranges that the index of the column serves."""
    if table.day is None:
        return "true"
    day = sql_name(table.day)
    return " or ".join(
        f"{day} >= date '{part}' and {day} < date '{part}' + 1" if part else f"{day} is null"
        for part in parts
    )


def _describe(
    cursor: "Cursor", key: tuple[str, str], name: str, table: Table, found: Table | None
) -> None:
    """Comment a table and its columns, where that was not said of them yet."""
    target = f"{sql_name(key[0])}.{sql_name(name)}"
    if table.comment != (found and found.comment):
        cursor.execute(f"comment on table {target} is {sql_text(table.comment)}")
    for column, comment in table.comments.items():
        if comment != (found and found.comments[column]):
            cursor.execute(
                f"comment on column {target}.{sql_name(column)} is"
                f" {'null' if comment is None else sql_text(comment)}"
            )


def _keep_account(
    cursor: "Cursor",
    gone: Mapping[tuple[Any, ...], pl.DataFrame],
    come: Mapping[tuple[Any, ...], pl.DataFrame],
) -> None:
    """Write down which parts the tables hold now."""
    for (schema, table), parts in gone.items():
        names = ", ".join(map(sql_text, parts["part"]))
        cursor.execute(
            f"delete from wattbook.parts where schema_name = {sql_text(schema)}"
            f" and table_name = {sql_text(table)} and part in ({names})"
        )
    if come:
        _append(cursor, "wattbook", "parts", pl.concat(come.values()).to_arrow())


def _swap(
    cursor: "Cursor",
    renewed: Sequence[tuple[str, str]],
    removed: Sequence[tuple[str, str]],
    found: Tables,
) -> None:
    """Give new tables their names, and take away those that are no longer published."""
    old = [_source(key, "") for key in (*renewed, *removed) if key in found]
    if old:
        cursor.execute(DROP.format(tables=", ".join(map(sql_text, old)), tries=LOCK_TRIES))
    for schema, table in renewed:
        cursor.execute(
            f"alter table {sql_name(schema)}.{sql_name(f'{table}.new')} rename to {sql_name(table)}"
        )


def _check_schemas(connection: "Connection", teams: Mapping[str, str]) -> None:
    """Refuse a database that nobody has set up.

    Raises:
        PostgresError: names the schemas that are not there for this role to write.
    """
    writable = _rows(
        connection,
        "select nspname from pg_namespace where has_schema_privilege(oid, 'create, usage')",
    )
    expected = ("wattbook", *teams)
    if missing := [name for name in expected if name not in writable["nspname"].to_list()]:
        raise PostgresError(
            [
                f"PostgreSQL: schema {name}: not found, or not for this role to write: have an"
                f" administrator of the database run {ROLES}, and publish as the role it makes"
                for name in missing
            ]
        )


@contextmanager
def _connected(dsn: str) -> Iterator["Connection"]:
    """A connection; what goes wrong with it is told without what the connection string holds.

    Raises:
        PostgresError: nobody answers, or a statement failed.
    """
    driver = _driver()
    cause = ""
    connection = None
    try:
        connection = driver.connect(dsn)
        with connection.cursor() as cursor:
            cursor.execute("set timezone = 'UTC'")
        yield connection
    except driver.Error as error:
        cause = _cause(error) if connection else _cause_of_no_connection(error)
    finally:
        if connection is not None:
            connection.close()
    if cause:
        # Not while the driver's error is handled, whose text would go into traces of this one.
        raise PostgresError([cause])


def _driver() -> Any:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        dbapi = None
    if dbapi is None:
        raise PostgresError(
            [
                f"{DSN_VARIABLE} is set and adbc-driver-postgresql not installed: install it as"
                " `pip install 'wattbook[postgres]'` does, or unset the variable"
            ]
        )
    return dbapi


def _cause(error: Any) -> str:
    said = " ".join(str(error).partition("Query was:")[0].split())
    mend = {
        "42501": f"have an administrator of the database run {ROLES}",
        "2BP01": "drop what depends on it, and make it again afterwards",
        "53100": "make room on the server's disk",
        "55P03": "look for them in pg_stat_activity, end them",
    }.get(error.sqlstate, "mend that")
    return f"PostgreSQL: {said}: it holds what it held before: {mend}, and publish again"


def _cause_of_no_connection(error: Any) -> str:
    said = [text for text in TOLD if text in str(error)]
    found = said[0] if said else "no connection string that PostgreSQL's library reads"
    return (
        f"{DSN_VARIABLE}: could not connect (found: {found}), expected a server that answers at"
        " postgresql://<role>:<password>@<host>:<port>/<database>, special characters of the"
        " password as %XX: it holds what it held before: mend that, and publish again"
    )


def _rows(connection: "Connection", query: str) -> pl.DataFrame:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return _frame(cursor)


def _frame(cursor: "Cursor", schema: Mapping[str, Any] | None = None) -> pl.DataFrame:
    frame = pl.DataFrame(cursor.fetch_arrow_table())
    return frame if schema is None else frame.cast(schema)  # type: ignore[arg-type]


def _append(cursor: "Cursor", schema: str, table: str, rows: Any) -> None:
    cursor.adbc_ingest(table, rows, mode="append", db_schema_name=schema)


def _source(key: tuple[str, str], schema: str = "marts.") -> str:
    return f"{sql_name(key[0])}.{schema}{sql_name(key[1])}"
