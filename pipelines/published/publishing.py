"""Hand each team its tables: one read-only DuckDB file, and Parquet files.

What belongs here: publishing what a team sees (`audience.py`) as one thing, which is there whole or
not at all. What does not: any computing (`dbt_project/`), who may read the files (`access.py`) and
reading what was published (`query.py`).

Layout below `published/`: `.versions/<team>/<number>/` holds all files of one publication, its
`publication.json`, which says what they were made from, written last. The link
`.versions/<team>/current` leads to the newest, and is what a publication changes in the end;
`<team>.duckdb` and `<team>/` are links through it. The version before stays for those who are
still reading it.

A table is one file, `<team>/<table>.parquet`; one that is built by the day has a file per month,
`<team>/<table>/<year>-<month>.parquet`. Months of which the builds since the version before have
changed nothing are taken over from it: the DuckDB file is copied and only later months are replaced
in it, and Parquet files are links to the same ones.

Where `WATTBOOK_POSTGRES_DSN` is set, the same goes into PostgreSQL (`postgres.py`).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from pipelines import reference
from pipelines.book import Book
from pipelines.bucket import show
from pipelines.errors import BookError
from pipelines.published import audience, confidential, postgres
from pipelines.published.access import groups, restrict
from pipelines.published.audience import PublishedTable, raw_loads, team_tables
from pipelines.published.query import MARK, TEAMS
from pipelines.published.sql import sql_name, sql_text
from pipelines.warehouse import (
    MEMORY_VARIABLE,
    build_lock,
    built_from,
    changed_from,
    digest_of,
    manifest_path,
    whole_lake,
)

# DuckDB 1.2 to 1.5, which most BI tools ship, cannot open files in the default format of 2.0.
STORAGE_VERSION = "v1.2.0"
CURRENT = "current"


class PublishError(BookError):
    """Nothing was published; `causes` has one sentence per cause."""


@dataclass(frozen=True)
class Base:
    """A publication of a team from which the next one takes over what cannot have changed."""

    folder: Path
    built_from: str
    changed_from: date
    """First UTC date from which models may hold other rows by now."""
    shown: dict[str, str]
    """Table -> digest of how the team sees it."""

    def kept_before(self, table: PublishedTable, shown: str) -> date | None:
        """First of the months of a table that are to be written; None for all of it."""
        if table.day is None or self.shown.get(table.name) != shown:
            return None
        return table.kept_before(self.changed_from)


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
        kept = {}
        seen_by: dict[str, list[str]] = {}
        for team, tables in audiences.items():
            for table in tables:
                seen_by.setdefault(table.name, []).append(team)
        for team, tables in audiences.items():
            if progress is not None:
                progress(f"publish {team}")
            every = [*tables, raw_loads(team, manifest)]
            kept[team] = _publish_team(
                book, team, every, made_from[team], group_ids.get(team), made, seen_by
            )
        if dsn := os.environ.get(postgres.DSN_VARIABLE):
            if progress is not None:
                progress("publish into PostgreSQL")
            postgres.publish(dsn, book, made_from, kept)
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
    """What each team's publication is made from: the build, its group, and how it is shown."""
    group_ids, ratio = groups(book), _rounding_ratio(book)
    return {team: f"{built}.{group_ids.get(team)}.{ratio}.{_code()}" for team in TEAMS}


def _code() -> str:
    """Digest of how tables are written, of which a new version of Wattbook may do another."""
    return digest_of([Path(__file__), Path(audience.__file__), Path(confidential.__file__)])


def _rounding_ratio(book: Book) -> float:
    return reference.load_organization(book.reference).confidential_rounding_ratio


def _is_whole(book: Book, team: str, basis: str) -> bool:
    """Whether a team's fixed paths lead to every file of a publication made from `basis`."""
    version = _versions(book, team) / CURRENT
    mark = _mark(version)
    try:
        return (
            mark.get("built_from") == basis
            and (book.published / team).samefile(version / "tables")
            and (book.published / f"{team}.duckdb").samefile(version / f"{team}.duckdb")
        )
    except OSError:
        return False


def _mark(version: Path) -> dict[str, Any]:
    """What a publication says of itself; empty where it is not whole."""
    try:
        mark: dict[str, Any] = json.loads((version / MARK).read_text())
        sizes = {name: (version / name).stat().st_size for name in mark["files"]}
    except (OSError, ValueError, KeyError):
        return {}
    return mark if sizes == mark["files"] else {}


def _base(book: Book, team: str, basis: str) -> Base | None:
    """The publication to go on from; none where there is no whole one, or nothing has changed.

    Who publishes the same again wants it mended.
    """
    folder = (_versions(book, team) / CURRENT).resolve()
    mark = _mark(folder)
    if "shown" not in mark or mark["built_from"] == basis:
        return None
    since = changed_from(book, mark["built_from"])
    return None if since is None else Base(folder, mark["built_from"], since, mark["shown"])


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
    seen_by: dict[str, list[str]],
) -> postgres.Kept | None:
    """Write a new version of a team's files, and let its paths lead there once it is whole.

    Returns what it took over, None where it is written anew.
    """
    versions = _versions(book, team)
    versions.mkdir(parents=True, exist_ok=True)
    current = _number(versions / CURRENT)
    _remove(*(path for path in versions.iterdir() if path.name not in (CURRENT, str(current))))
    draft = versions / str(current + 1)
    base = _base(book, team, basis)
    is_written = False
    try:
        try:
            kept = _write_version(book, team, tables, basis, draft, made, base, seen_by)
        except duckdb.Error:
            if base is None:
                raise
            # What is to be taken over may be damaged.
            _remove(draft)
            kept = _write_version(book, team, tables, basis, draft, made, None, seen_by)
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
    return kept


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
    book: Book,
    team: str,
    tables: Sequence[PublishedTable],
    basis: str,
    folder: Path,
    made: Made,
    base: Base | None,
    seen_by: dict[str, list[str]],
) -> postgres.Kept | None:
    """Write a team's files into a folder that is not there yet.

    They take over what the base has, and what another team has in the same rows. Returns what they
    have of the base.
    """
    # Until it is the team's, it is its writer's alone.
    folder.mkdir(mode=0o700)
    (folder / "tables").mkdir()
    file = folder / f"{team}.duckdb"
    if base is not None:
        shutil.copyfile(base.folder / file.name, file)
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
        macros = confidential.macros(_rounding_ratio(book))
        for macro in macros:
            connection.execute(macro)
        is_masked = any(mask.scope != "none" for table in tables for mask in table.masks.values())
        public_sites = _public_sites(connection) if is_masked else []
        # Every comment would be a transaction of its own.
        connection.execute("begin")
        connection.execute("create schema if not exists team.marts")
        _drop_all_but(connection, [table.name for table in tables])
        code = _code()
        shown, first_new = {}, {}
        for table, query in zip(tables, queries, strict=True):
            shown[table.name] = _digest(table, macros, public_sites, code)
            since = base.kept_before(table, shown[table.name]) if base else None
            if table.day and since:
                first_new[table.name] = (table.day, since)
            other, holder = made.setdefault(query, (team, folder))
            if other == team:
                rows = table.query(sources[table.name], since)
            else:
                held = f"{sql_name(f'of_{other}')}.marts.{sql_name(table.name)}"
                rows = f"from {held}{table.condition(since)}"
            _fill(connection, table, rows, since)
            kept = _kept_files(base, table, since)
            if table.day is not None:
                (folder / "tables" / table.name).mkdir()
            for file in kept:
                (folder / "tables" / table.name / file.name).hardlink_to(file)
            for name, condition in _new_files(connection, table, since, kept).items():
                target = folder / "tables" / name
                if other == team:
                    rows = f"from team.marts.{sql_name(table.name)}{condition}"
                    connection.execute(f"copy ({rows}) to {sql_text(target)} (format parquet)")
                else:
                    shutil.copyfile(holder / "tables" / name, target)
        connection.execute("commit")
        connection.execute("checkpoint team")
        connection.execute("detach team")
    for path in (file, folder / "tables", *(folder / "tables").rglob("*")):
        _sync(path)
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    mark = folder / MARK
    said = {
        "built_from": basis,
        "shown": shown,
        "files": files,
        "of_other_teams": {name: teams for name, teams in seen_by.items() if name not in shown},
    }
    mark.write_text(json.dumps(said, indent=1))
    _sync(mark)
    return postgres.Kept(base.built_from, first_new) if base else None


def _public_sites(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    """Of each site whether its prices are public, by which masks are put on."""
    rows = "select site_id, has_public_prices from book.marts.dim_sites order by all"
    return connection.execute(rows).fetchall()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _drop_all_but(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Take away what the base has and the team sees no longer."""
    there = "select table_name from duckdb_tables() where database_name = 'team'"
    for (name,) in connection.execute(there).fetchall():
        if name not in names:
            connection.execute(f"drop view if exists team.main.{sql_name(name)}")
            connection.execute(f"drop table team.marts.{sql_name(name)}")


def _fill(
    connection: duckdb.DuckDBPyConnection, table: PublishedTable, rows: str, since: date | None
) -> None:
    """Write a table of the team's database, all of it or the months that are not kept."""
    target = f"team.marts.{sql_name(table.name)}"
    if since is not None:
        connection.execute(f"delete from {target}{table.condition(since)}")
        connection.execute(f"insert into {target} {rows}")
        return
    connection.execute(f"create or replace table {target} as {rows}")
    connection.execute(f"comment on table {target} is {sql_text(table.comment)}")
    for column, comment in table.columns.items():
        connection.execute(f"comment on column {target}.{sql_name(column)} is {sql_text(comment)}")
    # A file cannot keep a search path, so that clients look in `main` for a name without schema.
    # The view names no database: each client calls the file as it likes.
    name = sql_name(table.name)
    connection.execute(f"create or replace view team.main.{name} as from marts.{name}")


def _kept_files(base: Base | None, table: PublishedTable, since: date | None) -> list[Path]:
    """Parquet files of the base that the next publication has too."""
    if base is None or since is None:
        return []
    files = (base.folder / "tables" / table.name).iterdir()
    return [file for file in files if file.stem < f"{since:%Y-%m}"]


def _new_files(
    connection: duckdb.DuckDBPyConnection,
    table: PublishedTable,
    since: date | None,
    kept: Sequence[Path],
) -> dict[str, str]:
    """The other Parquet files of a table, and SQL of the condition for the rows of each."""
    if table.day is None:
        return {f"{table.name}.parquet": ""}
    day = sql_name(table.day)
    months = connection.execute(
        f"select distinct date_trunc('month', {day})::date as month"
        f" from team.marts.{sql_name(table.name)}{table.condition(since)} order by month"
    ).fetchall()
    if not months and not kept:
        # Readers find the columns.
        return {f"{table.name}/none.parquet": ""}
    return {
        f"{table.name}/{month:%Y-%m}.parquet": (
            f" where {day} >= date '{month}' and {day} < date '{month}' + interval 1 month"
        )
        for (month,) in months
    }


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
