"""Load records: what became of each landing file.

What belongs here: their columns and reading them. What does not: deciding what became of a file,
and when its record is written (`loading.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from pipelines.book import Book
from pipelines.bucket import Place
from pipelines.connectors.parsing import DAMAGED_TABLE
from pipelines.lake.files import LakeError, listing
from pipelines.lake.landing import LandedFile

DATA_FILE_SCHEMA: dict[str, pl.DataType] = {
    "file": pl.String(),
    "row_count": pl.Int64(),
    "file_bytes": pl.Int64(),
    "sha256": pl.String(),
}
"""A Parquet file with rows of a load, as it was written, below the data directory."""

LOAD_RECORD_SCHEMA: dict[str, pl.DataType] = {
    "load_id": pl.String(),
    "sha256": pl.String(),
    "source_file": pl.String(),
    "format": pl.String(),
    "status": pl.String(),
    "row_count": pl.Int64(),
    "quarantined_row_count": pl.Int64(),
    "left_out_row_count": pl.Int64(),
    "reason": pl.String(),
    "left_out_reason": pl.String(),
    "known_at": pl.Datetime("us", "UTC"),
    "loaded_at": pl.Datetime("us", "UTC"),
    "load_number": pl.Int64(),
    "tables": pl.List(pl.String()),
    "touched_dates": pl.List(pl.Date()),
    "reference_digest": pl.String(),
    "file_bytes": pl.Int64(),
    "batch": pl.String(),
    "data_files": pl.List(pl.Struct(DATA_FILE_SCHEMA)),
    "withdrawn_at": pl.List(pl.Datetime("us", "UTC")),
}


IN_BOOK = ("loaded", "partial")
"""Statuses of the files whose rows are in the book."""

FAILED = "failed"
"""Name of the batch, and file, of the load records of files that could not be read."""


@dataclass(frozen=True)
class LoadRecord:
    """What became of one landing file; one row of `raw_loads`."""

    load_id: str
    sha256: str
    source_file: str
    format: str
    status: str
    """`loaded`, `partial` (some rows quarantined), `failed` (nothing could be read), or out of the
    book: `deleted` from landing, `withdrawn` by name."""
    row_count: int
    quarantined_row_count: int
    left_out_row_count: int
    reason: str | None
    left_out_reason: str | None
    known_at: datetime
    """When the file landed. This, `loaded_at` and `load_number` stay what they were at first."""
    loaded_at: datetime | None
    load_number: int | None
    tables: list[str]
    touched_dates: list[date]
    reference_digest: str
    file_bytes: int
    batch: str
    data_files: list[dict[str, Any]]
    withdrawn_at: list[datetime]
    """When it went out of the book and, in turn, came back."""


def read_load_records(book: Book) -> pl.DataFrame:
    """All load records, one row per file, columns of `LOAD_RECORD_SCHEMA`.

    Raises:
        LakeError: a file of records is damaged, or was written by another version of Wattbook.
    """
    folder = book.lake / "loads"
    files = [folder / name for name in listing(folder)]
    if not files:
        return pl.DataFrame(schema=LOAD_RECORD_SCHEMA)
    try:
        records = pl.read_parquet([str(file) for file in files])
        if records.schema == pl.Schema(LOAD_RECORD_SCHEMA):
            return records
    except DAMAGED_TABLE:
        pass
    # One by one, to name the file.
    return pl.concat([_records_in(file) for file in files])


def refused(records: pl.DataFrame) -> pl.DataFrame:
    """The files that were not read whole: source_file, sha256, status, quarantined_row_count."""
    return (
        records.filter(pl.col("status").is_in([FAILED, "partial"]))
        .select("source_file", "sha256", "status", "quarantined_row_count")
        .sort(pl.all())
    )


def _records_in(file: Place) -> pl.DataFrame:
    try:
        records = pl.read_parquet(str(file))
    except DAMAGED_TABLE as error:
        raise LakeError(
            [
                f"{file}: found a damaged file ({error}), expected load records: put it back from"
                " a backup, or delete it and load again: what it told of is read again from landing"
            ]
        ) from error
    if records.schema != pl.Schema(LOAD_RECORD_SCHEMA):
        raise LakeError(
            [
                f"{file}: found load records of another version of Wattbook: move the folder lake"
                " and warehouse.duckdb away and run again: landing is loaded anew"
            ]
        )
    return records


def withdrawn_loads(records: pl.DataFrame, as_of: datetime | None = None) -> list[str]:
    """Loads whose rows are out of the book, now or as it was known at an instant."""
    changes = pl.col("withdrawn_at").list
    if as_of is not None:
        changes = pl.col("withdrawn_at").list.filter(pl.element() <= as_of).list
    return records.filter(changes.len() % 2 == 1)["load_id"].to_list()


def failed_record(landed: LandedFile, reason: str, digest: str) -> LoadRecord:
    """The record of a file that could not be read."""
    return LoadRecord(
        load_id=landed.load_id,
        sha256=landed.sha256,
        source_file=landed.source_file,
        format=landed.format,
        status="failed",
        row_count=0,
        quarantined_row_count=0,
        left_out_row_count=0,
        reason=reason,
        left_out_reason=None,
        known_at=landed.known_at,
        loaded_at=landed.loaded_at,
        load_number=landed.load_number,
        tables=[],
        touched_dates=[],
        reference_digest=digest,
        file_bytes=landed.file_bytes,
        batch=FAILED,
        data_files=[],
        withdrawn_at=[],
    )


def refused_record(name: str, reason: str, digest: str, known_at: datetime) -> LoadRecord:
    """The record of what in landing was not even opened, known since it was first seen there."""
    return LoadRecord(
        load_id="",
        sha256="",
        source_file=name,
        format=name.split("/")[0],
        status="failed",
        row_count=0,
        quarantined_row_count=0,
        left_out_row_count=0,
        reason=reason,
        left_out_reason=None,
        known_at=known_at,
        loaded_at=None,
        load_number=None,
        tables=[],
        touched_dates=[],
        reference_digest=digest,
        file_bytes=0,
        batch=FAILED,
        data_files=[],
        withdrawn_at=[],
    )


def record_frame(records: Sequence[LoadRecord]) -> pl.DataFrame:
    """The records in columns of `LOAD_RECORD_SCHEMA`."""
    return pl.DataFrame([vars(record) for record in records], schema=LOAD_RECORD_SCHEMA)
