"""What lies in landing, what of it is refused unread, and where each row came from."""

import hashlib
import os
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.book import Book
from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON
from pipelines.lake import landing
from pipelines.lake.schemas import RAW_TABLES, columns_to_fill

ARRIVED = datetime(2026, 4, 6, 3, tzinfo=UTC)
LOADED = datetime(2026, 4, 7, 8, tzinfo=UTC)


def put(book: Book, name: str, content: str = "x") -> Path:
    file = book.landing / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    os.utime(file, (ARRIVED.timestamp(), ARRIVED.timestamp()))
    return file


def seen(book: Book) -> tuple[list[str], list[tuple[str, str]]]:
    found = landing.look(book)
    return [file.source_file for file in found.files], sorted(found.refused)


def test_files_are_seen_in_the_order_of_their_names_with_size_time_and_digest(book):
    assert seen(book) == ([], [])
    put(book, "nem12/b.csv", "bb")
    put(book, "nem12/a/c.csv")
    put(book, "battery_csv/z.csv")
    found = landing.look(book)
    assert [file.source_file for file in found.files] == [
        "battery_csv/z.csv",
        "nem12/a/c.csv",
        "nem12/b.csv",
    ]
    assert found.files[2] == landing.SeenFile(
        path=book.landing / "nem12" / "b.csv",
        source_file="nem12/b.csv",
        file_bytes=2,
        modified_at=ARRIVED,
        sha256=hashlib.sha256(b"bb").hexdigest(),
    )
    assert found.files[2].format == "nem12"


def test_a_file_seen_before_is_not_opened_again_until_it_changes(book, monkeypatch):
    file = put(book, "nem12/a.csv")
    book.lake.mkdir(parents=True)
    before = landing.look(book)
    landing.remember(book, before)
    with monkeypatch.context() as patch:
        patch.setattr(landing, "file_sha256", lambda *_: pytest.fail("opened"))
        assert landing.look(book) == before
    file.write_text("y")
    assert landing.look(book).files[0].sha256 == hashlib.sha256(b"y").hexdigest()


def test_a_damaged_memory_of_landing_is_no_memory(book):
    put(book, "nem12/a.csv")
    book.lake.mkdir(parents=True)
    (book.lake / "landing.parquet").write_bytes(b"PAR1 and no more")
    assert seen(book) == (["nem12/a.csv"], [])


def test_links_lead_to_files_of_landing_alone(book, tmp_path):
    put(book, "nem12/a.csv")
    (tmp_path / "secret.csv").write_text("x")
    links = {
        "nem12/inside.csv": book.landing / "nem12" / "a.csv",
        "nem12/folder": book.landing / "nem12",
        "nem12/outside.csv": tmp_path / "secret.csv",
        "nem12/up": tmp_path,
        "nem12/nowhere.csv": Path("gone.csv"),
        "nem12/round": Path("about"),
        "nem12/about": Path("round"),
    }
    for name, target in links.items():
        (book.landing / name).symlink_to(target)
    reason = "found a link out of landing, expected a file: copy it here"
    assert seen(book) == (
        ["nem12/a.csv", "nem12/inside.csv"],
        [
            (f"nem12/{name}", reason)
            for name in ("about", "nowhere.csv", "outside.csv", "round", "up")
        ],
    )


def test_a_name_that_is_not_utf_8_is_refused_and_shown_in_hexadecimal(book):
    put(book, "nem12/a.csv")
    Path(os.fsdecode(os.fsencode(book.landing / "nem12") + b"/caf\xe9.csv")).write_text("x")
    assert seen(book) == (
        ["nem12/a.csv"],
        [("nem12/caf\\xe9.csv", "found a name that is not UTF-8, expected one that is: rename it")],
    )


def test_what_is_neither_file_nor_folder_is_refused(book):
    put(book, "nem12/a.csv")
    os.mkfifo(book.landing / "nem12" / "pipe")
    assert seen(book) == (
        ["nem12/a.csv"],
        [("nem12/pipe", "found a pipe or device, expected a file: take it away")],
    )


def test_what_may_not_be_read_or_vanishes_is_said_and_the_rest_is_seen(book, monkeypatch):
    # The tests may run as root, who may read everything.
    put(book, "nem12/a.csv")
    put(book, "nem12/gone.csv")
    put(book, "nem12/secret.csv")
    put(book, "sacct/jobs.txt")
    may_open, may_list = Path.open, os.scandir

    def opened(path: Path, *arguments: str):
        if path.name == "secret.csv":
            raise PermissionError(13, "Permission denied")
        if path.name == "gone.csv":
            raise FileNotFoundError(2, "No such file or directory")
        return may_open(path, *arguments)

    def listed(path: Path):
        if path.name == "sacct":
            raise PermissionError(13, "Permission denied")
        return may_list(path)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(landing.os, "scandir", listed)
    denied = "it cannot be read (Permission denied), expected leave to read it: load again"
    assert seen(book) == (
        ["nem12/a.csv"],
        [
            ("nem12/gone.csv", "it was there, and vanished before it was read: load again"),
            ("nem12/secret.csv", denied),
            ("sacct", denied),
        ],
    )


def test_rows_are_numbered_on_across_members_and_say_since_when_they_are_known():
    table = "battery_samples"
    published = datetime(2026, 4, 5, 12, tzinfo=UTC)
    reasons = dict.fromkeys((REJECT_REASON, LEFT_OUT_REASON), pl.String())
    columns = {**columns_to_fill()[table], **reasons}
    first = pl.DataFrame({"known_at": [None, published]}, schema_overrides=columns)
    # A column in which nothing stands does not come.
    second = pl.DataFrame({"battery_id": ["b"]})
    file = landing.LandedFile(
        path=Path("days.zip"),
        source_file="battery_csv/days.zip",
        format="battery_csv",
        sha256="0123456789abcdef" * 4,
        file_bytes=1,
        known_at=ARRIVED,
        loaded_at=LOADED,
        load_number=7,
    )
    other = replace(file, source_file="battery_csv/c.csv", sha256="f" * 64, load_number=8)
    read = [
        (file, ("a.csv", {table: first})),
        (file, ("b.csv", {table: second})),
        (other, (None, {table: second})),
    ]
    [(name, found)] = landing.rows_of(read, Counter()).items()
    assert name == table
    assert found.columns == [*RAW_TABLES[table].schema.column_names(), *reasons]
    assert found.select(found.columns[:6]).rows() == [
        (ARRIVED, LOADED, "battery_csv/days.zip!a.csv", 0, "0123456789abcdef", 7),
        (published, None, "battery_csv/days.zip!a.csv", 1, "0123456789abcdef", 7),
        (ARRIVED, LOADED, "battery_csv/days.zip!b.csv", 2, "0123456789abcdef", 7),
        (ARRIVED, LOADED, "battery_csv/c.csv", 0, "f" * 16, 8),
    ]
    assert found["battery_id"].to_list() == [None, None, "b", "b"]
