"""Load records: what became of each landing file.

What belongs here: their columns and reading them. What does not: deciding what became of a file,
and when its record is written (`loading.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from pipelines.book import Book
from pipelines.lake.landing import LandedFile

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
    "tables": pl.List(pl.String()),
    "touched_dates": pl.List(pl.Date()),
    "reference_digest": pl.String(),
    "file_bytes": pl.Int64(),
    "batch": pl.String(),
}


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
    """`loaded`, `partial` (some rows quarantined) or `failed` (nothing could be read)."""
    row_count: int
    quarantined_row_count: int
    left_out_row_count: int
    reason: str | None
    left_out_reason: str | None
    known_at: datetime
    tables: list[str]
    touched_dates: list[date]
    reference_digest: str
    file_bytes: int
    batch: str


def read_load_records(book: Book) -> pl.DataFrame:
    """All load records, one row per file, columns of `LOAD_RECORD_SCHEMA`."""
    files = sorted((book.lake / "loads").glob("*.parquet"))
    frames = [pl.read_parquet(file) for file in files]
    return pl.concat([pl.DataFrame(schema=LOAD_RECORD_SCHEMA), *frames], how="diagonal")


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
        tables=[],
        touched_dates=[],
        reference_digest=digest,
        file_bytes=landed.file_bytes,
        batch=FAILED,
    )


def record_frame(records: Sequence[LoadRecord]) -> pl.DataFrame:
    """The records in columns of `LOAD_RECORD_SCHEMA`."""
    return pl.DataFrame([vars(record) for record in records], schema=LOAD_RECORD_SCHEMA)
