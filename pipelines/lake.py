"""Landing to lake: every file read once, good rows kept, bad rows quarantined with their reason.

What belongs here: finding new files, gathering them in batches, writing Parquet and load records.
What does not: reading one file (`landed.py`), telling good rows from bad (`quarantine.py`), and
what the rows say (dbt).

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
from hostlist import BadHostlist, expand_hostlist

from pipelines import reference
from pipelines.connectors.common import REJECT_REASON, UnreadableFile
from pipelines.files import write_parquet
from pipelines.landed import LandedFile, read_file
from pipelines.load_records import (
    FAILED,
    LOAD_RECORD_SCHEMA,
    LoadRecord,
    failed_record,
    read_load_records,
    record_frame,
)
from pipelines.quarantine import Declared, quarantine_rows, split
from pipelines.schemas import RAW_TABLES, RawTable
from pipelines.settings import Book

Progress = Callable[[str], None]

DAILY_TABLES = frozenset({"gpu_samples", "node_power_samples"})
"""Tables that grow with GPUs: one folder per UTC date, so that a day's roll-up reads a day."""

BATCH_ROWS = 2_000_000
"""Bounds the memory of a load and the work that is lost when it is killed."""
LONGEST_SPAN_DAYS = 3660
"""What ends later still, such as an event until the year 9999, touches the dates up to here."""

_UTC = pl.Datetime("us", "UTC")


JOB_NODES_SCHEMA: dict[str, pl.DataType] = {
    "cluster": pl.String(),
    "job_id": pl.String(),
    "submitted_at": _UTC,
    "hostname": pl.String(),
    "known_at": _UTC,
    "source_row": pl.Int64(),
    "load_id": pl.String(),
}


@dataclass(frozen=True)
class LoadSummary:
    """What one load did: counts of files, rows quarantined, and the records it wrote."""

    loaded: int
    skipped: int
    partial: int
    failed: int
    quarantined_rows: int
    records: list[LoadRecord] = field(default_factory=list)


def load(book: Book, *, progress: Progress | None = None) -> LoadSummary:
    """Load whatever is new in landing; the same bytes load once, whatever they are called.

    Files that failed are tried again each time, files with quarantined rows when the reference data
    has changed. The outcome does not depend on the order of the files nor on how often it is run.

    Raises:
        reference.ReferenceErrors: The reference data has a mistake; nothing is loaded.
    """
    report = progress or (lambda _: None)
    book.lake.mkdir(parents=True, exist_ok=True)
    with FileLock(book.lake / ".lock"):
        report("reading reference data")
        reference.write_tables(book)
        declared = Declared.read(book)
        _write_empty_tables(book)
        _remove_unrecorded(book)
        records = read_load_records(book)
        new, skipped, failed = _find_new(book, records, declared.digest, report)
        again = pl.Series([file.load_id for file in new], dtype=pl.String).implode()
        _forget(book, records.filter(pl.col("status") == "partial", pl.col("load_id").is_in(again)))
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
    final = records.filter(
        (pl.col("status") == "loaded")
        | ((pl.col("status") == "partial") & (pl.col("reference_digest") == digest))
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
    batch = _Batch(declared)
    for count, landed in enumerate(new, start=1):
        if landed.sha256 not in read:
            reason = batch.add(landed)
            if reason is None:
                read.add(landed.sha256)
            else:
                failed.append(failed_record(landed, reason, declared.digest))
        if batch.row_count >= BATCH_ROWS:
            written += batch.write(book)
            batch = _Batch(declared)
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


class _Batch:
    """Files read together: their rows are validated and written table by table."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.files: list[LandedFile] = []
        self.frames: dict[str, list[pl.DataFrame]] = {}
        self.row_count = 0

    def add(self, landed: LandedFile) -> str | None:
        """Read a file into the batch; the reason where it cannot be read as a whole."""
        try:
            frames = read_file(landed, self.declared.context)
        except UnreadableFile as error:
            return str(error)
        except pl.exceptions.PolarsError as error:
            return (
                f"found values that do not fit ({str(error).splitlines()[0]}), expected a"
                f" {landed.format} file: correct the file or move it to its format's folder"
            )
        self.files.append(landed)
        for table, frame in frames:
            self.frames.setdefault(table, []).append(frame)
            self.row_count += len(frame)
        return None

    def write(self, book: Book) -> list[LoadRecord]:
        """Write rows, quarantine and, last, the load records; the records."""
        if not self.files:
            return []
        load_ids = sorted(landed.load_id for landed in self.files)
        name = hashlib.sha256("".join(load_ids).encode()).hexdigest()[:16]
        rows: list[pl.DataFrame] = []
        bad_rows: list[pl.DataFrame] = []
        for table, frames in self.frames.items():
            good, bad = split(pl.concat(frames), RAW_TABLES[table], self.declared)
            if table == "jobs":
                nodes, bad_nodes = _expand_nodes(good)
                good = good.join(bad_nodes, on=["load_id", "source_row"], how="anti")
                bad = pl.concat([bad, bad_nodes.select(bad.columns)])
                write_parquet(nodes, book.lake / "job_nodes" / f"{name}.parquet")
            rows.append(_touched(book, good, RAW_TABLES[table]))
            _write_rows(book, table, good, name)
            if not bad.is_empty():
                write_parquet(bad, book.quarantine / table / f"{name}.parquet")
            bad_rows.append(bad.select("load_id", "reason", pl.lit(table).alias("table")))
        records = self._records(name, rows, bad_rows)
        write_parquet(record_frame(records), book.lake / "loads" / f"{name}.parquet")
        return records

    def _records(
        self, batch: str, rows: list[pl.DataFrame], bad_rows: list[pl.DataFrame]
    ) -> list[LoadRecord]:
        touched = (
            pl.concat(rows)
            .group_by("load_id")
            .agg(
                pl.col("row_count").sum(),
                pl.col("table").unique().sort(),
                pl.col("touched_dates").explode().drop_nulls().unique().sort(),
            )
            .rows_by_key("load_id", named=True, unique=True)
            if rows
            else {}
        )
        refused = (
            pl.concat(bad_rows)
            .group_by("load_id", maintain_order=True)
            .agg(
                pl.len().alias("row_count"),
                pl.col("table").unique().sort(),
                pl.col("reason").first(),
                pl.col("reason").n_unique().alias("reason_count"),
            )
            .rows_by_key("load_id", named=True, unique=True)
            if bad_rows
            else {}
        )
        records = []
        for landed in self.files:
            good, bad = touched.get(landed.load_id), refused.get(landed.load_id)
            reason = None
            if bad:
                more = bad["reason_count"] - 1
                reason = bad["reason"] + (f" (and {more} more reasons)" if more else "")
            records.append(
                LoadRecord(
                    load_id=landed.load_id,
                    sha256=landed.sha256,
                    source_file=landed.source_file,
                    format=landed.format,
                    status="partial" if bad else "loaded",
                    row_count=good["row_count"] if good else 0,
                    quarantined_row_count=bad["row_count"] if bad else 0,
                    reason=reason,
                    known_at=landed.known_at,
                    tables=sorted(
                        {*(good["table"] if good else ()), *(bad["table"] if bad else ())}
                    ),
                    touched_dates=good["touched_dates"] if good else [],
                    reference_digest=self.declared.digest,
                    file_bytes=landed.file_bytes,
                    batch=batch,
                )
            )
        return records


def _expand_nodes(jobs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per job and node, and quarantine rows of jobs whose node list cannot be read."""
    lists = jobs.select("node_list").drop_nulls().unique().filter(pl.col("node_list") != "")
    expanded: dict[str, list[list[str] | str | None]] = {"node_list": [], "hostname": [], "why": []}
    for node_list in lists["node_list"]:
        try:
            hosts, why = expand_hostlist(node_list), None
        except BadHostlist as error:
            hosts, why = None, str(error)
        expanded["node_list"].append(node_list)
        expanded["hostname"].append(hosts)
        expanded["why"].append(why)
    nodes = jobs.join(
        pl.DataFrame(
            expanded,
            schema={"node_list": pl.String, "hostname": pl.List(pl.String), "why": pl.String},
        ),
        on="node_list",
    )
    bad = nodes.filter(pl.col("why").is_not_null()).with_columns(
        pl.format(
            "node_list: found {} ({}), expected a Slurm host list such as node[001-004]",
            "node_list",
            "why",
        ).alias(REJECT_REASON)
    )
    return (
        nodes.filter(pl.col("why").is_null()).select(*JOB_NODES_SCHEMA).explode("hostname"),
        quarantine_rows(bad.drop("hostname", "why")),
    )


def _write_rows(book: Book, table: str, rows: pl.DataFrame, batch: str) -> None:
    if rows.is_empty():
        return
    folder = book.lake / table
    if table not in DAILY_TABLES:
        write_parquet(rows, folder / f"{batch}.parquet")
        return
    by_date = rows.with_columns(_date=pl.col("sampled_at").dt.date()).partition_by(
        "_date", as_dict=True, include_key=False
    )
    for (day,), part in by_date.items():
        write_parquet(part, folder / f"{day}" / f"{batch}.parquet")


def _touched(book: Book, rows: pl.DataFrame, table: RawTable) -> pl.DataFrame:
    """Per load: count of rows and the UTC dates that become stale by any of them.

    Those are the dates of the row itself and, where its key says nothing of its time, those of the
    versions of it that the lake holds already: an event that was moved leaves its former days, too.
    What has no end yet holds up to the last date of the book.
    """
    start, end = pl.col("start"), pl.col("end")
    span = {"start": table.span[0], "end": table.span[1]}
    spans = rows.lazy().select("load_id", row_count=1, **span)
    if table.span[0] not in table.key:
        versions = pl.scan_parquet(book.lake / table.name / "*.parquet").select(*table.key, **span)
        revised = (
            rows.lazy()
            .select("load_id", *table.key, row_count=0)
            .join(versions, on=table.key, nulls_equal=True)
            .select("load_id", "row_count", *span)
        )
        spans = pl.concat([spans, revised]).with_columns(
            end=pl.when(start.is_null()).then(end).otherwise(end.fill_null(_end_of_book(book)))
        )
    # The end is exclusive where it is not the start itself, so an interval up to midnight stays
    # within its day.
    final = pl.max_horizontal(start, end - pl.duration(microseconds=1))
    final = pl.min_horizontal(final, start.fill_null(end) + pl.duration(days=LONGEST_SPAN_DAYS))
    return (
        spans.select(
            "load_id",
            "row_count",
            first=pl.coalesce(start, end).dt.date(),
            last=pl.coalesce(final, start).dt.date(),
        )
        .group_by("load_id", "first", "last")
        .agg(pl.col("row_count").sum())
        .with_columns(touched_dates=pl.date_ranges("first", "last"))
        .group_by("load_id")
        .agg(
            pl.col("row_count").sum(),
            pl.col("touched_dates").explode().unique(),
        )
        .with_columns(table=pl.lit(table.name))
        .collect()
    )


def _end_of_book(book: Book) -> pl.Expr:
    """The instant up to which loads so far say anything, null before the first."""
    dates = read_load_records(book).select(pl.col("touched_dates").explode().max())
    return pl.lit(dates.item(), pl.Date).dt.offset_by("1d").cast(_UTC)
