"""A pack as one JSON document: every section's SQL and rows, checked against its schema.

What belongs here: asking the sections of a team and a week, what of a document differs from another
one, its schema. What does not: what is asked (`sections.py`), how it looks (`page.py`), where it
lies (`publishing.py`).
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import jsonschema

from pipelines import reference
from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.pack.sections import SECTIONS, Section
from pipelines.published import query

SCHEMA_FILE = Path(__file__).with_name("pack.schema.json")
SCHEMA_VERSION = 1
# Two floats closer than this differ by the order in which something was added up.
RELATIVE_TOLERANCE = 1e-9

Document = dict[str, Any]
Row = dict[str, Any]

_BOOK = """
    select
        (select max(known_at) from raw_loads) as known_at,
        (select min(week) from kpi_organization_weekly) as first_week,
        (select max(local_date) from kpi_site_daily) as last_date
"""


class PackError(BookError):
    """There is no pack for this week; the cause says why."""


def read(book: Book, team: str, week: str, connection: duckdb.DuckDBPyConnection) -> Document:
    """What the book says about a week to a team, as revision 1 without changes.

    All of it is asked of one `connection`, that is, of one publication.

    Raises:
        PackError: the week is none, not over, or before the book begins.
    """
    first_date, last_date = week_dates(week)
    known = query.ask(connection, _BOOK).row(0, named=True)
    if known["last_date"] is None:
        raise PackError([f"{book.published / team}.duckdb: holds no day yet: nothing to report"])
    if last_date > known["last_date"]:
        raise PackError(
            [f"week {week} ends on {last_date}: the book reaches {known['last_date']} so far"]
        )
    if week < known["first_week"]:
        raise PackError([f"week {week} is before the book begins: with {known['first_week']}"])
    organization = reference.load(book.reference).organization
    asked = {
        "week": week,
        "first_date": first_date.isoformat(),
        "last_date": last_date.isoformat(),
        "time_zone": organization.time_zone,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "organization": organization.name,
        "team": team,
        **asked,
        "revision": 1,
        "book_known_at": as_json(known["known_at"]),
        "sections": {
            section.name: ask(connection, section, asked)
            for section in SECTIONS
            if team in section.teams
        },
        "changes": [],
        "compared_weeks": [],
        "earlier_weeks": [],
    }


def ask(
    connection: duckdb.DuckDBPyConnection, section: Section, asked: dict[str, str]
) -> dict[str, Any]:
    """A section's SQL with the week filled in, its key columns and its rows."""
    sql = section.sql.format(**asked).strip()
    rows = query.ask(connection, sql).to_dicts()
    return {
        "sql": sql,
        "key": list(section.key),
        "rows": [{name: as_json(value) for name, value in row.items()} for row in rows],
    }


def week_dates(week: str) -> tuple[date, date]:
    """Monday and Sunday of an ISO week given as 2026-W44.

    Raises:
        PackError: it is none.
    """
    try:
        if not re.fullmatch(r"\d{4}-W\d{2}", week):
            raise ValueError(week)
        monday = date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    except ValueError as error:
        raise PackError([f"found week {week!r}, expected one as 2026-W44"]) from error
    return monday, monday + timedelta(days=6)


def changes(before: Document, after: Document, names: Sequence[str] | None = None) -> list[Row]:
    """What two documents of one week say differently about it.

    One row per value that differs, and per row that only one of them has (`column` null). Sections
    and columns that only one of them knows are no change of the book.
    """
    compared = {section.name for section in SECTIONS if section.is_of_week}
    return [
        {"section": name, **change}
        for name in after["sections"]
        if name in (compared if names is None else names) and name in before["sections"]
        for change in _row_changes(_by_key(before, name), _by_key(after, name))
    ]


def row_key(section: dict[str, Any], row: Row) -> str:
    """What tells a row of a section from its others, as one text."""
    return "|".join("" if row[name] is None else str(row[name]) for name in section["key"])


def validate(document: Document) -> None:
    """Refuse a document that is not what the published schema promises.

    Raises:
        jsonschema.ValidationError: it is not, which is a fault of this program.
    """
    jsonschema.validate(document, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def as_json(value: object) -> Any:
    """A value of a row as JSON has it: times in UTC, decimals as numbers."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime(query.INSTANT)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _by_key(document: Document, name: str) -> dict[str, Row]:
    section = document["sections"][name]
    return {row_key(section, row): row for row in section["rows"]}


def _row_changes(before: dict[str, Row], after: dict[str, Row]) -> Iterator[Row]:
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            kind = "added" if old is None else "removed"
            yield {"row": key, "kind": kind, "column": None, "before": None, "after": None}
            continue
        for column in old:
            if column in new and not _is_same(old[column], new[column]):
                yield {
                    "row": key,
                    "kind": "changed",
                    "column": column,
                    "before": old[column],
                    "after": new[column],
                }


def _is_same(before: object, after: object) -> bool:
    if isinstance(before, int | float) and isinstance(after, int | float):
        return math.isclose(before, after, rel_tol=RELATIVE_TOLERANCE)
    return before == after
