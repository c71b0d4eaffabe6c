"""Files that are out of the book: what counts as deleted, what is withdrawn, what comes back."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines import lake
from pipelines.book import Book

LOADED = datetime(2026, 11, 1, 8, tzinfo=UTC)
LATER = LOADED + timedelta(days=1)
HEADER = "timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
NAMES = ("battery_csv/a.csv", "battery_csv/b.csv", "outages_csv/e.csv")


def battery(day: int) -> str:
    return f"{HEADER}2026-04-{day:02}T12:00:00Z,sparks-second-life,50,-10,charging\n"


def outage(started_at: str, ended_at: str, published_at: str) -> str:
    return (
        "event_id,target,event_type,started_at,ended_at,import_limit_kw,status,published_at\n"
        f"E1,sparks-pcc,grid_outage,{started_at},{ended_at},,active,{published_at}\n"
    )


OUTAGE = outage("2026-08-14T23:30Z", "2026-08-15T03:00Z", "2026-08-14T23:40Z")


def put(book: Book, name: str, content: str) -> Path:
    file = book.landing / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


@pytest.fixture
def loaded(book: Book) -> Book:
    """A book of three files in two folders."""
    for name, content in zip(NAMES, (battery(5), battery(6), OUTAGE), strict=True):
        put(book, name, content)
    lake.load(book, now=LOADED)
    return book


def status(book: Book) -> dict[str, str]:
    records = lake.read_load_records(book).sort("source_file")
    return dict(records.select("source_file", "status").iter_rows())


def out(book: Book, as_of: datetime | None = None) -> list[str]:
    records = lake.read_load_records(book)
    ids = lake.withdrawn_loads(records, as_of)
    return sorted(records.filter(pl.col("load_id").is_in(ids))["source_file"])


IN = dict.fromkeys(NAMES, "loaded")


def test_a_deleted_file_is_out_and_back_once_it_lies_there_again(loaded):
    file = loaded.landing / NAMES[0]
    content = file.read_text()
    file.unlink()
    summary = lake.load(loaded, now=LATER)
    assert summary.notes == [
        "deleted: battery_csv/a.csv: is out of the book from the next build on"
    ]
    assert (summary.skipped, summary.failed) == (2, 0)
    assert status(loaded) == IN | {NAMES[0]: "deleted"}
    assert lake.load(loaded, now=LATER).notes == []
    file.write_text(content)
    summary = lake.load(loaded, now=LATER + timedelta(days=1))
    assert summary.notes == ["back: battery_csv/a.csv: is in the book again"]
    assert (summary.loaded, status(loaded)) == (0, IN)
    assert [out(loaded, LOADED + timedelta(hours=hours)) for hours in (0, 24, 47, 48)] == [
        *([], [NAMES[0]], [NAMES[0]], []),
    ]


def test_a_file_that_moved_is_still_there(loaded):
    (loaded.landing / NAMES[0]).rename(loaded.landing / "battery_csv" / "renamed.csv")
    assert lake.load(loaded, now=LATER).notes == []
    assert status(loaded) == IN


def test_a_file_replaced_under_its_name_leaves_what_it_held_and_says_so(loaded):
    before = lake.read_load_records(loaded).filter(source_file=NAMES[0])["load_id"].item()
    put(loaded, NAMES[0], battery(7))
    summary = lake.load(loaded, now=LATER)
    assert summary.notes == [
        "replaced: battery_csv/a.csv: the rows it brought before stay in the book:"
        f" `wattbook withdraw {before}` takes them out"
    ]
    assert out(loaded) == []
    # Of the two only what it held last goes with it.
    (loaded.landing / NAMES[0]).unlink()
    lake.load(loaded, now=LATER)
    deleted = lake.read_load_records(loaded).filter(status="deleted")
    assert deleted["load_id"].to_list() != [before]
    assert len(deleted) == 1


HIDDEN = {
    "landing is not there": lambda landing: landing.rename(landing.with_name("elsewhere")),
    "landing is empty": lambda landing: [shutil.rmtree(each) for each in landing.iterdir()],
    "a folder is empty": lambda landing: [
        file.unlink() for file in (landing / "battery_csv").iterdir()
    ],
}
DELETED = {
    "the only file of a folder": (
        lambda landing: (landing / NAMES[2]).unlink(),
        [NAMES[2]],
    ),
    "a whole folder": (
        lambda landing: shutil.rmtree(landing / "battery_csv"),
        [NAMES[0], NAMES[1]],
    ),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_may_only_be_hidden_is_not_deleted_and_is_said(loaded, kind):
    HIDDEN[kind](loaded.landing)
    summary = lake.load(loaded, now=LATER)
    assert out(loaded) == []
    assert summary.notes[0] == (
        "landing/battery_csv: found no file, expected the 2 of which the book holds rows: put them"
        " back, or remove the folder too if they were meant to go"
    )


@pytest.mark.parametrize("kind", DELETED)
def test_what_is_gone_beside_others_is_deleted(loaded, kind):
    delete, expected = DELETED[kind]
    delete(loaded.landing)
    lake.load(loaded, now=LATER)
    assert out(loaded) == expected


def test_what_lies_below_a_folder_that_cannot_be_read_is_not_deleted(loaded, monkeypatch):
    scandir = lake.landing.os.scandir

    def listed(path: str | Path):
        if Path(path).name == "battery_csv":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(lake.landing.os, "scandir", listed)
    summary = lake.load(loaded, now=LATER)
    assert (summary.failed, out(loaded)) == (1, [])


def test_what_landing_keeps_for_a_time_may_go_after_it(loaded):
    file = loaded.reference / "organization.yml"
    file.write_text(f"{file.read_text()}landing_kept_days: 30\n")
    put(loaded, "battery_csv/new.csv", battery(8))
    lake.load(loaded, now=LOADED + timedelta(days=20))
    (loaded.landing / "battery_csv" / "a.csv").unlink()
    (loaded.landing / "battery_csv" / "new.csv").unlink()
    lake.load(loaded, now=LOADED + timedelta(days=31))
    assert out(loaded) == ["battery_csv/new.csv"]


def test_a_withdrawn_file_stays_out_though_it_lies_in_landing_until_it_is_brought_back(loaded):
    changed = lake.withdraw(loaded, [NAMES[0], f"{loaded.landing}/{NAMES[2]}"], now=LATER)
    assert sorted(changed["source_file"]) == [NAMES[0], NAMES[2]]
    put(loaded, "battery_csv/same_bytes.csv", battery(5))
    summary = lake.load(loaded, now=LATER)
    assert (summary.loaded, summary.skipped) == (0, 4)
    assert out(loaded) == [NAMES[0], NAMES[2]]
    lake.withdraw(loaded, [NAMES[0]], is_back=True, now=LATER)
    assert status(loaded) == IN | {NAMES[2]: "withdrawn"}


def test_what_cannot_be_withdrawn_is_said_and_nothing_is(loaded):
    put(loaded, NAMES[0], battery(7))
    lake.load(loaded, now=LATER)
    ids = lake.read_load_records(loaded).filter(source_file=NAMES[0]).sort("load_number")["load_id"]
    with pytest.raises(lake.LakeError) as refused:
        lake.withdraw(loaded, [NAMES[1], "battery_csv/x.csv", NAMES[0]])
    assert refused.value.causes == [
        "battery_csv/x.csv: found no such load, expected a path below landing or a load id, as in"
        " raw_loads",
        "battery_csv/a.csv: found 2 loads of that path, expected the load id of one:"
        f" {ids[0]} of 2026-11-01 08:00, {ids[1]} of 2026-11-02 08:00",
    ]
    assert out(loaded) == []
    lake.withdraw(loaded, [ids[0]])
    assert out(loaded) == [NAMES[0]]
    with pytest.raises(lake.LakeError):
        lake.withdraw(loaded, [NAMES[1]], is_back=True)


def test_a_version_that_goes_makes_the_days_of_the_one_before_stale(loaded):
    put(
        loaded,
        "outages_csv/0.csv",
        outage("2026-08-20T23:30Z", "2026-08-21T03:00Z", "2026-08-20T23:40Z"),
    )
    lake.load(loaded, now=LATER)
    # The event was known to be on the 14th first, but that file was loaded before.
    lake.withdraw(loaded, [NAMES[2]])
    record = lake.read_load_records(loaded).filter(source_file=NAMES[2])
    days = (14, 15, 20, 21)
    assert record["touched_dates"].to_list() == [[date(2026, 8, day) for day in days]]
