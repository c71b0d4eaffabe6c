"""What a team may ask: its tables and their columns, as they are described.

What belongs here: listing them. What does not: asking them (`query.py`), and who sees what
(`audience.py`).
"""

import duckdb

from pipelines.published.query import Rows, ask, first_rows
from pipelines.published.sql import sql_name, sql_text


def tables(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Table, rows, the first sentence of its description; one row per table, by name."""
    named = ask(
        connection, "select table_name from duckdb_tables() where schema_name = 'marts' order by 1"
    )["table_name"]
    counts = " union all ".join(
        f"select {sql_text(name)} as table_name, count(*) as row_count from marts.{sql_name(name)}"
        for name in named
    )
    if not counts:
        return Rows(("table", "rows", "description"), (False, True, False), [])
    return first_rows(
        connection,
        'select table_name as "table", row_count as "rows",'
        " split_part(coalesce(comment, ''), '. ', 1) as description"
        f" from ({counts}) join duckdb_tables() using (table_name)"
        " where schema_name = 'marts' order by table_name",
        None,
    )[0]


def columns(connection: duckdb.DuckDBPyConnection, table: str) -> Rows:
    """Column, type and description; one row per column, in the order of the table.

    Raises:
        QueryError: the team has no such table; says which are named alike.
    """
    first_rows(connection, f"select 1 from marts.{sql_name(table)}", 0)
    return first_rows(
        connection,
        'select column_name as "column", lower(data_type) as "type",'
        " coalesce(comment, '') as description from duckdb_columns()"
        f" where schema_name = 'marts' and table_name = lower({sql_text(table)})"
        " order by column_index",
        None,
    )[0]
