"""Which days are built, and what a build that fails or has nothing to do leaves behind."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import duckdb
import polars as pl
import pytest

from pipelines import lake, warehouse
from pipelines.book import Book
from pipelines.published import publishing
from pipelines.warehouse import building, dbt


def write_loads(
    book: Book,
    *records: tuple[str, str, list[date]],
    tables: dict[str, list[str]] | None = None,
    withdrawn: dict[str, list[datetime]] | None = None,
) -> None:
    """Load records (load_id, status, touched dates) as the loader writes them.

    `tables` maps load_id to the tables it filled, meter readings unless given, and `withdrawn` to
    the instants at which it went out of the book and came back.
    """
    folder = book.lake / "loads"
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        [
            dict.fromkeys(lake.LOAD_RECORD_SCHEMA)
            | {
                "load_id": load_id,
                "status": status,
                "touched_dates": days,
                "reference_digest": "abc",
                "tables": (tables or {}).get(load_id, ["meter_readings"]),
                "data_files": [],
                "withdrawn_at": (withdrawn or {}).get(load_id, []),
            }
            for load_id, status, days in records
        ],
        schema=lake.LOAD_RECORD_SCHEMA,
    ).write_parquet(folder / "batch.parquet")


def mark_built(book: Book, load_ids: tuple[str, ...]) -> None:
    """A warehouse that holds these loads."""
    with duckdb.connect(str(book.warehouse)) as connection:
        connection.execute("create schema if not exists raw")
        connection.execute("create table if not exists raw.built_loads (load_id varchar)")
        connection.executemany(
            "insert into raw.built_loads values (?)", [[load_id] for load_id in load_ids]
        )


FIRST, SECOND = date(2026, 10, 1), date(2026, 10, 2)


def test_the_first_build_takes_everything(book):
    write_loads(book, ("a", "loaded", [FIRST]), ("b", "loaded", [SECOND]))
    todo = warehouse.plan(book)
    assert (todo.dates, todo.is_full_refresh) == (None, False)
    assert todo.load_ids[:2] == ("a", "b")
    assert [mark.split(".")[0] for mark in todo.load_ids[2:]] == ["project", "reference", "rollup"]


def test_nothing_is_needed_when_the_warehouse_holds_every_load(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    assert warehouse.plan(book).is_needed is False


def test_a_build_with_nothing_to_do_says_so(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    assert warehouse.build(book) == warehouse.BuildResult(book.warehouse.resolve(), is_built=False)


def test_only_the_days_that_new_loads_touch_are_built(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    write_loads(book, ("a", "loaded", [FIRST]), ("b", "loaded", [SECOND]))
    todo = warehouse.plan(book)
    assert (todo.dates, todo.load_ids) == ((SECOND,), ("b",))


def test_only_days_of_new_telemetry_are_rolled_up_unless_days_are_named(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    write_loads(
        book,
        ("a", "loaded", [FIRST]),
        ("invoice", "loaded", [FIRST]),
        ("samples", "loaded", [SECOND]),
        tables={"samples": ["gpu_samples"]},
    )
    todo = warehouse.plan(book)
    assert (todo.dates, todo.telemetry_dates) == ((FIRST, SECOND), (SECOND,))
    assert warehouse.plan(book, [FIRST]).telemetry_dates == (FIRST,)


def test_a_load_counts_as_built_only_when_all_its_days_are(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    in_window, before = date(2026, 9, 30), date(2026, 9, 29)
    loads = [
        ("a", "loaded", [FIRST]),
        ("bill", "loaded", [in_window, FIRST, SECOND]),
        ("late", "loaded", [before, SECOND]),
        ("samples", "loaded", [FIRST, SECOND]),
        ("more samples", "loaded", [in_window, SECOND]),
        ("c", "loaded", [SECOND]),
    ]
    telemetry = {load: ["gpu_samples"] for load in ("samples", "more samples")}
    write_loads(book, *loads, tables=telemetry)
    todo = warehouse.plan(book, [SECOND])
    # dbt builds on from there, and telemetry of the days next to the one named is rolled up.
    assert (todo.dates, todo.build_from, todo.load_ids) == (
        (SECOND,),
        in_window,
        ("bill", "c", "samples"),
    )
    assert set(warehouse.plan(book).load_ids) == {load for load, *_ in loads} - {"a"}


def test_days_that_cannot_be_named_keep_no_load_from_counting_as_built(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    write_loads(
        book,
        ("a", "loaded", [FIRST]),
        ("year", "loaded", [date(2025, 12, 31), FIRST, SECOND, date(2026, 12, 31)]),
        ("first", "loaded", [FIRST]),
    )
    todo = warehouse.plan(book, [SECOND])
    assert todo.load_ids == ("first",)
    todo = warehouse.plan(book, [SECOND], nameable=[FIRST, SECOND])
    assert todo.load_ids == ("first", "year")


def test_days_ahead_of_the_last_with_data_are_built_once_they_are_there(book):
    known = ("a", "loaded", [FIRST])
    write_loads(book, known)
    mark_built(book, warehouse.plan(book).load_ids)
    year = ("year", "loaded", [FIRST, SECOND, date(2026, 12, 31)])
    tomorrow = ("price", "loaded", [SECOND])
    tables = {"year": ["certificates"], "price": ["market_prices"]}
    write_loads(book, known, year, tomorrow, tables=tables)
    todo = warehouse.plan(book)
    assert (todo.dates, todo.load_ids) == ((FIRST,), ("price", "year"))
    assert warehouse.touched_dates(book) == [FIRST]
    # A bill says what has happened, even where no meter was read since.
    write_loads(
        book, known, year, ("bill", "loaded", [SECOND]), tables=tables | {"bill": ["cloud_charges"]}
    )
    todo = warehouse.plan(book)
    assert (todo.dates, todo.load_ids) == ((FIRST, SECOND), ("bill", "year"))


def test_a_build_goes_back_to_the_month_and_to_the_last_day_built_which_ever_is_earlier(book):
    write_loads(book, ("a", "loaded", [date(2026, 8, 20)]), ("ahead", "loaded", [date(2026, 9, 1)]))
    assert warehouse.plan(book).build_from is None
    mark_built(book, warehouse.plan(book).load_ids)
    loads = [
        ("a", "loaded", [date(2026, 8, 20)]),
        ("ahead", "loaded", [date(2026, 12, 31)]),
        ("gone", "withdrawn", [date(2026, 9, 20)]),
    ]
    ahead = {"ahead": ["certificates"]}
    for touched, first in (
        # The hours of 1 September may be those of August where the site stands.
        (date(2026, 9, 1), date(2026, 7, 31)),
        (date(2026, 8, 21), date(2026, 7, 31)),
        (date(2026, 9, 2), date(2026, 8, 21)),
        (date(2026, 10, 30), date(2026, 8, 21)),
        (date(2026, 7, 31), date(2026, 6, 30)),
    ):
        write_loads(book, *loads, ("new", "loaded", [touched]), tables=ahead)
        assert warehouse.plan(book).build_from == first


def test_a_file_that_waited_for_reference_data_is_built_again_when_it_is_let_in(book):
    write_loads(book, ("a", "partial", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    assert warehouse.plan(book).is_needed is False
    write_loads(book, ("a", "loaded", [FIRST]))
    assert warehouse.plan(book).dates == (FIRST,)


def test_a_file_that_goes_out_of_the_book_or_comes_back_is_built_anew(book):
    write_loads(book, ("a", "loaded", [FIRST]), ("b", "loaded", [SECOND]))
    mark_built(book, warehouse.plan(book).load_ids)
    changes = [datetime(2026, 10, day, tzinfo=UTC) for day in (3, 4)]
    for status, withdrawn in (("withdrawn", changes[:1]), ("loaded", changes)):
        write_loads(
            book,
            ("a", status, [FIRST]),
            ("b", "loaded", [SECOND]),
            withdrawn={"a": withdrawn},
        )
        todo = warehouse.plan(book)
        assert (todo.dates, todo.load_ids) == ((FIRST,), (f"a.w{len(withdrawn)}",))
        mark_built(book, todo.load_ids)
        assert warehouse.plan(book).is_needed is False


def test_a_day_whose_roll_up_is_gone_is_rolled_up_and_built_again(book):
    write_loads(book, ("a", "loaded", [FIRST]), tables={"a": ["gpu_samples"]})
    (book.lake / "gpu_samples" / str(FIRST)).mkdir(parents=True)
    (book.lake / "gpu_samples" / str(FIRST) / "batch.parquet").touch()
    mark_built(book, warehouse.plan(book).load_ids)
    for table in ("gpu_intervals", "node_intervals", "pod_intervals"):
        assert (warehouse.plan(book).dates, warehouse.plan(book).telemetry_dates) == (
            (FIRST,),
            (FIRST,),
        )
        (book.lake / table).mkdir()
        (book.lake / table / f"{FIRST}.parquet").touch()
    assert warehouse.plan(book).is_needed is False


def test_nothing_is_built_without_the_record_of_a_load_that_the_warehouse_holds(book):
    write_loads(book, ("a" * 16, "loaded", [FIRST]), ("b" * 16, "loaded", [SECOND]))
    mark_built(book, warehouse.plan(book).load_ids)
    write_loads(book, ("a" * 16, "loaded", [FIRST]))
    with pytest.raises(warehouse.WarehouseError) as error:
        warehouse.build(book)
    assert error.value.causes == [
        f"{book.lake}/loads: found no record of 1 loads that the warehouse holds"
        f" ({'b' * 16}): put the folder back from a backup or their files into landing and load,"
        " or delete warehouse.duckdb to build without them"
    ]


DAMAGES = {
    "cut off": lambda content: content[: len(content) // 2],
    "cut off in its head": lambda content: content[:100],
    "empty": lambda _: b"",
    "no database": lambda _: b"hello" * 10_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_warehouse_says_which_file_and_what_mends_it(book, damage):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    book.warehouse.write_bytes(DAMAGES[damage](book.warehouse.read_bytes()))
    with pytest.raises(warehouse.WarehouseError) as error:
        warehouse.build(book)
    [cause] = error.value.causes
    assert cause.startswith(f"{book.warehouse}: found a damaged file (")
    assert cause.endswith(
        "): delete it and run `wattbook build`: everything is built anew from the lake"
    )


def test_a_file_that_failed_needs_no_build(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    write_loads(book, ("a", "loaded", [FIRST]), ("b", "failed", []))
    assert warehouse.plan(book).is_needed is False


def test_a_change_of_reference_data_rebuilds_everything(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    targets = book.reference / "targets.yml"
    targets.write_text(targets.read_text() + "\n# changed\n")
    todo = warehouse.plan(book)
    assert (todo.dates, todo.is_full_refresh, todo.telemetry_dates) == (None, True, ())


def test_a_change_of_reference_data_that_is_taken_back_rebuilds_everything_again(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    mark_built(book, warehouse.plan(book).load_ids)
    targets = book.reference / "targets.yml"
    before = targets.read_text()
    targets.write_text(before + "\n# changed\n")
    mark_built(book, warehouse.plan(book).load_ids)
    assert warehouse.plan(book).is_needed is False
    targets.write_text(before)
    assert warehouse.plan(book).is_full_refresh is True


def test_the_vars_of_dbt_name_days_loads_and_the_instant():
    todo = warehouse.Plan(
        Book(Path("/books/one")),
        Path("/books/one/warehouse.duckdb"),
        (FIRST,),
        ("a",),
        as_of=datetime(2026, 10, 5, tzinfo=UTC),
    )
    assert todo.dbt_vars == {
        "lake_dir": "/books/one/lake",
        "roll_up_dir": "/books/one/lake",
        "as_of": "2026-10-05T00:00:00+00:00",
        "build_from": "2026-08-31",
        "load_ids": ["a"],
    }


INSTANT = datetime(2026, 10, 5, 12, tzinfo=UTC)


def test_a_book_as_of_an_instant_shares_the_lake_but_for_its_roll_ups(book):
    write_loads(book, ("a", "loaded", [FIRST]))
    todo = warehouse.plan(book, as_of=INSTANT)
    own = todo.book
    assert (own.lake, own.reference) == (book.lake, book.reference)
    assert own.roll_ups == own.data_dir / "roll_ups"
    assert todo.dbt_vars["lake_dir"] == str(book.lake.resolve())
    assert todo.dbt_vars["roll_up_dir"] == str(own.roll_ups.resolve())
    assert (todo.dates, todo.as_of, todo.warehouse.name) == (
        None,
        INSTANT,
        "warehouse.as-of-2026-10-05T120000Z.duckdb",
    )


def with_samples(book: Book, day: date) -> None:
    """A lake that holds a file, without rows, of a day's telemetry."""
    lake.load(book)
    folder = book.lake / "gpu_samples"
    (folder / str(day)).mkdir()
    shutil.copy(folder / "schema.parquet", folder / str(day))


def test_roll_ups_of_a_book_as_of_an_instant_leave_those_of_the_book(book):
    with_samples(book, FIRST)
    todo = warehouse.plan(book, as_of=INSTANT)
    warehouse.roll_up(todo)
    assert list(book.lake.glob("*_intervals")) == []
    assert sorted(file.name for file in todo.book.roll_ups.glob("*/2*")) == [f"{FIRST}.parquet"] * 3


def test_a_spark_master_rolls_the_days_up_and_fails_the_build_where_it_is_not_there(
    book, monkeypatch
):
    with_samples(book, FIRST)
    monkeypatch.setenv("WATTBOOK_SPARK_MASTER", "spark://127.0.0.1:1")
    with pytest.raises(lake.LakeError, match=r"SPARK_MASTER=\S+: no Spark master answers"):
        warehouse.build(book)
    called = []
    monkeypatch.setattr(building.spark, "roll_up", lambda *args, **options: called.append(args))
    warehouse.roll_up(warehouse.plan(book))
    assert called == [(book, [FIRST], "spark://127.0.0.1:1")]


def test_a_book_as_of_an_instant_is_replaced_whole_or_not_at_all(book, monkeypatch):
    seen = []
    answers = iter([True, True, False, True])
    final = book.data_dir / "warehouse.as-of-2026-10-05T120000Z.duckdb"

    def dbt_writes(_: Book, file: Path, *__: object) -> SimpleNamespace:
        seen.append((file.exists(), final.read_text() if final.exists() else None))
        file.write_text(f"build {len(seen)}")
        return SimpleNamespace(success=next(answers), result=None, exception=None)

    monkeypatch.setattr(building, "invoke_dbt", dbt_writes)
    for _ in range(2):
        assert warehouse.build(book, as_of=INSTANT).warehouse == final.resolve()
    with pytest.raises(warehouse.WarehouseError):
        warehouse.build(book, as_of=INSTANT)
    assert final.read_text() == "build 2"
    warehouse.build(book, as_of=INSTANT)
    assert final.read_text() == "build 4"
    # What dbt is given is new each time, also after a build that failed.
    assert seen == [(False, None), (False, "build 1"), (False, "build 2"), (False, "build 2")]


def test_a_build_that_fails_names_the_model_and_its_cause(book, tmp_path, monkeypatch):
    project = tmp_path / "project"
    shutil.copytree(warehouse.PROJECT_DIR, project, ignore=shutil.ignore_patterns("models"))
    (project / "models" / "marts").mkdir(parents=True)
    (project / "models" / "marts" / "fct_wrong.sql").write_text(
        "select missing_column from range(3)"
    )
    monkeypatch.setattr(dbt, "PROJECT_DIR", project)
    with pytest.raises(warehouse.WarehouseError) as error:
        warehouse.build(book)
    assert len(error.value.causes) == 1
    assert error.value.causes[0].startswith("model fct_wrong (models/marts/fct_wrong.sql): ")
    assert 'column "missing_column" not found' in error.value.causes[0]
    with duckdb.connect(str(book.warehouse)) as connection:
        assert connection.execute("select * from raw.built_loads").fetchall() == []


def test_a_build_that_fails_tells_which_constraints_are_broken_by_how_many_rows(
    book, tmp_path, monkeypatch
):
    project = tmp_path / "project"
    shutil.copytree(warehouse.PROJECT_DIR, project, ignore=shutil.ignore_patterns("models"))
    for singular in (project / "tests").glob("*.sql"):
        singular.unlink()
    (project / "models" / "marts").mkdir(parents=True)
    (project / "models" / "marts" / "fct_wrong.sql").write_text(
        "select * from (values (1, 1, 'mine'), (1, null, 'mine'), (1, null, null), (2, 3, 'new'))"
        " as rows (a, b, c)"
    )
    (project / "models" / "marts" / "fct_wrong.yml").write_text("""
models:
  - name: fct_wrong
    constraints:
      - {type: unique, columns: [a, b]}
      - {type: primary_key, columns: [a, c]}
    data_tests: [constraints]
    columns:
      - {name: a, constraints: [{type: not_null}]}
      - {name: b, constraints: [{type: not_null}]}
      - {name: c, constraints: [{type: check, expression: "c in ('mine')"}]}
""")
    monkeypatch.setattr(dbt, "PROJECT_DIR", project)
    with pytest.raises(warehouse.WarehouseError) as error:
        warehouse.build(book)
    [cause] = error.value.causes
    test, _, rows = cause.partition(" != 0: ")
    assert test == (
        "test constraints_fct_wrong_ (models/marts/fct_wrong.yml): Got 8 results, configured to"
        " fail if"
    )
    assert sorted(rows.split("; ")) == [
        "broken_constraint a, b is unique, row_count 2",
        "broken_constraint a, c is unique, row_count 2",
        "broken_constraint b is not null, row_count 2",
        "broken_constraint c in ('mine'), row_count 1",
        "broken_constraint c is not null, row_count 1",
    ]


def test_the_project_is_parsed_anew_only_once_it_has_changed(book, monkeypatch):
    calls = []

    def parse(of: Book, *_: object) -> SimpleNamespace:
        calls.append(dbt.project_digest())
        dbt.manifest_path(of).parent.mkdir(parents=True, exist_ok=True)
        dbt.manifest_path(of).write_text(f'{{"parsed": {len(calls)}}}')
        return SimpleNamespace(success=True)

    monkeypatch.setattr(dbt, "invoke_dbt", parse)
    assert [dbt.parse(book), dbt.parse(book)] == [{"parsed": 1}] * 2
    monkeypatch.setattr(dbt, "project_digest", lambda: "another")
    assert [dbt.parse(book), dbt.parse(book)] == [{"parsed": 2}] * 2
    dbt.manifest_path(book).unlink()
    assert dbt.parse(book) == {"parsed": 3}
    assert calls[1:] == ["another"] * 2


def test_a_second_run_of_the_demo_builds_nothing(demo_book):
    before = demo_book.warehouse.stat().st_mtime_ns
    summary = lake.load(demo_book)
    assert (summary.loaded, summary.partial, summary.failed) == (0, 0, 0)
    assert warehouse.build(demo_book).is_built is False
    assert demo_book.warehouse.stat().st_mtime_ns == before
    assert publishing.is_current(demo_book)
