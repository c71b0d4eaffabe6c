"""What the lake holds beside its load records: what is lost is read again, or said."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines import lake
from pipelines.book import Book
from pipelines.lake import loading

LOADED = datetime(2026, 11, 1, 8, tzinfo=UTC)
LATER = LOADED + timedelta(days=1)
HEADER = "timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
OUTAGE = (
    "event_id,target,event_type,started_at,ended_at,import_limit_kw,status\n"
    "E1,sparks-pcc,grid_outage,2026-08-14T23:30Z,2026-08-16T00:00Z,,active\n"
)


def battery(day: int) -> str:
    return f"{HEADER}2026-04-{day:02}T12:00:00Z,sparks-second-life,50,-10,charging\n"


@pytest.fixture
def loaded(book: Book) -> Book:
    """A book of two batches: a and b with the outage in one, c alone."""
    for name, content in {
        "battery_csv/a.csv": battery(5),
        "battery_csv/b.csv": battery(6),
        "outages_csv/e.csv": OUTAGE,
    }.items():
        (book.landing / name).parent.mkdir(parents=True, exist_ok=True)
        (book.landing / name).write_text(content)
    lake.load(book, now=LOADED)
    (book.landing / "battery_csv" / "c.csv").write_text(battery(7))
    lake.load(book, now=LATER)
    return book


def rows(book: Book) -> dict[str, list[tuple]]:
    columns = ("source_file", "known_at", "loaded_at", "load_number")
    return {
        table: pl.concat(pl.read_parquet(file) for file in (book.lake / table).glob("*.parquet"))
        .select(columns)
        .sort("source_file")
        .rows()
        for table in ("battery_samples", "grid_events")
    }


def data_file(book: Book, source_file: str) -> Path:
    records = lake.read_load_records(book).filter(source_file=source_file)
    return book.data_dir / records["data_files"].item()[0]["file"]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "cut off": truncate,
    "emptied": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_are_lost_are_read_again_and_known_since_they_were(loaded, damage):
    before = rows(loaded)
    DAMAGES[damage](data_file(loaded, "battery_csv/b.csv"))
    assert len(lake.damage(loaded, lake.read_load_records(loaded))) == 1
    summary = lake.load(loaded, now=LATER + timedelta(days=1))
    assert (summary.loaded, summary.skipped, summary.lost) == (2, 2, [])
    assert rows(loaded) == before
    assert lake.damage(loaded, lake.read_load_records(loaded)) == []
    assert lake.load(loaded, now=LATER).loaded == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_landing_no_longer_holds_either_is_said_and_what_is_left_is_kept(loaded, damage):
    before = rows(loaded)
    file = data_file(loaded, "battery_csv/b.csv")
    DAMAGES[damage](file)
    moved = loaded.landing / "battery_csv" / "a.csv"
    content = moved.read_text()
    moved.unlink()
    (loaded.landing / "battery_csv" / "c.csv").unlink()
    name = file.relative_to(loaded.data_dir).as_posix()
    # a.csv counts as deleted; as of yesterday it would still be asked for.
    summary = lake.load(loaded, now=LATER)
    assert (summary.loaded, summary.lost) == (1, [])
    records = lake.read_load_records(loaded)
    assert lake.damage(loaded, records) == []
    [cause] = lake.damage(loaded, records, as_of=True)
    assert cause == (
        f"{name}: found no file, expected the rows of battery_csv/a.csv: put these into landing and"
        " run `wattbook load`, or `wattbook withdraw` them"
    )
    moved.write_text(content)
    (loaded.landing / "battery_csv" / "c.csv").write_text(battery(7))
    assert lake.load(loaded, now=LATER).lost == []
    assert rows(loaded) == before


def test_files_of_another_size_or_of_other_bytes_are_told_apart_by_what_is_asked(loaded):
    file = data_file(loaded, "battery_csv/c.csv")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert lake.load(loaded, now=LATER).loaded == 0
    summary = lake.load(loaded, now=LATER, with_checksums=True)
    assert (summary.loaded, summary.lost) == (1, [])
    assert lake.damage(loaded, lake.read_load_records(loaded)) == []


def test_a_damaged_load_record_says_which_file_and_what_mends_it(loaded):
    [record, *_] = sorted((loaded.lake / "loads").glob("[0-9a-f]*.parquet"))
    record.write_bytes(b"PAR1 and no more")
    with pytest.raises(lake.LakeError) as refused:
        lake.load(loaded, now=LATER)
    [cause] = refused.value.causes
    assert cause.startswith(f"{record}: found a damaged file (")
    assert cause.endswith(
        "), expected load records: put it back from a backup, or delete it and load again: what it"
        " told of is read again from landing"
    )
    record.unlink()
    assert lake.load(loaded, now=LATER).lost == []
    assert [row[0] for row in rows(loaded)["battery_samples"]] == [
        f"battery_csv/{name}.csv" for name in "abc"
    ]


def test_rows_of_which_no_record_tells_stay_where_landing_cannot_bring_them_back(loaded):
    for record in (loaded.lake / "loads").glob("[0-9a-f]*.parquet"):
        record.unlink()
    shutil.rmtree(loaded.landing)
    file = data_files(loaded)[0]
    with pytest.raises(lake.LakeError) as refused:
        lake.load(loaded, now=LATER)
    assert (
        f"{file}: found rows of which no load record tells, of files that are not in landing: put"
        " lake/loads back from a backup or the files back into landing, or delete this one"
    ) in refused.value.causes
    assert data_files(loaded)[0] == file


def data_files(book: Book) -> list[Path]:
    return sorted(
        file
        for file in (book.lake / "battery_samples").glob("*.parquet")
        if file.name != "schema.parquet"
    )


def test_a_load_that_was_cut_off_is_ended_before_anything_is_built(book, monkeypatch):
    (book.landing / "battery_csv").mkdir(parents=True)
    (book.landing / "battery_csv" / "a.csv").write_text(battery(5))

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loading.Batch, "_records", cut_off)
        with pytest.raises(KeyboardInterrupt):
            lake.load(book, now=LOADED)
    assert lake.damage(book, lake.read_load_records(book)) == [
        f"{book.lake}: the last load was cut off: run `wattbook load` first"
    ]
    assert lake.load(book, now=LOADED).loaded == 1
    assert lake.damage(book, lake.read_load_records(book)) == []
