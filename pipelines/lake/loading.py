"""Landing to lake: every file read once, good rows kept, bad rows quarantined with their reason.

What belongs here: finding new files, gathering them in batches, and what a killed run left.
What does not: reading one file (`landing.py`), writing one batch (`batch.py`), telling good rows
from bad (`quarantine.py`), and what the rows say (dbt).

Layout below `lake/`: `<table>/schema.parquet` (no rows, so that a glob always finds a file),
`<table>/<batch>.parquet`, for the tables of `DAILY_TABLES` `<table>/<UTC date>/<batch>.parquet`,
and `loads/<batch>.parquet` with one load record per file. Refused rows lie in
`quarantine/<table>/<batch>.parquet`. A batch is named after the files in it; files that could not
be read are in none, their records stand in `loads/failed.parquet`. A file with many rows is a batch
of its own, written part by part (`<batch>_<number>.parquet`). Data is written first and the
load records last, each file by renaming a finished temporary file: rows of a batch without load
records are what a killed run left, and the next run removes them before it starts.
"""

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from pipelines.book import Book
from pipelines.connectors.common import UnreadableFile
from pipelines.connectors.reading import FaultyReading, Part, Reader
from pipelines.lake.batch import JOB_NODES_SCHEMA, Batch
from pipelines.lake.files import (
    LakeError,
    drafts,
    lock,
    readable_parquet,
    write_parquet,
    write_reference_tables,
)
from pipelines.lake.holdings import (
    ROW_TABLES,
    Hole,
    data_files,
    expected,
    holes,
    leftovers,
    lost_rows,
    with_data_files,
    write_rows,
)
from pipelines.lake.landing import LandedFile, Landing, look, remember
from pipelines.lake.quarantine import LEAVING_OUT_UNDECLARED, UNDECLARED_SCHEMA, Declared
from pipelines.lake.records import (
    FAILED,
    IN_BOOK,
    LOAD_RECORD_SCHEMA,
    LoadRecord,
    failed_record,
    read_load_records,
    record_frame,
    refused,
    refused_record,
)
from pipelines.lake.schemas import RAW_TABLES, columns_to_fill
from pipelines.lake.withdrawals import DELETED, WITHDRAWN, follow_landing

Progress = Callable[[str], None]

BATCH_ROWS = 500_000
BATCH_FILES = 1_000
"""These bound the memory of a load and, but for a file with more rows, the work that is lost when
it is killed."""

READERS = 2
FEW_FILES = 100
FEW_BYTES = 100_000_000
"""More than these are read by several processes; below, starting another takes longer."""

Failure = tuple[LoadRecord, UnreadableFile]


@dataclass(frozen=True)
class LoadSummary:
    """What one load did: counts of files, rows not kept, and the records it wrote."""

    loaded: int
    skipped: int
    partial: int
    failed: int
    quarantined_rows: int
    records: list[LoadRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What else a person should know, one sentence a file or folder."""
    lost: list[str] = field(default_factory=list)
    """What the lake has lost and landing does not hold either; without it nothing is built."""
    refuses_others: bool = False
    """Whether other files, or other parts of them, are refused than before."""

    def left_out(self) -> list[tuple[str, int, int]]:
        """What was in order and not for this book: format and reason, rows, files."""
        counts: dict[str, list[int]] = defaultdict(list)
        for record in self.records:
            if record.left_out_reason:
                what = f"{record.format}: {record.left_out_reason}"
                counts[what].append(record.left_out_row_count)
        return [(what, sum(rows), len(rows)) for what, rows in sorted(counts.items())]


def load(
    book: Book,
    *,
    now: datetime | None = None,
    with_checksums: bool = False,
    progress: Progress | None = None,
) -> LoadSummary:
    """Load whatever is new in landing; the same bytes load once, whatever they are called.

    Files that failed are tried again each time, files of which rows were not kept when the
    reference data has changed, and files of whose rows the lake has lost some. The outcome does not
    depend on how often it is run.

    Args:
        book: Its landing and lake.
        now: The time of loading.
        with_checksums: Look for lost rows not by the sizes of the lake's files but by their bytes.
        progress: Told what is being done.

    Raises:
        reference.ReferenceErrors: The reference data has a mistake; nothing is loaded.
        LakeError: The lake cannot be written, or its load records are damaged.
    """
    report = progress or (lambda _: None)
    with lock(book):
        report("reading reference data")
        write_reference_tables(book)
        declared = Declared.read(book)
        _write_empty_tables(book)
        records = read_load_records(book)
        report("looking into landing")
        landing = look(book)
        _remove_leftovers(book, records, landing)
        now = now or datetime.now(UTC)
        before = records
        records, notes = follow_landing(book, records, landing, declared.kept_days, now)
        notes += _told(before, records)
        gaps = holes(book, data_files(book), records, with_checksums=with_checksums)
        new, skipped = _find_new(landing, records, gaps, declared, now)
        _forget(book, records, new, {hole.file for hole in gaps})
        _set_aside(book, gaps)
        written, failures = _load_batches(book, new, declared, report)
        loaded = {record.sha256 for record in written}
        failures = [failure for failure in failures if failure[0].sha256 not in loaded]
        skipped += len(new) - len(written) - len(failures)
        known_at = dict(before.filter(sha256="").select("source_file", "known_at").iter_rows())
        failed = [
            refused_record(name, reason, declared.digest, known_at.get(name, now))
            for name, reason in landing.refused
        ]
        failed += [record for record, _ in failures]
        _write_failed(book, record_frame(failed))
        _write_traces(book, failures)
        remember(book, landing)
        notes += _replaced(records, written)
        written += failed
        records = read_load_records(book)
        lost = lost_rows(records, holes(book, data_files(book), records)) if gaps else []
    return LoadSummary(
        loaded=sum(record.status == "loaded" for record in written),
        skipped=skipped,
        partial=sum(record.status == "partial" for record in written),
        failed=sum(record.status == "failed" for record in written),
        quarantined_rows=sum(record.quarantined_row_count for record in written),
        records=written,
        notes=notes,
        lost=lost,
        refuses_others=not refused(records).equals(refused(before)),
    )


def _told(before: pl.DataFrame, after: pl.DataFrame) -> list[str]:
    """What went out of the book and what came back, one sentence a file."""
    changed = after.join(before.select("load_id", "batch", was="status"), on=["load_id", "batch"])
    changed = changed.filter(pl.col("status") != pl.col("was")).sort("source_file")
    sentences = {True: "is out of the book from the next build on", False: "is in the book again"}
    return [
        f"{'deleted' if status == DELETED else 'back'}: {name}: {sentences[status == DELETED]}"
        for name, status in changed.select("source_file", "status").iter_rows()
    ]


def _replaced(records: pl.DataFrame, written: Sequence[LoadRecord]) -> list[str]:
    """Files that were replaced under their name; what they held before may have been right."""
    names = [record.source_file for record in written]
    new = [record.load_id for record in written]
    earlier = records.filter(
        pl.col("source_file").is_in(names),
        ~pl.col("load_id").is_in(new),
        pl.col("status").is_in(IN_BOOK),
    )
    return [
        f"replaced: {name}: the rows it brought before stay in the book:"
        f" `wattbook withdraw {load_id}` takes them out"
        for name, load_id in earlier.select("source_file", "load_id")
        .sort("source_file")
        .iter_rows()
    ]


def _write_empty_tables(book: Book) -> None:
    empty: dict[str, pl.DataFrame] = {
        name: table.schema.create_empty() for name, table in RAW_TABLES.items()
    }
    empty["job_nodes"] = pl.DataFrame(schema=JOB_NODES_SCHEMA)
    empty["undeclared_names"] = pl.DataFrame(schema=UNDECLARED_SCHEMA)
    empty["loads"] = pl.DataFrame(schema=LOAD_RECORD_SCHEMA)
    for name, frame in empty.items():
        file = book.lake / name / "schema.parquet"
        if not file.exists() or pl.read_parquet_schema(str(file)) != frame.schema:
            write_parquet(frame, file)


def _remove_leftovers(book: Book, records: pl.DataFrame, landing: Landing) -> None:
    """Remove what a load that was cut off left: temporary files, and rows that no record knows.

    Only the loader's own tables are looked into: beside them a build may be writing its own files,
    and this lock does not hold it back.

    Raises:
        LakeError: such rows are of files that are not in landing, so that they are there alone.
    """
    own = (*ROW_TABLES, "loads")
    for folder in (book.lake, book.quarantine):
        for draft in drafts(folder):
            if draft.relative_to(str(folder)).parts[0] in (draft.name, *own):
                draft.unlink()
    known = {file.sha256[:16] for file in landing.files} | set(records["load_id"])
    causes = []
    for name in leftovers(data_files(book), records):
        file = book.file(name)
        rows = readable_parquet(file)
        if rows is not None and not known.issuperset(rows["load_id"].unique()):
            causes.append(
                f"{file}: found rows of which no load record tells, of files that are not in"
                " landing: put lake/loads back from a backup or the files back into landing, or"
                " delete this one"
            )
        else:
            file.unlink()
    if causes:
        raise LakeError(causes)


def _find_new(
    landing: Landing,
    records: pl.DataFrame,
    gaps: Sequence[Hole],
    declared: Declared,
    now: datetime,
) -> tuple[list[LandedFile], int]:
    """Files to read, in the order of their names, and the count of files skipped.

    Of files with the same bytes the first in that order counts; in several formats' folders they
    are all tried: only one can be the right one. What was seen before stays known since then,
    however often it is copied, touched or read again.
    """
    out_of_book = records.filter(pl.col("status").is_in([DELETED, WITHDRAWN]))["sha256"]
    lost = [load_id for hole in gaps for load_id in hole.load_ids]
    failed_before = records.filter(batch=FAILED)["load_id"]
    is_whole = (pl.col("status") == "loaded") & (
        (pl.col("left_out_row_count") == 0) | ~pl.col("format").is_in(LEAVING_OUT_UNDECLARED)
    )
    final = records.filter(
        is_whole | (pl.col("reference_digest").str.split(".").list.first() == declared.digest),
        ~pl.col("load_id").is_in(_read_otherwise(records, declared)),
        ~pl.col("load_id").is_in([*lost, *failed_before]),
    )
    read = {*final["sha256"], *out_of_book}
    earlier = {
        sha256: (known_at, loaded_at, load_number)
        for sha256, known_at, loaded_at, load_number in records.filter(
            pl.col("load_number").is_not_null()
        )
        .select("sha256", "known_at", "loaded_at", "load_number")
        .iter_rows()
    }
    latest = records["load_number"].max()
    assert latest is None or isinstance(latest, int)
    number = latest or 0
    found: set[tuple[str, str]] = set()
    new: list[LandedFile] = []
    for file in landing.files:
        if file.sha256 in read or (file.sha256, file.format) in found:
            continue
        found.add((file.sha256, file.format))
        if file.sha256 not in earlier:
            number += 1
            earlier[file.sha256] = min(file.modified_at, now), now, number
        new.append(
            LandedFile(
                file.path,
                file.source_file,
                file.format,
                file.sha256,
                file.file_bytes,
                *earlier[file.sha256],
            )
        )
    return new, len(landing.files) - len(new)


def _read_otherwise(records: pl.DataFrame, declared: Declared) -> list[str]:
    """Loads read by a mapping that has changed since: all their rows may mean something else."""
    mapped = records.filter(pl.col("reference_digest").str.contains(".", literal=True))
    asked = mapped.select("load_id", "source_file", "reference_digest").iter_rows()
    return [load_id for load_id, *read in asked if not declared.is_read_alike(*read)]


def _forget(
    book: Book, records: pl.DataFrame, new: Sequence[LandedFile], untrue: Collection[str]
) -> None:
    """Take the rows and records of files that are read again out of the lake and quarantine.

    Until they are read they count as failed: killed from here on, the next run reads them again,
    whatever the reference data says by then, and knows them since when they were known. `untrue`
    are files of the lake that are gone or not what they were: of them nothing is kept but that.
    """
    again = pl.Series([file.load_id for file in new], dtype=pl.String).implode()
    is_again = pl.col("load_id").is_in(again)
    read_before = records.filter(pl.col("batch") != FAILED)
    batches = read_before.filter(is_again)["batch"].unique().sort()
    if batches.is_empty():
        return
    reason = "its rows were taken out to be read again, and that was cut off: load again"
    ids = set(read_before["load_id"])
    pending = [failed_record(file, reason, "") for file in new if file.load_id in ids]
    _write_failed(book, pl.concat([records.filter(batch=FAILED), record_frame(pending)]))
    for batch in batches:
        _take_out(book, batch, records.filter(batch=batch), is_again, untrue)


def _set_aside(book: Book, gaps: Sequence[Hole]) -> None:
    """Keep files that are not what they were from being read; the records still ask for them."""
    for hole in gaps:
        file = book.file(hole.file)
        if file.exists():
            file.rename(str(file.with_suffix(".damaged")))


def _take_out(
    book: Book, batch: str, records: pl.DataFrame, is_again: pl.Expr, untrue: Collection[str]
) -> None:
    """Leave of one batch the loads that are not read again.

    Their rows move to files of another name, so that what the records say is true at any moment.
    """
    kept = records.filter(~is_again)
    name = hashlib.sha256("".join((batch, *kept["load_id"])).encode()).hexdigest()[:16]
    held = expected(records)
    untrue = {*untrue} & {*held["file"]}
    held_by_kept = [held.filter(~is_again, pl.col("file").is_in(sorted(untrue)))]
    old_files = []
    for file in sorted({*held["file"]} - untrue):
        rows = pl.read_parquet(str(book.file(file))).filter(~is_again)
        if not rows.is_empty():
            folder, _, old_name = file.rpartition("/")
            # What follows the name of a batch is the number of its part.
            kept_file = f"{folder}/{name}{old_name[len(name) :]}"
            held_by_kept.append(write_rows(book, rows, kept_file))
        old_files.append(file)
    loads = book.lake / "loads" / f"{batch}.parquet"
    if kept.is_empty():
        loads.unlink()
    else:
        write_parquet(with_data_files(kept, pl.concat(held_by_kept)), loads)
    still_held = pl.concat(held_by_kept)["file"]
    old_files += [file for file in untrue if file not in still_held]
    for file in old_files:
        book.file(file).unlink(missing_ok=True)


def _load_batches(
    book: Book, new: Sequence[LandedFile], declared: Declared, report: Progress
) -> tuple[list[LoadRecord], list[Failure]]:
    """Read the files and write their rows; records of those read and of those that cannot be."""
    written: list[LoadRecord] = []
    failures: list[Failure] = []
    read: set[str] = set()
    batch = Batch(declared)
    for count, (landed, parts) in enumerate(_read(new, declared), start=1):
        file = Batch(declared)
        try:
            for part in parts:
                if landed.sha256 not in read:
                    file.add(landed, part)
                if file.row_count >= BATCH_ROWS:
                    file.write_rows(book)
        except UnreadableFile as error:
            file.take_back(book)
            if landed.sha256 not in read:
                read_by = declared.read_by(landed.source_file)
                failures.append((failed_record(landed, str(error), read_by), error))
        else:
            read.add(landed.sha256)
            if file.part_count:
                written += file.write(book)
            else:
                batch.join(file)
        if batch.row_count >= BATCH_ROWS or len(batch.files) >= BATCH_FILES:
            written += batch.write(book)
            batch = Batch(declared)
        if count % 50 == 0 or count == len(new):
            report(f"{count} of {len(new)} files")
    return written + batch.write(book), failures


def _read(
    new: Sequence[LandedFile], declared: Declared
) -> Iterator[tuple[LandedFile, Iterator[Part]]]:
    """Each file with its rows part by part, in their order; all parts are to be taken.

    The next ones are read meanwhile, so many as there are processes that read.
    """
    is_much = len(new) > FEW_FILES or sum(landed.file_bytes for landed in new) > FEW_BYTES
    count = min(READERS, os.cpu_count() or 1) if is_much else 1
    files = iter(new)
    asked: deque[tuple[LandedFile, Iterator[Part]]] = deque()

    def ask(reader: Reader) -> None:
        landed = next(files, None)
        if landed is not None:
            parts = reader.read(landed.path, landed.source_file, landed.sha256)
            asked.append((landed, then_ask(parts, reader)))

    def then_ask(parts: Iterator[Part], reader: Reader) -> Iterator[Part]:
        try:
            yield from parts
        finally:
            ask(reader)

    with ExitStack() as stack:
        for _ in range(count):
            ask(stack.enter_context(Reader(declared.context, columns_to_fill())))
        while asked:
            yield asked.popleft()


def _write_failed(book: Book, failed: pl.DataFrame) -> None:
    """The records of all files that fail today; those of earlier runs give way to them."""
    file = book.lake / "loads" / f"{FAILED}.parquet"
    if failed.is_empty():
        file.unlink(missing_ok=True)
    elif not file.exists() or not pl.read_parquet(str(file)).equals(failed):
        write_parquet(failed, file)


def _write_traces(book: Book, failures: Sequence[Failure]) -> None:
    """Where the reading of a file ended in a way that no connector foresees."""
    file = book.lake / "failed.log"
    traces = [
        f"{record.source_file}: {error}\n{error.trace}\n"
        for record, error in failures
        if isinstance(error, FaultyReading)
    ]
    if traces:
        file.write_text("\n".join(traces))
    else:
        file.unlink(missing_ok=True)
