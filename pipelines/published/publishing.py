"""Hand each team its tables: one read-only DuckDB file and one Parquet file per table.

What belongs here: who sees which table and column, as the dbt models declare it, and writing that
atomically. What does not: any computing (`dbt_project/`) and reading what was published
(`query.py`).

A model says in `config.meta.audience` which teams see it; a column's own `meta.audience` narrows
that. A mart without audience is published to nobody. The load record `raw_loads` goes to every
team.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published.query import TEAMS
from pipelines.warehouse import build_lock, manifest_path

# DuckDB 1.2 to 1.5, which most BI tools ship, cannot open files in the default format of 2.0.
STORAGE_VERSION = "v1.2.0"
RAW_LOADS = "source.wattbook.raw.raw_loads"


class PublishError(BookError):
    """Nothing was published; `causes` has one sentence per cause."""


@dataclass(frozen=True)
class PublishedTable:
    """One table as one team sees it."""

    name: str
    comment: str
    columns: dict[str, str]
    """Column -> comment, in the order of the model; what the team may not see is not in it."""
    key: tuple[str, ...]
    """Columns the Parquet file is sorted by."""


def publish(book: Book, progress: Callable[[str], None] | None = None) -> dict[str, list[str]]:
    """Write each team's DuckDB file and Parquet files; return team -> table names.

    Readers of the files before keep reading them: each file is replaced whole.

    Raises:
        PublishError: there is no finished build, or a model names a team there is not.
    """
    with build_lock(book):
        if not book.warehouse.exists() or not manifest_path(book).exists():
            raise PublishError([f"{book.warehouse}: not built yet: run `wattbook build` first"])
        manifest = json.loads(manifest_path(book).read_text())
        audiences = team_tables(manifest, _warehouse_columns(book.warehouse))
        for team, tables in audiences.items():
            if progress is not None:
                progress(f"publish {team}")
            _write_team(book, team, tables, _raw_loads(team, manifest))
    return {
        team: sorted([*(table.name for table in tables), "raw_loads"])
        for team, tables in audiences.items()
    }


def is_current(book: Book) -> bool:
    """Whether what is published holds the latest build and every load record."""
    files = [book.published / f"{team}.duckdb" for team in TEAMS]
    if not all(file.exists() for file in [*files, book.warehouse]):
        return False
    loads = [file for file in (book.lake / "loads").glob("*.parquet") if file.stem != "schema"]
    sources = [book.warehouse, *loads]
    published_at = min(file.stat().st_mtime_ns for file in files)
    return all(source.stat().st_mtime_ns <= published_at for source in sources)


def check_audiences(manifest: dict[str, Any]) -> None:
    """Refuse a model or column whose audience names a team there is not.

    Raises:
        PublishError: names the model's file, what was found and what is expected.
    """
    causes = [
        f"{node['original_file_path']}: {name}: audience names {team!r},"
        f" expected some of {', '.join(TEAMS)}"
        for node in _marts(manifest)
        for name, part in {node["name"]: node, **node["columns"]}.items()
        for team in _audience(part) or ()
        if team not in TEAMS
    ]
    if causes:
        raise PublishError(causes)


def team_tables(
    manifest: dict[str, Any], warehouse_columns: dict[str, list[str]]
) -> dict[str, list[PublishedTable]]:
    """Team -> what it sees, from the models' `meta.audience`.

    Raises:
        PublishError: an audience names a team there is not, or a mart was not built.
    """
    check_audiences(manifest)
    seen = [node for node in _marts(manifest) if _audience(node)]
    if missing := [node for node in seen if node["name"] not in warehouse_columns]:
        raise PublishError(
            [
                f"{node['original_file_path']}: marts.{node['name']} is not in the warehouse:"
                " run `wattbook build` first"
                for node in missing
            ]
        )
    return {
        team: [
            _as_seen_by(team, node, warehouse_columns[node["name"]])
            for node in seen
            if team in (_audience(node) or ())
        ]
        for team in TEAMS
    }


def _marts(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(
        (
            node
            for node in manifest["nodes"].values()
            if node["resource_type"] == "model" and node["schema"] == "marts"
        ),
        key=lambda node: node["name"],
    )


def _as_seen_by(team: str, node: dict[str, Any], column_names: list[str]) -> PublishedTable:
    declared = {name.lower(): column for name, column in node["columns"].items()}
    columns = {
        name: declared.get(name.lower(), {}).get("description", "").strip()
        for name in column_names
        if team in _or_all(_audience(declared.get(name.lower(), {})))
    }
    return PublishedTable(node["name"], node["description"].strip(), columns, _sort_key(columns))


def _audience(node: dict[str, Any]) -> list[str] | None:
    """The teams named on a model or column; None where it names none."""
    for meta in (node.get("config", {}).get("meta", {}), node.get("meta", {})):
        if "audience" in meta:
            return list(meta["audience"])
    return None


def _or_all(audience: list[str] | None) -> Sequence[str]:
    return TEAMS if audience is None else audience


def _sort_key(columns: dict[str, str]) -> tuple[str, ...]:
    """Time last, so that the rows of one site, contract or battery lie together."""
    times = ("week", "local_month", "local_date", "utc_date", "started_at", "interval_started_at")
    names = [name for name in columns if name.endswith("_id")]
    return (*names, *(name for name in times if name in columns))


def _warehouse_columns(warehouse: Path) -> dict[str, list[str]]:
    with duckdb.connect(str(warehouse.resolve()), read_only=True) as connection:
        rows = connection.execute(
            "select table_name, list(column_name order by column_index)"
            " from duckdb_columns() where schema_name = 'marts' group by table_name"
        ).fetchall()
    return dict(rows)


def _write_team(
    book: Book, team: str, tables: Sequence[PublishedTable], raw_loads: PublishedTable
) -> None:
    book.published.mkdir(parents=True, exist_ok=True)
    final = book.published / f"{team}.duckdb"
    draft = book.published / f".{team}.duckdb.draft"
    parquet_draft = book.published / f".{team}.draft"
    _remove(draft, parquet_draft)
    parquet_draft.mkdir()
    with duckdb.connect(":memory:") as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"attach {_text(book.warehouse.resolve())} as book (read_only)")
        connection.execute(
            f"attach {_text(draft.resolve())} as team (storage_version '{STORAGE_VERSION}')"
        )
        # Every comment would be a transaction of its own.
        connection.execute("begin")
        connection.execute("create schema team.marts")
        for table in tables:
            _copy(connection, table, f"book.marts.{_name(table.name)}", parquet_draft)
        _copy(connection, raw_loads, "book.raw.raw_loads", parquet_draft)
        connection.execute("commit")
        connection.execute("checkpoint team")
        connection.execute("detach team")
    _sync(draft)
    draft.replace(final)
    folder = book.published / team
    folder.mkdir(exist_ok=True)
    for file in sorted(parquet_draft.iterdir()):
        file.replace(folder / file.name)
    for file in folder.glob("*.parquet"):
        if file.stem not in {"raw_loads", *(table.name for table in tables)}:
            file.unlink()
    parquet_draft.rmdir()
    _sync(folder)
    _sync(book.published)


def _copy(
    connection: duckdb.DuckDBPyConnection, table: PublishedTable, source: str, folder: Path
) -> None:
    target = f"team.marts.{_name(table.name)}"
    order = f" order by {', '.join(map(_name, table.key))}" if table.key else ""
    columns = ", ".join(map(_name, table.columns))
    connection.execute(f"create table {target} as select {columns} from {source}{order}")
    connection.execute(f"comment on table {target} is {_text(table.comment)}")
    for column, comment in table.columns.items():
        connection.execute(f"comment on column {target}.{_name(column)} is {_text(comment)}")
    file = folder / f"{table.name}.parquet"
    connection.execute(f"copy {target} to {_text(file)} (format parquet)")
    _sync(file)


def _raw_loads(team: str, manifest: dict[str, Any]) -> PublishedTable:
    """The load record as the dbt source describes it, in the columns that the team may see."""
    source = manifest["sources"][RAW_LOADS]
    columns = {
        name: column["description"]
        for name, column in source["columns"].items()
        if team in _or_all(_audience(column))
    }
    return PublishedTable("raw_loads", source["description"], columns, ("source_file",))


def _remove(*paths: Path) -> None:
    """Take away what a publish that was killed left behind."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make sure that what was written is on disk before its name points to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
