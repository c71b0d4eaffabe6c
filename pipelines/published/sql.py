"""Names and texts as SQL writes them, for DuckDB and PostgreSQL alike.

What belongs here: quoting where a statement takes no parameter. What does not: any statement.
"""


def sql_name(identifier: str) -> str:
    """A name of a table, column or schema, in quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def sql_text(value: object) -> str:
    """A text, in quotes."""
    return "'" + str(value).replace("'", "''") + "'"
