"""Hand each team its tables: one read-only DuckDB file and one Parquet file per table.

What belongs here: who sees which table and column, as the dbt models declare it, and publishing
that for a team as one thing, which is there whole or not at all. What does not: any computing
(`dbt_project/`), who may read the files (`access.py`) and reading what was published (`query.py`).

A model says in `config.meta.audience` which teams see it; a column's own `meta.audience` narrows
that. A mart without audience is published to nobody. The load record `raw_loads` goes to every
team. A column that rests on contract prices says in `config.meta.confidential` how a team without
contract prices gets it (`confidential.py`).

Layout below `published/`: `.versions/<team>/<number>/` holds all files of one publication, its
`publication.json`, which says what they were made from, written last. The link
`.versions/<team>/current` leads to the newest, and is what a publication changes in the end;
`<team>.duckdb` and `<team>/` are links through it. The version before stays for those who are
still reading it.

Where `WATTBOOK_POSTGRES_DSN` is set, the same goes into PostgreSQL (`postgres.py`).
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from pipelines import reference
from pipelines.book import Book
from pipelines.bucket import show
from pipelines.errors import BookError
from pipelines.published import confidential, postgres
from pipelines.published.access import groups, restrict
from pipelines.published.query import TEAMS, WITH_CONTRACT_PRICES
from pipelines.published.sql import sql_name, sql_text
from pipelines.warehouse import (
    MEMORY_VARIABLE,
    build_lock,
    built_from,
    manifest_path,
    whole_lake,
)

# DuckDB 1.2 to 1.5, which most BI tools ship, cannot open files in the default format of 2.0.
STORAGE_VERSION = "v1.2.0"
CURRENT = "current"
MARK = "publication.json"
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
    masks: dict[str, confidential.Mask] = field(default_factory=dict)
    """Column -> how it is shown, where it is not as it is."""

    def query(self, source: str) -> str:
        """Its rows of a table, in their order."""
        columns = ", ".join(
            f"{self.masks[name].sql(sql_name(name))} as {sql_name(name)}"
            if name in self.masks
            else sql_name(name)
            for name in self.columns
        )
        order = f" order by {', '.join(map(sql_name, self.key))}" if self.key else ""
        return f"select {columns} from {source} as seen{order}"


Made = dict[str, tuple[str, Path]]
"""Query of a table -> the team that has its rows already, and the folder they are in."""


def publish(book: Book, progress: Callable[[str], None] | None = None) -> dict[str, list[str]]:
    """Publish for each team its DuckDB file and Parquet files; return team -> table names.

    A reader sees all files of a team as they were before or as they are after, and so all tables of
    PostgreSQL.

    Raises:
        PublishError: there is no finished build, or a model names a team there is not.
        PostgresError: the files were published, and PostgreSQL holds what it held before.
        WarehouseError: the lake has lost rows of the book.
    """
    with build_lock(book), whole_lake(book):
        if not book.warehouse.exists() or not manifest_path(book).exists():
            raise PublishError([f"{book.warehouse}: not built yet: run `wattbook build` first"])
        basis = built_from(book)
        if basis is None:
            raise PublishError(
                [f"{book.warehouse}: the last build did not end well: run `wattbook build` first"]
            )
        manifest = json.loads(manifest_path(book).read_text())
        audiences = team_tables(manifest, _warehouse_columns(book.warehouse))
        group_ids = groups(book)
        made_from = _made_from(book, basis)
        made: Made = {}
        for team, tables in audiences.items():
            if progress is not None:
                progress(f"publish {team}")
            every = [*tables, _raw_loads(team, manifest)]
            _publish_team(book, team, every, made_from[team], group_ids.get(team), made)
        if dsn := os.environ.get(postgres.DSN_VARIABLE):
            if progress is not None:
                progress("publish into PostgreSQL")
            postgres.publish(dsn, book, made_from)
    return {
        team: sorted([*(table.name for table in tables), "raw_loads"])
        for team, tables in audiences.items()
    }


def is_current(book: Book) -> bool:
    """Whether what is published is whole and was made from the latest build and load records."""
    built = built_from(book) if book.warehouse.exists() else None
    if built is None:
        return False
    made_from = _made_from(book, built)
    dsn = os.environ.get(postgres.DSN_VARIABLE)
    return all(_is_whole(book, team, basis) for team, basis in made_from.items()) and (
        not dsn or postgres.is_current(dsn, made_from)
    )


def published_at(book: Book) -> datetime | None:
    """When the teams' files were written, those of the team that waits longest; None before."""
    try:
        return min(
            datetime.fromtimestamp((_versions(book, team) / CURRENT / MARK).stat().st_mtime, UTC)
            for team in TEAMS
        )
    except OSError:
        return None


def _made_from(book: Book, built: str) -> dict[str, str]:
    """What each team's publication is made from: the build, its group, and how it is rounded."""
    group_ids, ratio = groups(book), _rounding_ratio(book)
    return {team: f"{built}.{group_ids.get(team)}.{ratio}" for team in TEAMS}


def _rounding_ratio(book: Book) -> float:
    return reference.load_organization(book.reference).confidential_rounding_ratio


def _is_whole(book: Book, team: str, basis: str) -> bool:
    """Whether a team's fixed paths lead to every file of a publication made from `basis`."""
    version = _versions(book, team) / CURRENT
    try:
        mark = json.loads((version / MARK).read_text())
        return (
            mark["built_from"] == basis
            and (book.published / team).samefile(version / "tables")
            and (book.published / f"{team}.duckdb").samefile(version / f"{team}.duckdb")
            and all((version / name).stat().st_size == size for name, size in mark["files"].items())
        )
    except (OSError, ValueError, KeyError):
        return False


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
    columns, masks = _columns_seen_by(team, node, column_names)
    return PublishedTable(
        node["name"], node["description"].strip(), columns, _sort_key(columns), masks
    )


def _columns_seen_by(
    team: str, node: dict[str, Any], column_names: Sequence[str]
) -> tuple[dict[str, str], dict[str, confidential.Mask]]:
    """Comments of the columns that a team sees, and how it sees those that are confidential."""
    declared = {name.lower(): column for name, column in node["columns"].items()}
    seen = {
        name: declared.get(name.lower(), {})
        for name in column_names
        if team in _or_all(_audience(declared.get(name.lower(), {})))
    }
    scope = _meta(node, "confidential_scope")
    masks = {
        name: confidential.mask(name, how, scope, node["original_file_path"])
        for name, column in seen.items()
        if team not in WITH_CONTRACT_PRICES and (how := _meta(column, "confidential"))
    }
    comments = {
        name: " ".join(
            filter(None, [column.get("description", "").strip(), masks[name].comment])
            if name in masks
            else [column.get("description", "").strip()]
        )
        for name, column in seen.items()
    }
    return comments, masks


def _audience(node: dict[str, Any]) -> list[str] | None:
    """The teams named on a model or column; None where it names none."""
    audience = _meta(node, "audience")
    return None if audience is None else list(audience)


def _meta(node: dict[str, Any], name: str) -> Any:
    """What a model, source or column says of itself under a name; None where it says nothing."""
    for meta in (node.get("config", {}).get("meta", {}), node.get("meta", {})):
        if name in meta:
            return meta[name]
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


def _publish_team(
    book: Book,
    team: str,
    tables: Sequence[PublishedTable],
    basis: str,
    group_id: int | None,
    made: Made,
) -> None:
    """Write a new version of a team's files, and let its paths lead there once it is whole."""
    versions = _versions(book, team)
    versions.mkdir(parents=True, exist_ok=True)
    current = _number(versions / CURRENT)
    _remove(*(path for path in versions.iterdir() if path.name not in (CURRENT, str(current))))
    # Until it is the team's, it is its writer's alone.
    draft = versions / str(current + 1)
    draft.mkdir(mode=0o700)
    is_written = False
    try:
        _write_version(book, team, tables, basis, draft, made)
        for path in (*draft.rglob("*"), draft, versions):
            restrict(path, group_id)
        is_written = True
    except (OSError, duckdb.IOException, duckdb.TransactionException) as error:
        raise PublishError(
            [
                f"{draft}: could not be written ({' '.join(str(error).split())}): make room or give"
                " leave to write, and publish again; what was published before is kept"
            ]
        ) from error
    finally:
        if not is_written:
            _remove(draft)
    _sync(draft)
    _lead(versions / CURRENT, draft.name)
    _lead(book.published / team, f".versions/{team}/{CURRENT}/tables")
    _lead(book.published / f"{team}.duckdb", f".versions/{team}/{CURRENT}/{team}.duckdb")
    _sync(versions)
    _sync(book.published)


def _versions(book: Book, team: str) -> Path:
    return book.published / ".versions" / team


def _number(link: Path) -> int:
    """Which version a link leads to, 0 before the first."""
    return int(link.readlink().name) if link.is_symlink() else 0


def _lead(link: Path, target: str) -> None:
    """Make a path a link to the target, at once where it is one already."""
    if link.is_symlink() and str(link.readlink()) == target:
        return
    draft = link.with_name(f".{link.name}.link")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    if link.is_dir() and not link.is_symlink():
        # Publications of Wattbook 0.1 lay there themselves.
        shutil.rmtree(link)
    draft.replace(link)


def _write_version(
    book: Book, team: str, tables: Sequence[PublishedTable], basis: str, folder: Path, made: Made
) -> None:
    """Write a team's files into a folder, taking over what another team has in the same rows."""
    (folder / "tables").mkdir()
    file = folder / f"{team}.duckdb"
    with duckdb.connect(":memory:") as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set temp_directory = ?", [str(book.data_dir / "spill")])
        if memory_limit := os.environ.get(MEMORY_VARIABLE):
            connection.execute("set memory_limit = ?", [memory_limit])
        # Load records are shown as they lie there.
        show(connection, book.lake)
        connection.execute(f"attach {sql_text(book.warehouse.resolve())} as book (read_only)")
        connection.execute(
            f"attach {sql_text(file.resolve())} as team (storage_version '{STORAGE_VERSION}')"
        )
        sources = {
            table.name: "book.raw.raw_loads"
            if table.name == "raw_loads"
            else f"book.marts.{sql_name(table.name)}"
            for table in tables
        }
        queries = [table.query(sources[table.name]) for table in tables]
        for other, holder in {made[query] for query in queries if query in made}:
            held = sql_text((holder / f"{other}.duckdb").resolve())
            connection.execute(f"attach {held} as {sql_name(f'of_{other}')} (read_only)")
        for macro in confidential.macros(_rounding_ratio(book)):
            connection.execute(macro)
        # Every comment would be a transaction of its own.
        connection.execute("begin")
        connection.execute("create schema team.marts")
        for table, query in zip(tables, queries, strict=True):
            other, holder = made.setdefault(query, (team, folder))
            if other == team:
                _copy(connection, table, query, folder / "tables")
            else:
                query = f"from {sql_name(f'of_{other}')}.marts.{sql_name(table.name)}"
                _copy(connection, table, query, folder / "tables", holder / "tables")
        connection.execute("commit")
        connection.execute("checkpoint team")
        connection.execute("detach team")
    _sync(file)
    _sync(folder / "tables")
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    mark = folder / MARK
    mark.write_text(json.dumps({"built_from": basis, "files": files}, indent=1))
    _sync(mark)


def _copy(
    connection: duckdb.DuckDBPyConnection,
    table: PublishedTable,
    query: str,
    folder: Path,
    made: Path | None = None,
) -> None:
    """Write a table into the team's database and, unless it was made already, to Parquet."""
    target = f"team.marts.{sql_name(table.name)}"
    connection.execute(f"create table {target} as {query}")
    connection.execute(f"comment on table {target} is {sql_text(table.comment)}")
    for column, comment in table.columns.items():
        connection.execute(f"comment on column {target}.{sql_name(column)} is {sql_text(comment)}")
    file = folder / f"{table.name}.parquet"
    if made is None:
        connection.execute(f"copy {target} to {sql_text(file)} (format parquet)")
    else:
        shutil.copyfile(made / file.name, file)
    _sync(file)


def _raw_loads(team: str, manifest: dict[str, Any]) -> PublishedTable:
    """The load record as the dbt source describes it, in the columns that the team may see."""
    source = manifest["sources"][RAW_LOADS]
    columns, masks = _columns_seen_by(team, source, tuple(source["columns"]))
    return PublishedTable("raw_loads", source["description"], columns, ("source_file",), masks)


def _remove(*paths: Path) -> None:
    """Take away what a publish that was killed left behind."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
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
