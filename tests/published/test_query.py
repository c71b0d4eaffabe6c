"""Questions to the published book: right answers, and nothing beyond the team's file."""

import io
import json
from datetime import UTC, datetime

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines.book import Book
from pipelines.published import excel, query


@pytest.fixture
def published(book: Book) -> Book:
    """A book of which finance sees two rows of one mart."""
    book.published.mkdir(parents=True)
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            f"attach '{book.published / 'finance.duckdb'}' as team (storage_version 'v1.2.0')"
        )
        connection.execute("create schema team.marts")
        connection.execute(
            "create table team.marts.fct_carbon as select * from (values"
            " ('juelich', timestamptz '2026-10-25 00:45:00Z', 12.5, 3),"
            " ('sparks', timestamptz '2026-10-25 01:00:00Z', null, 4)"
            ") as rows (site_id, interval_started_at, location_based_kg, row_count)"
        )
    return book


def test_tables_are_found_without_their_schema_and_times_are_utc(published):
    answer = query.run_sql(published, "finance", "from fct_carbon order by site_id")
    assert_frame_equal(
        answer,
        pl.DataFrame(
            {
                "site_id": ["juelich", "sparks"],
                "interval_started_at": [
                    datetime(2026, 10, 25, 0, 45, tzinfo=UTC),
                    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
                ],
                "location_based_kg": pl.Series([12.5, None], dtype=pl.Decimal(3, 1)),
                "row_count": pl.Series([3, 4], dtype=pl.Int32),
            }
        ),
    )


def test_a_damaged_file_says_what_mends_it(published):
    file = published.published / "finance.duckdb"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(query.QueryError) as error:
        query.run_sql(published, "finance", "select 1")
    [cause] = error.value.causes
    assert cause.startswith(f"{file}: found a damaged file (")
    assert cause.endswith("): run `wattbook publish`")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx"])
def test_text_that_a_spreadsheet_takes_for_a_formula_shows_as_text_in_csv(text):
    answer = pl.DataFrame({"name": [text, f"a{text}"], "amount": [-1.5, 2.0]})
    lines = query.encode(answer, "csv").decode().splitlines()
    assert lines == ["name,amount", f"'{text},-1.5", f"a{text},2.0"]


def test_an_answer_can_be_had_as_csv_json_and_parquet(published):
    answer = query.run_sql(
        published,
        "finance",
        "select interval_started_at, location_based_kg, sum(row_count) over () as total,"
        " [row_count] as counts from fct_carbon order by site_id",
    )
    assert query.encode(answer, "csv").decode() == (
        "interval_started_at,location_based_kg,total,counts\n"
        "2026-10-25T00:45:00Z,12.5,7,[3]\n"
        "2026-10-25T01:00:00Z,,7,[4]\n"
    )
    assert json.loads(query.encode(answer, "json")) == [
        {
            "interval_started_at": "2026-10-25T00:45:00Z",
            "location_based_kg": 12.5,
            "total": 7,
            "counts": [3],
        },
        {
            "interval_started_at": "2026-10-25T01:00:00Z",
            "location_based_kg": None,
            "total": 7,
            "counts": [4],
        },
    ]
    assert_frame_equal(pl.read_parquet(io.BytesIO(query.encode(answer, "parquet"))), answer)


def test_what_files_cannot_hold_comes_as_text_and_in_its_order(published):
    answer = query.run_sql(
        published,
        "finance",
        "select n, interval (n) hours as took, [interval 1 day] as spans, '101'::bit as bits,"
        ' \'a\\x00\'::blob as bytes, 2::uhugeint as big, [n, 2]::int[2] as "a ""b""",'
        " timetz '10:00:00+02' as at from range(2) as numbers (n) order by n desc",
    )
    assert answer.rows() == [
        (1, "01:00:00", "[1 day]", "101", "a\\x00", "2", "[1, 2]", "10:00:00+02"),
        (0, "00:00:00", "[1 day]", "101", "a\\x00", "2", "[0, 2]", "10:00:00+02"),
    ]
    for form in ("csv", "json", "parquet"):
        assert query.encode(answer, form)
    assert excel.encode(answer)


@pytest.mark.parametrize(
    ("sql", "cause"),
    [
        ("select * from fct_carbn", "table fct_carbn does not exist: did you mean fct_carbon?"),
        ("from nothing", "table nothing does not exist: `wattbook tables` lists them"),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select 1; select 2", "found 2 SQL statements: ask one at a time"),
        ("", "found 0 SQL statements: ask one at a time"),
    ],
)
def test_a_wrong_question_is_answered_with_its_cause_in_one_line(published, sql, cause):
    with pytest.raises(query.QueryError) as error:
        query.run_sql(published, "finance", sql)
    assert cause in error.value.causes[0]
    assert "\n" not in error.value.causes[0]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/hosts')",
        "select * from glob('/*')",
        "attach '/tmp/other.duckdb' as other",
        "copy fct_carbon to '/tmp/out.csv'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "reset lock_configuration",
        "create table marts.more (a integer)",
        "delete from fct_carbon",
    ],
)
def test_a_question_reaches_nothing_but_the_teams_file(published, sql):
    with pytest.raises(query.QueryError):
        query.run_sql(published, "finance", sql)
    assert query.run_sql(published, "finance", "select count(*) from fct_carbon").item() == 2


def test_an_unknown_team_is_told_which_there_are(published):
    with pytest.raises(query.QueryError, match="expected one of energy, finance, operations"):
        query.run_sql(published, "marketing", "select 1")


def test_before_the_first_publish_the_error_says_what_to_run(book):
    with pytest.raises(query.QueryError, match="run `wattbook run` first"):
        query.run_sql(book, "energy", "select 1")


def test_first_rows_are_fetched_and_the_others_counted(published):
    with query.opened(published, "finance") as connection:
        rows, count = query.first_rows(connection, "select range as n from range(1000000)", 2)
        assert (rows.names, rows.is_number, rows.values) == (("n",), (True,), [(0,), (1,)])
        assert count == 1_000_000
        few = query.first_rows(connection, "select 'x' as t, 'y' as t", 2)
        assert few == (query.Rows(("t", "t"), (False, False), [("x", "y")]), 1)


def test_a_count_that_takes_too_long_is_left_open(published, monkeypatch):
    monkeypatch.setattr(query, "COUNTED_WITHIN_S", 0.2)
    endless = (
        "select a.range from range(100000000) a, range(100000) b where a.range % 7 = b.range % 3"
    )
    with query.opened(published, "finance") as connection:
        rows, count = query.first_rows(connection, endless, 3)
        assert (len(rows.values), count) == (3, None)
        assert query.ask(connection, "select 1 as one").item() == 1


def test_a_mistake_that_only_later_rows_show_is_a_cause_and_no_fault(published):
    sql = "select 1 from range(1000) where (case when range < 990 then '1' else 'x' end)::int = 1"
    with query.opened(published, "finance") as connection, pytest.raises(query.QueryError):
        query.first_rows(connection, sql, 40)


def test_rows_come_in_batches_in_their_order(published):
    with query.opened(published, "finance") as connection:
        found = list(query.batches(connection, "from range(5)", 2))
    assert [batch.values for batch in found] == [[(0,), (1,)], [(2,), (3,)], [(4,)]]


def test_a_column_named_twice_says_what_mends_it(published):
    with pytest.raises(query.QueryError, match="found column a more than once: name each by `as`"):
        query.run_sql(published, "finance", "select 1 as a, 2 as a")


def test_a_table_of_another_team_is_said_to_be_so(published):
    mark = published.published / query.MARK
    mark.write_text(json.dumps({"of_other_teams": {"fct_prices": ["energy", "operations"]}}))
    for sql in ("from fct_prices", "from marts.fct_prices"):
        with pytest.raises(query.QueryError) as error:
            query.run_sql(published, "finance", sql)
        assert error.value.causes == [
            "table fct_prices is published for energy and operations, not for this team"
        ]


def test_a_misspelt_column_is_told_which_there_are_also_behind_an_alias(published):
    for sql in ("select site from fct_carbon", "select c.site from fct_carbon c"):
        with pytest.raises(query.QueryError) as error:
            query.run_sql(published, "finance", sql)
        assert 'Candidate bindings: "site_id"' in error.value.causes[0]
