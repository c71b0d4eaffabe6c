"""Landing to lake: every file read once, good rows kept, bad rows quarantined with their reason.

What belongs here: finding new files, gathering them in batches, and what a killed run left.
What does not: reading one file (`landing.py`), writing one batch (`batch.py`), telling good rows
from bad (`quarantine.py`), and what the rows say (dbt).

Layout below `lake/`: `<table>/schema.parquet` (no rows, so that a glob always finds a file),
`<table>/<batch>.parquet`, for the tables of `DAILY_TABLES` `<table>/<UTC date>/<batch>.parquet`,
and `loads/<batch>.parquet` with one load record per file. Refused rows lie in
`quarantine/<table>/<batch>.parquet`. A batch is named after the files in it; files that could not
be read are in none, their records stand in `loads/failed.parquet`. Data is written first and the
load records last, each file by renaming a finished temporary file: rows of a batch without load
records are what a killed run left, and the next run removes them before it starts.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from filelock import FileLock

from pipelines.book import Book
from pipelines.lake.batch import JOB_NODES_SCHEMA, Batch
from pipelines.lake.files import write_parquet, write_reference_tables
from pipelines.lake.landing import LandedFile
from pipelines.lake.quarantine import Declared
from pipelines.lake.records import (
    FAILED,
    LOAD_RECORD_SCHEMA,
    LoadRecord,
    failed_record,
    read_load_records,
    record_frame,
)
from pipelines.lake.schemas import RAW_TABLES

Progress = Callable[[str], None]

BATCH_ROWS = 2_000_000
"""Bounds the memory of a load and the work that is lost when it is killed."""


@dataclass(frozen=True)
class LoadSummary:
    """What one load did: counts of files, rows not kept, and the records it wrote."""

    loaded: int
    skipped: int
    partial: int
    failed: int
    quarantined_rows: int
    records: list[LoadRecord] = field(default_factory=list)

    def left_out(self) -> list[tuple[str, int, int]]:
        """What was in order and not for this book: format and reason, rows, files."""
        counts: dict[str, list[int]] = defaultdict(list)
        for record in self.records:
            if record.left_out_reason:
                what = f"{record.format}: {record.left_out_reason}"
                counts[what].append(record.left_out_row_count)
        return [(what, sum(rows), len(rows)) for what, rows in sorted(counts.items())]


def load(book: Book, *, progress: Progress | None = None) -> LoadSummary:
    """Load whatever is new in landing; the same bytes load once, whatever they are called.

    Files that failed are tried again each time, files of which rows were not kept when the
    reference data has changed. The outcome does not depend on the order of the files nor on how
    often it is run.

    Raises:
        reference.ReferenceErrors: The reference data has a mistake; nothing is loaded.
    """
    report = progress or (lambda _: None)
    book.lake.mkdir(parents=True, exist_ok=True)
    with FileLock(book.lake / ".lock"):
        report("reading reference data")
        write_reference_tables(book)
        declared = Declared.read(book)
        _write_empty_tables(book)
        _remove_unrecorded(book)
        records = read_load_records(book)
        new, skipped, failed = _find_new(book, records, declared.digest, report)
        again = pl.Series([file.load_id for file in new], dtype=pl.String).implode()
        _forget(book, records.filter(pl.col("status") != "failed", pl.col("load_id").is_in(again)))
        written, unread = _load_batches(book, new, declared, report)
        loaded = {record.sha256 for record in written}
        failed += [record for record in unread if record.sha256 not in loaded]
        skipped += len(new) - len(written) - len(unread)
        skipped += sum(record.sha256 in loaded for record in unread)
        _write_failed(book, failed)
        written += failed
    return LoadSummary(
        loaded=sum(record.status == "loaded" for record in written),
        skipped=skipped,
        partial=sum(record.status == "partial" for record in written),
        failed=sum(record.status == "failed" for record in written),
        quarantined_rows=sum(record.quarantined_row_count for record in written),
        records=written,
    )


def _write_empty_tables(book: Book) -> None:
    empty: dict[str, pl.DataFrame] = {
        name: table.schema.create_empty() for name, table in RAW_TABLES.items()
    }
    empty["job_nodes"] = pl.DataFrame(schema=JOB_NODES_SCHEMA)
    empty["loads"] = pl.DataFrame(schema=LOAD_RECORD_SCHEMA)
    for name, frame in empty.items():
        file = book.lake / name / "schema.parquet"
        if not file.exists() or pl.read_parquet_schema(file) != frame.schema:
            write_parquet(frame, file)


def _data_files(book: Book) -> Iterator[Path]:
    for folder in (book.lake, book.quarantine):
        for name in (*RAW_TABLES, "job_nodes"):
            yield from (folder / name).rglob("*.parquet")


def _remove_unrecorded(book: Book) -> None:
    """Remove what a killed load left: temporary files, and batches without load records.

    Only the loader's own tables are looked into: beside them a build may be writing its own files,
    and this lock does not hold it back.
    """
    for folder in (book.lake, book.quarantine):
        for name in (*RAW_TABLES, "job_nodes", "loads"):
            for temporary in (folder / name).rglob("*.tmp"):
                temporary.unlink()
    recorded = {file.stem for file in (book.lake / "loads").glob("*.parquet")} | {"schema"}
    for file in _data_files(book):
        if file.stem not in recorded:
            file.unlink()


def _find_new(
    book: Book, records: pl.DataFrame, digest: str, report: Progress
) -> tuple[list[LandedFile], int, list[LoadRecord]]:
    """Files to read, count of files skipped, and records of what is not even opened.

    A recorded file of the same name, size and time is not read again; any other is known by its
    sha256. Of files with the same bytes the one that arrived first counts; in several formats'
    folders they are all tried: only one can be the right one.
    """
    is_whole = (pl.col("status") == "loaded") & (pl.col("left_out_row_count").fill_null(0) == 0)
    final = records.filter(
        pl.col("status") != "failed", is_whole | (pl.col("reference_digest") == digest)
    )
    unchanged = set(final.select("source_file", "file_bytes", "known_at").iter_rows())
    known = set(final["sha256"])
    found: set[tuple[str, str]] = set()
    new: list[LandedFile] = []
    refused: list[LoadRecord] = []
    skipped = 0
    root = book.landing.resolve()
    for path in sorted(book.landing.rglob("*"), key=lambda path: (path.lstat().st_mtime_ns, path)):
        name = path.relative_to(book.landing).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            # Nothing behind the link is read, so there is no hash and no time.
            landed = LandedFile(
                path, name, name.split("/")[0], "", 0, datetime.fromtimestamp(0, tz=UTC)
            )
            reason = "found a link out of landing, expected a file: copy it here"
            refused.append(failed_record(landed, reason, digest))
            continue
        if not path.is_file():
            continue
        status = path.stat()
        known_at = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, tz=UTC)
        if (name, status.st_size, known_at) in unchanged:
            skipped += 1
            continue
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        format_name = name.split("/")[0]
        if sha256 in known or (sha256, format_name) in found:
            skipped += 1
            continue
        found.add((sha256, format_name))
        new.append(LandedFile(path, name, format_name, sha256, status.st_size, known_at))
        if len(new) % 500 == 0:
            report(f"{len(new)} new files found")
    return new, skipped, refused


def _forget(book: Book, records: pl.DataFrame) -> None:
    """Take the rows and records of files that are read again out of the lake and quarantine."""
    if records.is_empty():
        return
    files = defaultdict(list)
    for file in _data_files(book):
        files[file.stem].append(file)
    for (batch,), group in records.group_by("batch", maintain_order=True):
        is_again = pl.col("load_id").is_in(group["load_id"].implode())
        loads = book.lake / "loads" / f"{batch}.parquet"
        # Marked first: killed from here on, the next run reads these files again, whatever the
        # reference data says by then.
        marked = pl.when(is_again).then(pl.lit("")).otherwise("reference_digest")
        write_parquet(pl.read_parquet(loads).with_columns(reference_digest=marked), loads)
        for file in [*files[batch], loads]:
            kept = pl.read_parquet(file).filter(~is_again)
            if kept.is_empty():
                file.unlink()
            else:
                write_parquet(kept, file)


def _load_batches(
    book: Book, new: Sequence[LandedFile], declared: Declared, report: Progress
) -> tuple[list[LoadRecord], list[LoadRecord]]:
    """Read the files and write their rows; records of those read and of those that cannot be."""
    written: list[LoadRecord] = []
    failed: list[LoadRecord] = []
    read: set[str] = set()
    batch = Batch(declared)
    for count, landed in enumerate(new, start=1):
        if landed.sha256 not in read:
            reason = batch.add(landed)
            if reason is None:
                read.add(landed.sha256)
            else:
                failed.append(failed_record(landed, reason, declared.digest))
        if batch.row_count >= BATCH_ROWS:
            written += batch.write(book)
            batch = Batch(declared)
        if count % 50 == 0 or count == len(new):
            report(f"{count} of {len(new)} files")
    return written + batch.write(book), failed


def _write_failed(book: Book, failed: Sequence[LoadRecord]) -> None:
    """The records of all files that fail today; those of earlier runs give way to them."""
    file = book.lake / "loads" / f"{FAILED}.parquet"
    frame = record_frame(failed)
    if not failed:
        file.unlink(missing_ok=True)
    elif not file.exists() or not pl.read_parquet(file).equals(frame):
        write_parquet(frame, file)
