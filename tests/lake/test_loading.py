"""Small landings of good, damaged and hostile files, and what loading makes of them."""

import hashlib
import io
import json
import os
import shutil
import traceback
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines import lake
from pipelines.book import Book
from pipelines.connectors import FORMATS
from pipelines.lake import batch, holdings, landing, loading
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.landing import DEMO_REFERENCE, declare

ARRIVED = datetime(2026, 4, 6, 3, tzinfo=UTC)
LOADED = datetime(2026, 11, 1, 8, tzinfo=UTC)
BATTERY_HEADER = "timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
BATTERY = BATTERY_HEADER + "2026-04-05T23:45:00Z,sparks-second-life,50,-10,charging\n"
JOBS_HEADER = "JobID|Cluster|State|Submit|Start|End|ElapsedRaw|NNodes|NodeList\n"
JOBS = (
    JOBS_HEADER + "7|sparks|COMPLETED|2026-04-05T09:00:00|2026-04-05T10:00:00|2026-04-07T10:00:00"
    "|172800|3|spk[0001-0002,0009]\n"
)
OUTAGES_HEADER = "event_id,target,event_type,started_at,ended_at,import_limit_kw,status\n"
OUTAGE = OUTAGES_HEADER + "E1,sparks-pcc,grid_outage,2026-08-14T23:30Z,2026-08-16T00:00Z,,active\n"


def put(book: Book, name: str, content: str | bytes, *, arrived: datetime = ARRIVED) -> Path:
    file = book.landing / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(file, (arrived.timestamp(), arrived.timestamp()))
    return file


def load(book: Book, *, now: datetime = LOADED, **options: bool) -> lake.LoadSummary:
    return lake.load(book, now=now, **options)


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name.replace("__", "/").replace("_csv", ".csv"))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def counts(summary: lake.LoadSummary) -> dict[str, int]:
    return {
        name: getattr(summary, name)
        for name in ("loaded", "skipped", "partial", "failed", "quarantined_rows")
    }


def rows(book: Book, table: str) -> pl.DataFrame:
    return pl.concat(
        pl.read_parquet(file) for file in sorted((book.lake / table).rglob("*.parquet"))
    )


def staged(book: Book) -> dict[str, list[dict]]:
    """What staging sees: of each key the newest row, by its source or else by its load."""
    tables = {
        name: rows(book, name)
        .sort(pl.coalesce("loaded_at", "known_at"), "load_number", "source_row")
        .unique(table.key, keep="last")
        .sort(table.key)
        .to_dicts()
        for name, table in RAW_TABLES.items()
    }
    nodes = rows(book, "job_nodes")
    return tables | {"job_nodes": nodes.sort(nodes.columns).to_dicts()}


def quarantined(book: Book) -> list[tuple[str, int, str]]:
    frames = [pl.read_parquet(file) for file in sorted(book.quarantine.rglob("*.parquet"))]
    columns = ("source_file", "source_row", "reason")
    return sorted(row for frame in frames for row in frame.select(columns).rows())


def outcome(book: Book) -> dict[str, tuple[str, str | None]]:
    records = lake.read_load_records(book)
    return {
        name: (status, reason)
        for name, status, reason in records.select("source_file", "status", "reason").iter_rows()
    }


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_good_file_is_loaded_with_where_it_came_from_and_a_record(book):
    put(book, "battery_csv/a/one.csv", BATTERY)
    summary = load(book)
    assert counts(summary) == {
        "loaded": 1, "skipped": 0, "partial": 0, "failed": 0, "quarantined_rows": 0,
    }  # fmt: skip
    assert rows(book, "battery_samples").to_dicts() == [
        {
            "known_at": ARRIVED,
            "loaded_at": LOADED,
            "source_file": "battery_csv/a/one.csv",
            "source_row": 0,
            "load_id": summary.records[0].load_id,
            "load_number": 1,
            "battery_id": "sparks-second-life",
            "sampled_at": datetime(2026, 4, 5, 23, 45, tzinfo=UTC),
            "state_of_charge_ratio": 0.5,
            "power_kw": -10.0,
            "available_charge_kw": None,
            "available_discharge_kw": None,
            "energy_capacity_kwh": None,
            "state": "charging",
        }
    ]
    record = lake.read_load_records(book).to_dicts()[0]
    digest, batch = record.pop("reference_digest"), record.pop("batch")
    [data_file] = record.pop("data_files")
    assert record.pop("withdrawn_at") == []
    written = book.lake / "battery_samples" / f"{batch}.parquet"
    assert data_file == {
        "file": f"lake/battery_samples/{batch}.parquet",
        "row_count": 1,
        "file_bytes": written.stat().st_size,
        "sha256": hashlib.sha256(written.read_bytes()).hexdigest(),
    }
    sha256 = record["sha256"]
    assert (len(sha256), len(digest), len(batch)) == (64, 16, 16)
    assert record == {
        "load_id": sha256[:16],
        "sha256": sha256,
        "source_file": "battery_csv/a/one.csv",
        "format": "battery_csv",
        "status": "loaded",
        "row_count": 1,
        "quarantined_row_count": 0,
        "left_out_row_count": 0,
        "reason": None,
        "left_out_reason": None,
        "known_at": ARRIVED,
        "loaded_at": LOADED,
        "load_number": 1,
        "tables": ["battery_samples"],
        "touched_dates": [date(2026, 4, 5)],
        "file_bytes": len(BATTERY),
    }


def openadr_event(*targets: str) -> str:
    return json.dumps(
        {
            "id": "order-7",
            "programID": "p",
            "targets": targets,
            "payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
            "intervalPeriod": {"start": "2026-08-14T23:30:00Z", "duration": "PT1H"},
            "intervals": [{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [5]}]}],
        }
    )


def test_an_event_that_is_for_others_too_is_loaded_for_the_site_and_the_others_are_counted(book):
    put(book, "openadr/both.json", openadr_event("sparks-pcc", "81"))
    put(book, "openadr/others.json", openadr_event("82"))
    summary = load(book)
    assert rows(book, "grid_events").select("target", "source_file").rows() == [
        ("sparks-pcc", "openadr/both.json")
    ]
    assert outcome(book) == {
        "openadr/both.json": ("loaded", None),
        "openadr/others.json": (
            "partial",
            "target 82 is not declared: add it to grid_event_target of a file in"
            " reference/sites and load again",
        ),
    }
    assert summary.left_out() == [("openadr: target 81 of an event that is for a site too", 1, 1)]


def test_what_was_left_out_is_read_again_once_the_reference_data_declares_it(book):
    put(book, "openadr/both.json", openadr_event("sparks-pcc", "81"))
    load(book)
    assert counts(load(book))["skipped"] == 1
    site = book.reference / "sites" / "franklin.yml"
    site.write_text(site.read_text().replace("franklin-poi", '"81"'))
    assert counts(load(book))["loaded"] == 1
    assert sorted(rows(book, "grid_events")["target"]) == ["81", "sparks-pcc"]


def test_a_listing_with_steps_is_read_once_whatever_is_declared_later(book):
    step = JOBS.splitlines(keepends=True)[1].replace("|", ".batch|", 1)
    put(book, "sacct/jobs.txt", JOBS + step)
    assert [count for _, count, _ in load(book).left_out()] == [1]
    site = book.reference / "sites" / "franklin.yml"
    site.write_text(site.read_text().replace("franklin-poi", '"81"'))
    assert counts(load(book))["skipped"] == 1


def listing(*events: tuple[str, str]) -> str:
    """A listing of these events, each with the date on which it limits import."""
    told = json.loads(openadr_event("sparks-pcc"))
    return json.dumps(
        [
            told
            | {
                "id": event_id,
                "intervalPeriod": {"start": f"{day}T10:00:00Z", "duration": "PT1H"},
            }
            for event_id, day in events
        ]
    )


def stale(book: Book) -> dict[str, list[date]]:
    """File -> the dates that its loading made stale."""
    records = lake.read_load_records(book)
    return dict(records.select("source_file", "touched_dates").iter_rows())


def test_a_listing_makes_stale_the_days_of_what_it_has_and_of_what_it_has_no_more(book):
    first, second, third = date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 3)
    files = [
        (
            "openadr/full/p/1.json",
            listing(("a", "2026-05-01"), ("b", "2026-05-02")),
            [first, second],
        ),
        ("openadr/full/q/1.json", "[]", []),
        ("openadr/full/p/2.json", listing(("b", "2026-05-02")), [first, second]),
        # What the listing before had not is gone already.
        (
            "openadr/full/p/3.json",
            listing(("b", "2026-05-02"), ("c", "2026-05-03")),
            [second, third],
        ),
        ("openadr/full/p/4.json", "[]", [second, third]),
    ]
    for name, content, dates in files:
        put(book, name, content)
        assert counts(lake.load(book))["loaded"] == 1
        assert stale(book)[name] == dates
    assert rows(book, "grid_event_listings")["program_id"].sort().to_list() == ["p"] * 4 + ["q"]


def test_the_same_listing_again_or_of_another_program_says_something_else(book):
    same = listing(("a", "2026-05-01"))
    put(book, "openadr/full/p/1.json", same)
    put(book, "openadr/full/p/2.json", "[]")
    lake.load(book)
    put(book, "openadr/full/p/3.json", same)
    put(book, "openadr/full/q/1.json", "[]")
    put(book, "openadr/a.json", same)
    put(book, "openadr/b.json", same)
    assert counts(lake.load(book))["loaded"] == 3
    assert counts(lake.load(book))["loaded"] == 0


UNKNOWN_FOLDER = f"found landing folder 'misc', expected one of {', '.join(FORMATS)}: move the file"
BOMB = zipped(a_csv="0" * 3_000_000)
FAILURES: dict[str, tuple[bytes, str]] = {
    "misc/readme.txt": (b"hello", UNKNOWN_FOLDER),
    "battery_csv/empty.csv": (b"", "found 0 bytes, expected a file with content: send it again"),
    "battery_csv/outside.zip": (
        zipped(**{"..__x_csv": BATTERY}),
        "found archive member '../x.csv', expected a name inside the archive: pack it again",
    ),
    "battery_csv/bomb.zip": (
        BOMB,
        f"found more than {len(BOMB) * 500} bytes when unpacked, expected fewer: split the file",
    ),
    "battery_csv/no_members.zip": (
        b"PK\x05\x06" + bytes(18),
        "found an empty archive, expected files in it: send it again",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_file_that_cannot_be_read_fails_in_words_and_the_others_load(book, name):
    content, reason = FAILURES[name]
    put(book, name, content)
    put(book, "battery_csv/good.csv", BATTERY)
    summary = load(book)
    assert outcome(book) == {name: ("failed", reason), "battery_csv/good.csv": ("loaded", None)}
    assert counts(summary) == {
        "loaded": 1, "skipped": 0, "partial": 0, "failed": 1, "quarantined_rows": 0,
    }  # fmt: skip
    assert len(rows(book, "battery_samples")) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason_starts"),
    [
        ("green_button/cut.xml", b"<feed><entry>", "not well-formed XML ("),
        ("prometheus/shape.json", b'{"weather": 1}', ""),
        ("battery_csv/binary.csv", bytes(range(256)), ""),
        ("battery_csv/cut.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff",
         "found broken compression ("),
        ("battery_csv/cut.zip", zipped(a_csv=BATTERY)[:60], "found a broken zip archive ("),
    ],
)  # fmt: skip
def test_damaged_files_fail_and_the_others_load(book, name, content, reason_starts):
    put(book, name, content)
    put(book, "battery_csv/good.csv", BATTERY)
    load(book)
    status, reason = outcome(book)[name]
    assert (status, reason.startswith(reason_starts), len(reason) > 20) == ("failed", True, True)
    assert outcome(book)["battery_csv/good.csv"] == ("loaded", None)


def test_a_link_out_of_landing_is_not_followed(book, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text(BATTERY)
    (book.landing / "battery_csv").mkdir(parents=True)
    (book.landing / "battery_csv" / "link.csv").symlink_to(secret)
    summary = load(book)
    assert outcome(book) == {
        "battery_csv/link.csv": (
            "failed",
            "found a link out of landing, expected a file: copy it here",
        )
    }
    assert (summary.failed, len(rows(book, "battery_samples"))) == (1, 0)


def test_rows_that_cannot_be_right_are_quarantined_and_the_rest_of_their_file_loads(book):
    put(
        book,
        "battery_csv/rows.csv",
        BATTERY
        + "2026-04-05T12:00:00Z,sparks-second-life,50,NaN,charging\n"
        + "2026-04-05T12:00:00,sparks-second-life,50,1,charging\n"
        + "2026-04-05T12:00:00Z,nobody,50,1,charging\n",
    )
    put(
        book,
        "outages_csv/target.csv",
        OUTAGE + OUTAGE.splitlines(True)[1].replace("sparks-pcc", "x"),
    )
    put(book, "sacct/jobs.txt", JOBS + JOBS.splitlines(True)[1].replace("[0001-0002,0009]", "[1-"))
    summary = load(book)
    assert quarantined(book) == [
        ("battery_csv/rows.csv", 1, "power_kw 'NaN': expected a number"),
        (
            "battery_csv/rows.csv",
            2,
            "timestamp '2026-04-05T12:00:00' has no time zone: expected Z or an offset such as"
            " +02:00",
        ),
        (
            "battery_csv/rows.csv",
            3,
            "battery_id nobody is not declared: add it to batteries of a file in"
            " reference/sites and load again",
        ),
        (
            "outages_csv/target.csv",
            1,
            "target x is not declared: add it to grid_event_target of a file in"
            " reference/sites and load again",
        ),
        (
            "sacct/jobs.txt",
            1,
            "node_list: found spk[1- (unbalanced brackets), expected a Slurm host list such as"
            " node[001-004]",
        ),
    ]
    assert counts(summary) == {
        "loaded": 0, "skipped": 0, "partial": 3, "failed": 0, "quarantined_rows": 5,
    }  # fmt: skip
    assert outcome(book)["battery_csv/rows.csv"] == (
        "partial",
        "power_kw 'NaN': expected a number (and 2 more reasons)",
    )


def test_a_name_that_nobody_declared_is_kept_with_the_days_it_speaks_of_until_it_is_declared(book):
    row = "2026-04-05T12:{}:00Z,nobody,50,1,charging\n"
    put(book, "battery_csv/rows.csv", BATTERY + row.format("00") + row.format("05"))
    load(book)

    assert rows(book, "undeclared_names").drop("load_id", "known_at").rows() == [
        (
            "battery_samples",
            "nobody",
            None,
            datetime(2026, 4, 5, 12, tzinfo=UTC),
            datetime(2026, 4, 5, 12, 5, tzinfo=UTC),
            2,
            "battery_csv/rows.csv",
        )
    ]
    assert rows(book, "loads")["touched_dates"].to_list() == [[date(2026, 4, 5)]]

    for file in (book.data_dir / "reference").rglob("*.yml"):
        text = file.read_text()
        file.write_text(text.replace("battery_id: sparks-second-life", "battery_id: nobody"))
    load(book)

    # It is declared now, and the battery declared before is not.
    assert rows(book, "undeclared_names")["name"].to_list() == ["sparks-second-life"]


def test_an_invoice_of_a_contract_that_nobody_declared_is_quarantined(book):
    header = (
        "invoice_id,line_number,contract_id,billing_month,line,amount,currency_code,issued_at\n"
    )
    put(
        book,
        "invoices/lupinus/2026-09.csv",
        header
        + "L-9,1,franklin-lupinus-pap,2026-09,energy,12.50,USD,2026-10-02T16:00Z\n"
        + "L-9,2,nobodys-contract,2026-09,energy,9.75,USD,2026-10-02T16:00Z\n",
    )
    summary = load(book)
    assert counts(summary) == {
        "loaded": 0, "skipped": 0, "partial": 1, "failed": 0, "quarantined_rows": 1,
    }  # fmt: skip
    assert quarantined(book) == [
        (
            "invoices/lupinus/2026-09.csv",
            1,
            "contract_id nobodys-contract is not declared: add it to reference/contracts"
            " and load again",
        )
    ]
    assert rows(book, "invoices").select("contract_id", "amount").rows() == [
        ("franklin-lupinus-pap", 12.5)
    ]


def test_jobs_are_expanded_to_their_nodes_and_touch_every_day_they_ran(book):
    put(book, "sacct/jobs.txt", JOBS)
    summary = load(book)
    nodes = rows(book, "job_nodes").sort("hostname")
    assert nodes.select("cluster", "job_id", "submitted_at", "hostname").rows() == [
        ("sparks", "7", datetime(2026, 4, 5, 16, tzinfo=UTC), "spk0001"),
        ("sparks", "7", datetime(2026, 4, 5, 16, tzinfo=UTC), "spk0002"),
        ("sparks", "7", datetime(2026, 4, 5, 16, tzinfo=UTC), "spk0009"),
    ]
    assert summary.records[0].touched_dates == [date(2026, 4, day) for day in (5, 6, 7)]


def nem12(day: str, *records: str) -> str:
    """A day of readings of the Jülich grid meter, with 500 records of its register."""
    lines = ["100,NEM12,202606010000,M,R", "200,JLGRID0001,E1,E1,E1,,MS7,kWh,30,"]
    values = ",".join("1" * 48)
    return "\n".join([*lines, f"300,{day},{values},A,,,,", *records, "900", ""])


def register_read(day: str, index_read: int) -> str:
    return f"500,N,,{day}110000,{index_read}"


def april(*days: int) -> list[date]:
    return [date(2026, 4, day) for day in days]


def test_what_lies_between_two_reads_of_a_register_touches_the_days_from_one_to_the_other(book):
    files = [
        # Market time is ten hours ahead: a day of it ends at 14:00.
        ("1", nem12("20260405", register_read("20260405", 100)), april(4, 5)),
        # Without a read after them days are what they are.
        ("2", nem12("20260406"), april(5, 6)),
        ("3", nem12("20260410", register_read("20260410", 400)), april(5, 6, 7, 8, 9, 10)),
        ("4", nem12("20260411"), april(10, 11)),
        ("5", nem12("20260408").replace("1,1", "2,2"), april(5, 6, 7, 8, 9, 10)),
        ("6", nem12("20260407", register_read("20260408", 220)), april(5, 6, 7, 8, 9, 10)),
        ("7", nem12("20260407").replace("1,1", "3,3"), april(5, 6, 7, 8)),
    ]
    for name, content, dates in files:
        put(book, f"nem12/{name}.csv", content)
        assert counts(load(book))["loaded"] == 1
        assert stale(book)[f"nem12/{name}.csv"] == dates
    # The read of the 8th goes: what follows is one span again.
    lake.withdraw(book, ["nem12/6.csv"])
    put(book, "nem12/8.csv", nem12("20260409").replace("1,1", "4,4"))
    load(book)
    assert stale(book)["nem12/8.csv"] == april(5, 6, 7, 8, 9, 10)


def test_a_read_that_goes_makes_stale_what_lay_between_those_beside_it(book):
    for name, day in (("b", "20260407"), ("a", "20260405"), ("c", "20260409")):
        put(book, f"nem12/{name}.csv", nem12(day, register_read(day, int(day[-1]) * 100)))
        load(book)
    assert stale(book)["nem12/b.csv"] == april(6, 7)
    lake.withdraw(book, ["nem12/b.csv"])
    assert stale(book)["nem12/b.csv"] == april(5, 6, 7, 8, 9)


def test_a_job_whose_node_list_cannot_be_read_is_in_quarantine_and_not_in_the_lake(book):
    bad = JOBS.splitlines()[1].replace("7|", "8|", 1).replace("[0001-0002,0009]", "[1-")
    put(book, "sacct/jobs.txt", JOBS + bad)
    load(book)
    assert rows(book, "jobs").select("cluster", "job_id").rows() == [("sparks", "7")]
    assert [(file, row) for file, row, _ in quarantined(book)] == [("sacct/jobs.txt", 1)]


@pytest.mark.parametrize("differ", [True, False], ids=["other lists", "the same list"])
def test_lists_that_name_more_nodes_than_there_are_in_the_world_are_quarantined(
    book, monkeypatch, differ
):
    monkeypatch.setattr(batch, "MOST_NODES", 250)
    header, row = JOBS.splitlines()
    listed = [
        row.replace("7|", f"{n}|", 1).replace(
            "[0001-0002,0009]", f"[{n * differ}-{n * differ + 99}]"
        )
        for n in range(1, 4)
    ]
    put(book, "sacct/jobs.txt", "\n".join([header, *listed]) + "\n")
    put(book, "sacct/other.txt", JOBS)
    load(book)
    kept = rows(book, "jobs")["job_id"].to_list()
    assert "7" in kept
    assert len(kept) < 4
    reasons = {reason for _, _, reason in quarantined(book)}
    assert [reason for reason in reasons if "more than 5000000 nodes" not in reason] == []


def test_small_files_are_written_in_batches_that_are_kept(book, monkeypatch):
    monkeypatch.setattr(loading, "BATCH_FILES", 2)
    for hour in range(10, 16):
        put(book, f"battery_csv/{hour}.csv", BATTERY.replace("T23", f"T{hour}"))

    def cut_off(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(loading, "failed_record", cut_off)
        put(book, "battery_csv/14.csv", b"no table")
        with pytest.raises(KilledError):
            load(book)
    assert sorted(outcome(book)) == [f"battery_csv/{hour}.csv" for hour in range(10, 14)]
    assert counts(load(book)) == {
        "loaded": 1, "skipped": 4, "partial": 0, "failed": 1, "quarantined_rows": 0,
    }  # fmt: skip


def test_a_file_with_many_rows_is_written_part_by_part_and_is_one_load(book, monkeypatch):
    wrong = BATTERY + BATTERY_HEADER.replace("timestamp", "2026-04-07T00:00:00Z")
    days = zipped(a_csv=BATTERY, b_csv=wrong, c_csv=BATTERY.replace("04-05", "04-08"))
    put(book, "battery_csv/days.zip", days)
    put(book, "battery_csv/one.csv", BATTERY.replace("-10", "-20"))
    whole = load(book)
    held = rows(book, "battery_samples"), quarantined(book)
    shutil.rmtree(book.lake)
    shutil.rmtree(book.quarantine)
    monkeypatch.setattr(loading, "BATCH_ROWS", 2)
    parts = load(book)
    assert_frame_equal(rows(book, "battery_samples"), held[0], check_row_order=False)
    assert quarantined(book) == held[1]
    assert [(one.row_count, one.reason, one.touched_dates) for one in parts.records] == [
        (one.row_count, one.reason, one.touched_dates) for one in whole.records
    ]
    files = [len(summary.records[0].data_files) for summary in (whole, parts)]
    assert files == [2, 3]
    assert counts(load(book))["skipped"] == 2
    # Where one of its parts is lost, all are read again.
    (book.data_dir / parts.records[0].data_files[0]["file"]).unlink()
    assert counts(load(book))["skipped"] == 1
    assert_frame_equal(rows(book, "battery_samples"), held[0], check_row_order=False)


def test_a_file_whose_last_part_cannot_be_read_leaves_no_rows(book, monkeypatch):
    monkeypatch.setattr(loading, "BATCH_ROWS", 1)
    put(book, "battery_csv/days.zip", zipped(a_csv=BATTERY, b_csv="no table"))
    put(book, "battery_csv/one.csv", BATTERY.replace("-10", "-20"))
    assert counts(load(book)) == {
        "loaded": 1, "skipped": 0, "partial": 0, "failed": 1, "quarantined_rows": 0,
    }  # fmt: skip
    assert rows(book, "battery_samples")["source_file"].to_list() == ["battery_csv/one.csv"]
    assert holdings.damage(book, lake.read_load_records(book)) == []


def test_an_interval_up_to_midnight_does_not_touch_the_next_day(book):
    put(book, "outages_csv/outage.csv", OUTAGE)
    assert load(book).records[0].touched_dates == [date(2026, 8, 14), date(2026, 8, 15)]


def test_an_event_until_the_end_of_time_touches_ten_years(book):
    put(book, "outages_csv/outage.csv", OUTAGE.replace("2026-08-16", "9999-12-31"))
    assert len(load(book).records[0].touched_dates) == 3660 + 1


def test_an_open_event_touches_the_days_up_to_the_end_of_the_book(book):
    put(book, "battery_csv/one.csv", BATTERY.replace("2026-04-05", "2026-08-17"))
    load(book)
    put(book, "outages_csv/open.csv", OUTAGE.replace("2026-08-16T00:00Z", ""))
    assert load(book).records[0].touched_dates == [date(2026, 8, day) for day in (14, 15, 16, 17)]


def test_a_revised_event_touches_the_days_it_held_before(book):
    put(book, "outages_csv/one.csv", OUTAGE)
    load(book)
    moved = OUTAGE.replace("08-14T23:30", "08-20T23:30").replace("08-16T00:00", "08-21T00:00")
    put(book, "outages_csv/two.csv", moved, arrived=datetime(2026, 4, 7, tzinfo=UTC))
    record = load(book).records[0]
    assert record.row_count == 1
    assert record.touched_dates == [date(2026, 8, day) for day in (14, 15, 20)]


def listed(state: str, end: str, elapsed_s: int, suspended: str = "", nodes: str = "1-2") -> str:
    """A listing of one job of April from the 1st on, and of another that says it records GPUs."""
    header = "JobID|Cluster|State|Submit|Start|End|ElapsedRaw|Suspended|NNodes|NodeList|AllocTRES\n"
    rows = [
        f"7|sparks|{state}|2026-04-01T08:00:00|2026-04-01T09:00:00|{end}|{elapsed_s}|{suspended}|2"
        f"|spk[{nodes}]|gres/gpu=8",
        "6|sparks|COMPLETED|2026-04-01T08:00:00|2026-04-01T09:00:00|2026-04-01T10:00:00|3600||1"
        "|spk0009|gres/gpu=4",
    ]
    return header + "\n".join(rows) + "\n"


# Days of April, in the zone of Sparks, so that days of UTC begin at 17:00.
@pytest.mark.parametrize(
    ("before", "now", "days"),
    [
        (("RUNNING", "Unknown", 345600), ("RUNNING", "Unknown", 432000), [1, 5, 6]),
        (
            ("RUNNING", "Unknown", 345600),
            ("COMPLETED", "2026-04-07T09:00:00", 518400),
            [1, 5, 6, 7],
        ),
        # It ended before it was seen last.
        (
            ("RUNNING", "Unknown", 345600),
            ("NODE_FAIL", "2026-04-04T09:00:00", 259200),
            [1, 4, 5],
        ),
        # An older listing comes late.
        (
            ("COMPLETED", "2026-04-04T09:00:00", 259200),
            ("RUNNING", "Unknown", 172800),
            [1, 3, 4],
        ),
        # Other nodes, or time suspended, of which it is not told when it was.
        (
            ("RUNNING", "Unknown", 172800),
            ("RUNNING", "Unknown", 259200, "", "1-3"),
            [1, 2, 3, 4],
        ),
        (
            ("RUNNING", "Unknown", 172800),
            ("RUNNING", "Unknown", 172800, "24:00:00"),
            [1, 2, 3, 4],
        ),
    ],
)
def test_a_job_told_as_it_was_touches_only_the_days_since_it_was_seen(book, before, now, days):
    put(book, "sacct/one.txt", listed(*before))
    load(book)
    put(book, "sacct/two.txt", listed(*now))
    [record] = load(book).records
    assert (record.row_count, record.touched_dates) == (2, [date(2026, 4, day) for day in days])


def test_a_job_whose_earlier_listing_is_out_of_the_book_touches_every_day(book):
    first = put(book, "sacct/one.txt", listed("RUNNING", "Unknown", 345600))
    put(book, "sacct/other.txt", listed("PENDING", "Unknown", 0).replace("|7|", "|8|"))
    load(book)
    first.unlink()
    load(book)
    put(book, "sacct/two.txt", listed("RUNNING", "Unknown", 432000))
    [record] = load(book).records
    assert record.touched_dates == [date(2026, 4, day) for day in range(1, 7)]


def test_of_two_files_with_the_same_bytes_the_first_by_name_counts(book):
    put(book, "battery_csv/z.csv", BATTERY, arrived=ARRIVED)
    put(book, "battery_csv/a.csv", BATTERY, arrived=datetime(2026, 4, 7, tzinfo=UTC))
    assert [record.source_file for record in load(book).records] == ["battery_csv/a.csv"]


def test_the_same_bytes_load_once_whatever_they_are_called(book):
    put(book, "battery_csv/a.csv", BATTERY)
    put(book, "battery_csv/b.csv", BATTERY)
    put(book, "aaa/c.csv", BATTERY)
    expected = {"battery_csv/a.csv": ("loaded", None)}
    assert (counts(load(book))["skipped"], outcome(book)) == (2, expected)
    assert (counts(load(book))["skipped"], outcome(book)) == (3, expected)
    assert len(rows(book, "battery_samples")) == 1


def land_everything(book: Book) -> None:
    put(book, "battery_csv/a.csv", BATTERY)
    put(book, "battery_csv/b.csv", BATTERY.replace(",50,", ",60,"), arrived=ARRIVED.replace(hour=9))
    put(book, "battery_csv/partial.csv", BATTERY.replace("T23", "T22") + "x,y,1,1,charging\n")
    put(book, "battery_csv/zip.zip", zipped(a_csv=BATTERY.replace("T23", "T20"),
                                            b_csv=BATTERY.replace("T23", "T21")))  # fmt: skip
    put(book, "sacct/jobs.txt", JOBS)
    put(book, "outages_csv/outage.csv", OUTAGE)
    put(book, "green_button/cut.xml", b"<feed>")
    put(book, "misc/x", b"x")


def test_loading_twice_changes_no_byte(book):
    land_everything(book)
    load(book)
    before = bytes_of(book.data_dir)
    summary = load(book)
    assert bytes_of(book.data_dir) == before
    assert counts(summary) == {
        "loaded": 0, "skipped": 6, "partial": 0, "failed": 2, "quarantined_rows": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_files_split_over_loads_in_the_order_of_their_names_end_the_same(book, tmp_path):
    land_everything(book)
    names = [f.relative_to(book.landing) for f in book.landing.rglob("*") if f.is_file()]
    load(book)
    other = Book(tmp_path / "other")
    declare(other)
    for name in sorted(names):
        (other.landing / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(book.landing / name, other.landing / name)
        load(other)
    assert staged(other) == staged(book)
    assert quarantined(other) == quarantined(book)
    assert outcome(other) == outcome(book)


def test_several_processes_read_what_one_reads(book, tmp_path, monkeypatch):
    land_everything(book)
    load(book)
    other = Book(tmp_path / "other")
    declare(other)
    shutil.copytree(book.landing, other.landing)
    monkeypatch.setattr(loading, "FEW_FILES", 0)
    monkeypatch.setattr(loading.os, "cpu_count", lambda: 2)
    load(other)
    assert staged(other) == staged(book)
    assert quarantined(other) == quarantined(book)
    assert outcome(other) == outcome(book)


def charges(book: Book) -> list[float]:
    return [row["state_of_charge_ratio"] for row in staged(book)["battery_samples"]]


def test_a_source_without_time_of_publication_is_as_new_as_its_load_then_as_its_name(book):
    late = datetime(2026, 5, 1, tzinfo=UTC)
    put(book, "battery_csv/b.csv", BATTERY.replace(",50,", ",60,"))
    put(book, "battery_csv/a.csv", BATTERY, arrived=late)
    load(book)
    assert charges(book) == [0.6]
    put(book, "battery_csv/0.csv", BATTERY.replace(",50,", ",70,"), arrived=ARRIVED)
    load(book, now=LOADED + timedelta(hours=1))
    assert charges(book) == [0.7]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_source_with_time_of_publication_is_as_new_as_that_however_it_is_loaded(book, names):
    header = OUTAGES_HEADER.replace("\n", ",published_at\n")
    row = OUTAGE.splitlines()[1]
    first = f"{header}{row},2026-08-14T23:40Z\n"
    second = f"{header}{row.replace('08-16T00:00', '08-15T03:00')},2026-08-15T03:10Z\n"
    for name, content in zip(names, (second, first), strict=True):
        put(book, f"outages_csv/{name}.csv", content)
        load(book)
    [event] = staged(book)["grid_events"]
    assert event["ended_at"] == datetime(2026, 8, 15, 3, tzinfo=UTC)
    assert (event["known_at"], event["loaded_at"]) == (
        datetime(2026, 8, 15, 3, 10, tzinfo=UTC),
        None,
    )


@pytest.mark.parametrize("hours", [-2000, 2000, 800_000])
def test_a_copied_landing_gives_the_same_rows_whatever_its_times(book, tmp_path, hours):
    land_everything(book)
    load(book)
    other = Book(tmp_path / "other")
    declare(other)
    shutil.copytree(book.landing, other.landing)
    times = ((ARRIVED + timedelta(hours=hours * n)).timestamp() for n in range(-3, 6))
    for file, moment in zip(sorted(other.landing.rglob("*.*")), times, strict=False):
        os.utime(file, (moment, moment))
    load(other)

    def without_landing_time(tables: dict[str, list[dict]]) -> dict[str, list[dict]]:
        return {
            name: [{**row, "known_at": row["known_at"] if not row["loaded_at"] else None}
                   for row in rows if "loaded_at" in row]
            for name, rows in tables.items()
        }  # fmt: skip

    assert without_landing_time(staged(other)) == without_landing_time(staged(book))
    assert max(row["known_at"] for row in staged(other)["battery_samples"]) <= LOADED


def test_what_a_file_was_known_by_survives_touching_copying_and_reading_again(book):
    land_everything(book)
    load(book)
    columns = ("source_file", "known_at", "loaded_at", "load_number")
    before = sorted(lake.read_load_records(book).select(columns).rows())
    for file in book.landing.rglob("*.*"):
        os.utime(file, (LOADED.timestamp(), LOADED.timestamp()))
    for name in ("sites/sparks.yml", "meters.yml"):
        file = book.reference / name
        file.write_text(file.read_text().replace("sparks-iron-air", "sparks-iron"))
    summary = load(book, now=LOADED + timedelta(days=3))
    assert summary.partial == 1
    assert sorted(lake.read_load_records(book).select(columns).rows()) == before


class KilledError(Exception):
    pass


def stop_before_each_change(patch: pytest.MonkeyPatch, stop: Callable[..., None]) -> None:
    """Call `stop` before a load writes a file and before it removes one."""
    unlink = Path.unlink

    def write(frame: pl.DataFrame, file: Path) -> bytes:
        try:
            stop()
        except KilledError:
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "half.tmp").touch()
            raise
        return lake.write_parquet(frame, file)

    def remove(path: Path, *, missing_ok: bool = False) -> None:
        if path.suffix != ".tmp":
            stop()
        unlink(path, missing_ok=missing_ok)

    for module in (batch, holdings, landing, loading):
        patch.setattr(module, "write_parquet", write)
    patch.setattr(Path, "unlink", remove)


def place() -> tuple[tuple[str, int | None], ...]:
    """The lines of the loader that are being run, each in its file."""
    frames = traceback.extract_stack()
    return tuple(
        (frame.filename, frame.lineno)
        for frame in frames
        if Path(frame.filename).parent == Path(loading.__file__).parent
    )


def die_after(count: int) -> Callable[..., None]:
    left = iter(range(count))

    def stop() -> None:
        if next(left, None) is None:
            raise KilledError

    return stop


@pytest.mark.slow
@pytest.mark.parametrize("is_reload", [False, True], ids=["first load", "reload of partial files"])
def test_killed_at_any_line_that_writes_the_next_load_ends_the_same(
    book, tmp_path, monkeypatch, is_reload
):
    before = Book(tmp_path / "before")
    shutil.copytree(DEMO_REFERENCE, before.data_dir / "reference")
    if is_reload:
        land_everything(before)
    load(before)
    land_everything(before)
    if is_reload:
        for name in ("sites/sparks.yml", "meters.yml"):
            file = before.reference / name
            file.write_text(file.read_text().replace("sparks-iron-air", "sparks-iron"))
    shutil.copytree(before.data_dir, book.data_dir, dirs_exist_ok=True)
    changes: list[tuple[tuple[str, int | None], ...]] = []
    with monkeypatch.context() as patch:
        stop_before_each_change(patch, lambda: changes.append(place()))
        load(book)
    # Of the changes that a line of the loader makes the first, and the last, before which all the
    # others of it are there.
    last = {line: count for count, line in enumerate(changes)}
    first = {line: changes.index(line) for line in last}
    assert len(last) > 3
    for changes_before in sorted({*first.values(), *last.values()}):
        other = Book(tmp_path / f"killed{changes_before}")
        shutil.copytree(before.data_dir, other.data_dir)
        with monkeypatch.context() as patch:
            stop_before_each_change(patch, die_after(changes_before))
            with pytest.raises(KilledError):
                load(other)
        load(other)
        assert staged(other) == staged(book)
        assert quarantined(other) == quarantined(book)
        assert outcome(other) == outcome(book)
        assert list(other.data_dir.rglob("*.tmp")) == []


def test_a_load_removes_its_own_temporary_files_and_no_one_elses(book):
    own = ("battery_samples", "gpu_samples/2026-04-05", "job_nodes", "loads")
    others = ("reference", "gpu_intervals", "node_intervals", "pod_intervals")
    for folder in (*own, *others):
        (book.lake / folder).mkdir(parents=True)
        (book.lake / folder / "half.tmp").touch()
    (book.quarantine / "jobs").mkdir(parents=True)
    (book.quarantine / "jobs" / "half.tmp").touch()
    load(book)
    assert sorted(
        file.relative_to(book.data_dir).as_posix() for file in book.data_dir.rglob("*.tmp")
    ) == [f"lake/{folder}/half.tmp" for folder in sorted(others)]


def test_quarantined_rows_load_once_the_reference_data_declares_their_battery(book):
    put(book, "battery_csv/new.csv", BATTERY.replace("second-life", "third-life"))
    assert counts(load(book))["partial"] == 1
    assert counts(load(book)) == {
        "loaded": 0, "skipped": 1, "partial": 0, "failed": 0, "quarantined_rows": 0,
    }  # fmt: skip
    for file in book.reference.rglob("*.yml"):
        file.write_text(
            file.read_text().replace(
                "battery_id: sparks-second-life", "battery_id: sparks-third-life"
            )
        )
    assert counts(load(book))["loaded"] == 1
    assert outcome(book) == {"battery_csv/new.csv": ("loaded", None)}
    assert quarantined(book) == []
    assert rows(book, "battery_samples")["battery_id"].to_list() == ["sparks-third-life"]


def test_a_failed_file_mended_under_its_name_leaves_no_failure(book):
    put(book, "battery_csv/a.csv", b"")
    assert counts(load(book))["failed"] == 1
    put(book, "battery_csv/a.csv", BATTERY)
    assert counts(load(book)) == {
        "loaded": 1, "skipped": 0, "partial": 0, "failed": 0, "quarantined_rows": 0,
    }  # fmt: skip
    assert outcome(book) == {"battery_csv/a.csv": ("loaded", None)}


@pytest.mark.slow
@pytest.mark.parametrize("write", range(8))
def test_killed_in_a_reload_for_reference_data_that_is_taken_back_the_files_are_read_again(
    book, monkeypatch, write
):
    put(book, "battery_csv/a.csv", BATTERY)
    put(book, "battery_csv/partial.csv", BATTERY.replace("T23", "T22") + "x,y,1,1,charging\n")
    load(book)
    before = staged(book), quarantined(book), outcome(book)
    names = ("sites/sparks.yml", "meters.yml")
    texts = {book.reference / name: (book.reference / name).read_text() for name in names}
    for file, text in texts.items():
        file.write_text(text.replace("sparks-iron-air", "sparks-iron"))
    with monkeypatch.context() as patch:
        stop_before_each_change(patch, die_after(write))
        with pytest.raises(KilledError):
            load(book)
    for file, text in texts.items():
        file.write_text(text)
    load(book)
    assert (staged(book), quarantined(book), outcome(book)) == before


def test_a_bill_sent_again_touches_the_days_of_the_lines_it_no_longer_has(book):
    header = (
        "ProviderName,BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,"
        "ChargePeriodStart,ChargePeriodEnd,ChargeCategory,BilledCost,EffectiveCost\n"
    )

    def line(day: int) -> str:
        return (
            "P,1,EUR,2026-05-01T00:00:00Z,2026-06-01T00:00:00Z,"
            f"2026-05-{day:02}T00:00:00Z,2026-05-{day:02}T01:00:00Z,Usage,1,1\n"
        )

    put(book, "focus/one.csv", header + line(5) + line(5) + line(6))
    load(book)
    put(book, "focus/two.csv", header + line(6) + line(7))
    record = load(book).records[0]
    assert record.row_count == 2
    assert record.touched_dates == [date(2026, 5, day) for day in (5, 6, 7)]


def mapped(book: Book, unit: str) -> None:
    (book.reference / "mappings.yml").write_text(
        "readings_csv:\n  - folder: supplier\n    meter_id: {constant: JLFAC00001}\n"
        "    flow: {constant: import}\n    started_at: {columns: [at]}\n    interval_minutes: 60\n"
        f"    quantity: {{column: value, unit: {unit}}}\n"
    )


def test_a_mapping_that_comes_or_is_corrected_has_its_files_read_again_and_no_others(book):
    put(book, "readings_csv/supplier/a.csv", "at,value\n2026-05-04T00:00Z,7\n")
    put(book, "readings_csv/b.csv", "meter_id,interval_start_utc,interval_seconds,quantity,unit"
        ",direction\nJLFAC00001,2026-05-05T00:00Z,3600,9,kWh,import\n")  # fmt: skip
    put(book, "battery_csv/c.csv", BATTERY)
    assert counts(load(book))["failed"] == 1
    seen = []
    for unit in ("kWh", "kWh", "MWh"):
        mapped(book, unit)
        summary = load(book)
        readings = rows(book, "meter_readings").sort("interval_started_at")
        seen.append((summary.loaded, summary.failed, readings.select("quantity", "unit").rows()))
    other = (9.0, "kWh")
    assert seen == [
        (1, 0, [(7.0, "kWh"), other]),
        (0, 0, [(7.0, "kWh"), other]),
        (1, 0, [(7.0, "MWh"), other]),
    ]
    (book.reference / "mappings.yml").unlink()
    assert counts(load(book))["failed"] == 1
    assert rows(book, "meter_readings").select("quantity", "unit").rows() == [other]


def test_a_metric_that_is_declared_or_corrected_has_its_files_read_again_and_no_others(book):

    def put_answer(name: str, metric: str, **labels: str) -> None:
        series = {"metric": {"__name__": metric, **labels}, "values": [[1775347200, "800"]]}
        answer = {"data": {"resultType": "matrix", "result": [series]}}
        put(book, f"prometheus/{name}.json", json.dumps(answer))

    put_answer("own", "hwmon", instance="jwb0001:9100")
    put_answer("dcgm", "DCGM_FI_DEV_POWER_USAGE", Hostname="jwb0001", gpu="0")
    first = load(book)
    assert counts(first)["loaded"] == 2
    assert [count for _, count, _ in first.left_out()] == [1]
    assert rows(book, "node_power_samples").is_empty()
    seen = []
    for unit in ("W", "kW"):
        (book.reference / "mappings.yml").write_text(
            f"metrics:\n  - metric: hwmon\n    quantity: node_power\n    unit: {unit}\n"
            "    host: {label: instance}\n"
        )
        summary = load(book)
        read = sorted(record.source_file for record in summary.records)
        quarantined_rows = summary.quarantined_rows
        power = rows(book, "node_power_samples")["power_w"].to_list()
        seen.append((read, power, quarantined_rows))
    # 800 kW is more than a node can draw.
    assert seen == [
        (["prometheus/own.json"], [800.0], 0),
        (["prometheus/own.json"], [], 1),
    ]
