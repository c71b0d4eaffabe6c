"""What teams get in PostgreSQL, on a real server: who sees what, and that it changes at once."""

import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Event

import duckdb
import pytest
from adbc_driver_postgresql import dbapi

from pipelines.book import Book
from pipelines.published import postgres, publishing
from pipelines.published.query import TEAMS
from tests.postgres_server import PASSWORD, Server, started
from tests.published.test_publishing import build_again, model, write_manifest

ROLES = Path(__file__).parents[2] / "deploy" / "postgres-roles.sql"

PRICES = model(
    "fct_prices",
    ["energy", "finance", "operations"],
    columns={
        "interval_started_at": {"description": "Start of the interval."},
        "price_per_mwh": {
            "description": "The contract's price.",
            "config": {"meta": {"audience": ["energy", "finance"]}},
        },
        "cost": {"description": "Cost.", "config": {"meta": {"confidential": "rounded"}}},
    },
)
KPIS = model("kpi_days", list(TEAMS))
SITES = model("dim_sites", list(TEAMS))
CONTRACTS = model("dim_contracts", ["finance"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as server:
        yield server


@pytest.fixture
def database(server) -> str:
    """A new database that an administrator has set up."""
    name = f"book_{time.monotonic_ns()}"
    server.run("postgres", f"create database {name}")
    server.run(name, file=ROLES)
    server.run(name, f"alter role wattbook_publisher password '{PASSWORD}'")
    for team in TEAMS:
        server.run(
            name,
            f"drop role if exists of_{team}",
            f"create role of_{team} login password '{PASSWORD}' in role wattbook_{team}",
        )
    return name


@pytest.fixture
def built(book: Book, server, database, monkeypatch) -> Book:
    """A warehouse with three marts of a week and one without time."""
    monkeypatch.setenv("WATTBOOK_POSTGRES_DSN", server.dsn(database, "wattbook_publisher"))
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute("create schema marts")
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.raw_loads as select 'nem12/a.csv' as source_file, 'loaded' as status"
        )
        connection.execute(
            "create table raw.builds (build_id varchar, started_at timestamptz, is_finished bool,"
            " build_from date)"
        )
        connection.execute(
            "create table marts.dim_sites as select * from (values"
            " ('open', true, ['a', null], {'x': 1}), ('closed', false, [], null)"
            ') as rows (site_id, has_public_prices, venues, "Tags")'
        )
        connection.execute("create table marts.dim_contracts as select 'c' as contract_id")
    build(book, 0)
    return book


def build(book: Book, version: int) -> None:
    """What a build leaves that gives every row of two tables another value."""
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(
            "create or replace table marts.fct_prices as select"
            " 'closed' as site_id, ts as interval_started_at,"
            f" 30.25::decimal(6, 2) as price_per_mwh, 0.7 as cost, {version}::bigint as version,"
            " 'EUR' as currency_code"
            " from range(timestamptz '2026-10-01', timestamptz '2026-10-08', interval 1 hour)"
            " as hours (ts)"
            f" union all select null, null, null, 'infinity'::double, {version}, '''\"\\'"
        )
        connection.execute(
            "create or replace table marts.kpi_days as select"
            " date '2026-10-01' + day::int as local_date, day::integer as incident_count,"
            f" {version}::integer as version from range(7) as days (day)"
        )
    write_manifest(book, PRICES, KPIS, SITES, CONTRACTS)
    build_again(book)


def change_a_day(book: Book) -> None:
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute(
            "update marts.kpi_days set incident_count = 9 where local_date = date '2026-10-03'"
        )
    build_again(book)


def asked(server: Server, database: str, role: str, sql: str) -> list[tuple]:
    with (
        dbapi.connect(server.dsn(database, role)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("set timezone = 'UTC'")
        cursor.execute(sql)
        return cursor.fetchall()


def tables_seen(server, database, team) -> dict[str, tuple]:
    """Table -> columns and rows, as a member of the team sees them."""
    role = f"of_{team}"
    names = asked(
        server,
        database,
        role,
        f"select table_name from information_schema.tables where table_schema = '{team}'",
    )
    return {
        name: (
            asked(
                server,
                database,
                role,
                "select column_name::text from information_schema.columns where table_schema ="
                f" '{team}' and table_name = '{name}' order by ordinal_position",
            ),
            sorted(asked(server, database, role, f'select * from {team}."{name}"'), key=str),
        )
        for (name,) in names
    }


def tables_of_the_file(book: Book, team: str) -> dict[str, tuple]:
    with duckdb.connect(str(book.published / f"{team}.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        names = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'marts'"
        ).fetchall()
        return {
            name: (
                connection.execute(
                    "select column_name from duckdb_columns() where schema_name = 'marts'"
                    f" and table_name = '{name}' order by column_index"
                ).fetchall(),
                sorted(as_postgres_gives(connection, name), key=str),
            )
            for (name,) in names
        }


def as_postgres_gives(connection, table) -> list[tuple]:
    """Rows of a table; decimals, which ADBC hands over as text, and structs are text."""
    text = connection.execute(
        'select list(format(\'cast("{}" as varchar) as "{}"\', column_name, column_name))'
        f" from duckdb_columns() where schema_name = 'marts' and table_name = '{table}'"
        " and (data_type like 'STRUCT%' or data_type like 'DECIMAL%')"
    ).fetchall()[0][0]
    replaced = f" replace ({', '.join(text)})" if text else ""
    return connection.execute(f'select *{replaced} from marts."{table}"').fetchall()


def test_a_team_gets_in_postgres_what_it_gets_in_its_file(built, server, database):
    publishing.publish(built)
    for team in TEAMS:
        assert tables_seen(server, database, team) == tables_of_the_file(built, team)


def test_after_changes_it_is_the_same_again(built, server, database):
    publishing.publish(built)
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("delete from marts.fct_prices where interval_started_at is null")
        connection.execute(
            "insert into marts.fct_prices select * replace"
            " (interval_started_at + interval 30 days as interval_started_at) from marts.fct_prices"
            " where interval_started_at >= timestamptz '2026-10-07 12:00:00+00'"
        )
        connection.execute("delete from marts.kpi_days where local_date = date '2026-10-01'")
        connection.execute("update marts.dim_sites set venues = ['b']")
        connection.execute("alter table marts.dim_contracts add column counterparty varchar")
    build_again(built)
    publishing.publish(built)
    for team in TEAMS:
        assert tables_seen(server, database, team) == tables_of_the_file(built, team)


def test_what_a_team_may_no_longer_see_is_taken_away(built, server, database):
    publishing.publish(built)
    write_manifest(built, KPIS)
    publishing.publish(built)
    for team in TEAMS:
        assert sorted(tables_seen(server, database, team)) == ["kpi_days", "raw_loads"]


def test_what_operations_may_not_see_is_masked_or_not_there(built, server, database):
    publishing.publish(built)
    columns, rows = tables_seen(server, database, "operations")["fct_prices"]
    assert [name for (name,) in columns] == [
        *("site_id", "interval_started_at", "cost", "version", "currency_code")
    ]
    assert {round(row[2], 2) for row in rows if row[1]} == {0.64}


REFUSED = {
    "another team's table": "select * from finance.fct_prices",
    "what Wattbook keeps for itself": "select * from wattbook.parts",
    "writing": "delete from operations.kpi_days",
    "making a table": "create table operations.mine (a integer)",
    "making a table in public": "create table public.mine (a integer)",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_role_is_refused(built, server, database, what):
    publishing.publish(built)
    assert asked(server, database, "of_operations", "select count(*) from operations.kpi_days")
    with pytest.raises(dbapi.Error, match="permission denied"):
        asked(server, database, "of_operations", REFUSED[what])


def test_who_is_of_no_team_does_not_get_in(server, database):
    server.run(database, "drop role if exists nobody", "create role nobody login")
    server.run(database, f"alter role nobody password '{PASSWORD}'")
    with pytest.raises(dbapi.Error, match="permission denied for database"):
        asked(server, database, "nobody", "select 1")


def test_the_roles_are_made_for_every_team_and_may_be_made_again(server, database):
    server.run(database, file=ROLES)
    roles = server.run(
        database,
        "select rolname, rolcanlogin from pg_roles where rolname like 'wattbook%' order by rolname",
    )
    assert roles.split() == [
        *(f"wattbook_{team}|f" for team in ("energy", "finance", "operations")),
        "wattbook_publisher|t",
    ]
    assert sorted(TEAMS) == ["energy", "finance", "operations"]


def test_tables_and_columns_say_what_they_are(built, server, database):
    publishing.publish(built)
    question = (
        "select coalesce(columns.attname, '')::text, d.description from pg_description as d"
        " left join pg_attribute as columns on d.objoid = columns.attrelid"
        " and d.objsubid = columns.attnum and columns.attnum > 0"
        " where d.objoid = 'operations.fct_prices'::regclass order by 1"
    )
    said = [
        ("", "One row per fct_prices."),
        ("cost", "Cost. Rounded where it rests on confidential contract prices."),
        ("interval_started_at", "Start of the interval."),
    ]
    assert asked(server, database, "of_operations", question) == said
    write_manifest(built, PRICES | {"description": "One row per interval."}, SITES)
    publishing.publish(built)
    said[0] = ("", "One row per interval.")
    assert asked(server, database, "of_operations", question) == said


def test_only_the_days_that_changed_are_loaded(built, server, database, monkeypatch):
    publishing.publish(built)
    question = "select table_name, part from wattbook.parts where xmin::text::bigint >= {}"
    [(before,)] = asked(server, database, "postgres", "select txid_current()")
    change_a_day(built)
    copied = []
    append = postgres._append
    monkeypatch.setattr(
        postgres,
        "_append",
        lambda cursor, schema, table, rows: (
            copied.append(f"{schema}.{table}"),
            append(cursor, schema, table, rows),
        ),
    )
    publishing.publish(built)
    changed = asked(server, database, "postgres", question.format(before))
    assert changed == [("kpi_days", "2026-10-03")] * len(TEAMS)
    assert copied == [
        *(f"{team}.kpi_days" for team in TEAMS),
        *("wattbook.parts", "wattbook.publications"),
    ]


@pytest.fixture
def of_two_months(built: Book) -> Book:
    """The same, with a mart by the day that begins in September."""
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("update marts.kpi_days set local_date = local_date - 5")
    write_manifest(built, PRICES, model("kpi_days", list(TEAMS), day="local_date"), SITES)
    publishing.publish(built)
    return built


def test_months_that_the_files_take_over_are_not_looked_at_again(
    of_two_months, server, database, monkeypatch
):
    looked_at = []
    parts = postgres._parts
    monkeypatch.setattr(
        postgres,
        "_parts",
        lambda files, key, table, first: (
            looked_at.append((key[1], first)) or parts(files, key, table, first)
        ),
    )
    change_days(of_two_months, "2026-10-01")
    publishing.publish(of_two_months)
    assert looked_at.count(("kpi_days", date(2026, 10, 1))) == len(TEAMS)
    for team in TEAMS:
        found = tables_seen(server, database, team)
        assert found == tables_of_the_file(of_two_months, team)
        assert [row[1] for row in sorted(found["kpi_days"][1])] == [0, 1, 2, 3, 4, 105, 106]


def test_a_database_that_missed_a_publication_gets_its_months_too(
    of_two_months, server, database, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.delenv("WATTBOOK_POSTGRES_DSN")
        change_days(of_two_months, "2026-09-29")
        publishing.publish(of_two_months)
    change_days(of_two_months, "2026-10-01")
    publishing.publish(of_two_months)
    for team in TEAMS:
        found = tables_seen(server, database, team)
        assert found == tables_of_the_file(of_two_months, team)
        assert [row[1] for row in sorted(found["kpi_days"][1])] == [0, 1, 2, 103, 104, 205, 206]


def change_days(book: Book, first: str) -> None:
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute(
            "update marts.kpi_days set incident_count = incident_count + 100 where local_date >= ?",
            [first],
        )
    build_again(book, build_from=first)


def test_what_is_published_is_current_once_postgres_has_it(built, server, database, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("WATTBOOK_POSTGRES_DSN")
        publishing.publish(built)
        assert publishing.is_current(built) is True
    assert publishing.is_current(built) is False
    publishing.publish(built)
    assert publishing.is_current(built) is True
    change_a_day(built)
    assert publishing.is_current(built) is False
    monkeypatch.setenv("WATTBOOK_POSTGRES_DSN", f"{server.dsn(database)}&port=1")
    assert publishing.is_current(built) is False


def test_a_publication_that_fails_half_way_leaves_what_was_there(
    built, server, database, monkeypatch
):
    publishing.publish(built)
    before = {team: tables_seen(server, database, team) for team in TEAMS}
    build(built, 1)
    copies = []
    copy = postgres._copy

    def copy_until_the_server_ends_it(cursor, *arguments):
        copies.append(arguments[1])
        if len(copies) == 6:
            cursor.execute("select pg_terminate_backend(pg_backend_pid())")
            cursor.fetchall()
        copy(cursor, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(postgres, "_copy", copy_until_the_server_ends_it)
        with pytest.raises(postgres.PostgresError, match="it holds what it held before"):
            publishing.publish(built)
    assert {team: tables_seen(server, database, team) for team in TEAMS} == before
    assert publishing.is_current(built) is False
    publishing.publish(built)
    for team in TEAMS:
        assert tables_seen(server, database, team) == tables_of_the_file(built, team)
    assert publishing.is_current(built) is True


def read_on(dsn: str, is_over: Event) -> set[int]:
    """Read until it is over; the versions seen, of which no answer may have two."""
    of_one = "select min(version), max(version), count(*) from finance.{}"
    both = (
        "select * from (select min(version) as a, max(version) as b, count(*) from"
        " finance.fct_prices) as prices, (select min(version), max(version), count(*) from"
        " finance.kpi_days) as days, (select count(*) from finance.dim_sites) as sites"
    )
    seen = set()
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("set lock_timeout = '1s'")
        connection.commit()
        while not is_over.wait(0.2):
            cursor.execute(both)
            [answer] = cursor.fetchall()
            connection.rollback()
            assert answer == (answer[0], answer[0], 169, answer[0], answer[0], 7, 2)
            cursor.execute("set transaction isolation level repeatable read")
            answers = []
            for table in ("fct_prices", "kpi_days"):
                cursor.execute(of_one.format(table))
                answers += cursor.fetchall()
            connection.rollback()
            version = answers[0][0]
            assert answers == [(version, version, 169), (version, version, 7)]
            seen |= {answer[0], version}
    return seen


@pytest.mark.slow
def test_fifty_readers_see_twenty_publications_each_whole_and_wait_for_none(
    built, server, database
):
    publishing.publish(built)
    is_over = Event()
    dsn = server.dsn(database, "of_finance")
    with ThreadPoolExecutor(50) as pool:
        readers = [pool.submit(read_on, dsn, is_over) for _ in range(50)]
        try:
            for version in range(1, 21):
                if version % 5 == 0:
                    # The columns of a table that all of them read change, too.
                    with duckdb.connect(str(built.warehouse)) as connection:
                        connection.execute(f"alter table marts.dim_sites add column v{version} int")
                build(built, version)
                publishing.publish(built)
        finally:
            is_over.set()
        seen = set().union(*(reader.result() for reader in readers))
    assert seen <= set(range(21))
    assert len(seen) > 10


def test_a_reader_that_does_not_end_is_waited_for_and_then_told_of(
    built, server, database, monkeypatch
):
    publishing.publish(built)
    monkeypatch.setattr(postgres, "LOCK_TRIES", 2)
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("alter table marts.dim_sites add column country varchar")
    build_again(built)
    with dbapi.connect(server.dsn(database, "of_finance")) as held, held.cursor() as cursor:
        cursor.execute("select * from finance.dim_sites")
        cursor.fetchall()
        with pytest.raises(postgres.PostgresError) as error:
            publishing.publish(built)
    [cause] = error.value.causes
    assert 'could not replace "energy"."dim_sites", "finance"."dim_sites"' in cause
    assert "since queries on them do not end" in cause
    assert cause.endswith("look for them in pg_stat_activity, end them, and publish again")
    publishing.publish(built)
    assert publishing.is_current(built) is True


def test_a_view_on_a_table_whose_columns_change_is_named(built, server, database):
    publishing.publish(built)
    server.run(database, "create view finance.mine as select site_id from finance.dim_sites")
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("alter table marts.dim_sites add column country varchar")
    build_again(built)
    with pytest.raises(postgres.PostgresError) as error:
        publishing.publish(built)
    [cause] = error.value.causes
    assert "view finance.mine depends on table finance.dim_sites" in cause
    assert "drop what depends on it" in cause


def test_rows_that_somebody_else_took_away_are_told_of(built, server, database):
    publishing.publish(built)
    server.run(database, "delete from finance.kpi_days")
    build(built, 1)
    with pytest.raises(postgres.PostgresError) as error:
        publishing.publish(built)
    assert error.value.causes == [
        "PostgreSQL: finance.kpi_days: found 0 rows of what was published before, expected 7:"
        " somebody else has written there: drop the table and publish again"
    ]
    server.run(database, "drop table finance.kpi_days")
    publishing.publish(built)
    assert tables_seen(server, database, "finance") == tables_of_the_file(built, "finance")


def test_a_character_that_postgres_does_not_have_is_left_out(built, server, database):
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute("update marts.dim_contracts set contract_id = 'c' || chr(0) || 'd'")
    publishing.publish(built)
    assert tables_seen(server, database, "finance")["dim_contracts"][1] == [("cd",)]


def test_an_infinite_time_is_refused(built):
    with duckdb.connect(str(built.warehouse)) as connection:
        connection.execute(
            "create or replace table marts.dim_contracts as select 'infinity'::date as ended_on"
        )
    with pytest.raises(postgres.PostgresError, match=r"finance.dim_contracts: .*infinite time"):
        publishing.publish(built)


def test_a_database_that_nobody_has_set_up_says_what_to_run(built, server, monkeypatch):
    monkeypatch.setenv("WATTBOOK_POSTGRES_DSN", server.dsn("postgres", "wattbook_publisher"))
    with pytest.raises(postgres.PostgresError) as error:
        publishing.publish(built)
    assert error.value.causes == [
        f"PostgreSQL: schema {name}: not found, or not for this role to write: have an"
        " administrator of the database run deploy/postgres-roles.sql, and publish as the role it"
        " makes"
        for name in ("wattbook", *TEAMS)
    ]


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://postgres:{}x@/postgres?host={}", "password authentication failed"),
        ("postgresql://postgres:{}@/postgres?host={}&port=1", "No such file or directory"),
        ("postgresql://postgres:{}@127.0.0.1/postgres", "could not translate host name"),
        ("postgresql://127.0.0.1:1/postgres?password={}", "Connection refused"),
        ("postgresql://postgres:{}@nowhere.invalid/postgres", "could not translate host name"),
        ("host=/tmp port={}", "no connection string that PostgreSQL's library reads"),
        ("secret {}", "no connection string that PostgreSQL's library reads"),
    ],
)
def test_a_connection_that_fails_says_why_and_not_the_password(
    built, server, monkeypatch, dsn, found
):
    monkeypatch.setenv("WATTBOOK_POSTGRES_DSN", dsn.format(PASSWORD, server.folder))
    with pytest.raises(postgres.PostgresError) as error:
        publishing.publish(built)
    assert f"(found: {found})" in error.value.causes[0]
    assert PASSWORD[-4:] not in "".join(traceback.format_exception(error.value))
