"""Files in landing: unpacking one, and reading it into raw rows that say where they came from.

What belongs here: archives and compression with their limits, and provenance. What does not: which
files are new (`loading.py`), what is written (`batch.py`), what a format means
(`pipelines/connectors`), and which rows are right (`quarantine.py`).
"""

import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import polars as pl

from pipelines.connectors import FORMATS, connector
from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    REJECT_REASON,
    Context,
    UnreadableFile,
)
from pipelines.lake.schemas import RAW_TABLES, RawTable, payload_columns

MAX_FILE_BYTES = 2 * 1024**3


MAX_COMPRESSION_RATIO = 500
"""Telemetry text shrinks by 20 to 100; what grows more when unpacked is not a measurement."""


@dataclass(frozen=True)
class LandedFile:
    """A file in landing, known by its bytes."""

    path: Path
    source_file: str
    format: str
    sha256: str
    file_bytes: int
    known_at: datetime

    @property
    def load_id(self) -> str:
        """What names the file in rows and records: the start of its sha256."""
        return self.sha256[:16]


def read_file(landed: LandedFile, context: Context) -> list[tuple[str, pl.DataFrame]]:
    """(raw table, rows with their provenance) of a file and of its members."""
    if landed.format not in FORMATS:
        raise UnreadableFile(
            f"found landing folder {landed.format!r}, expected one of {', '.join(FORMATS)}:"
            " move the file"
        )
    parse = connector(landed.format)
    frames = []
    row_counts: dict[str, int] = defaultdict(int)
    for member, content in _unpack(landed):
        name = f"{landed.source_file}!{member}" if member else landed.source_file
        below = name.removeprefix(f"{landed.format}/").replace("!", "/")
        file_name = below if member else below.removesuffix(".gz")
        for table, frame in parse(content, file_name=file_name, context=context).items():
            frames.append(
                (table, _with_provenance(frame, RAW_TABLES[table], landed, name, row_counts[table]))
            )
            row_counts[table] += len(frame)
    return frames


def _unpack(landed: LandedFile) -> Iterator[tuple[str | None, bytes]]:
    """(member name or None, bytes) of a file or of the members of an archive.

    Raises:
        UnreadableFile: It is too large, broken, encrypted, or a member lies outside.
    """
    if landed.file_bytes > MAX_FILE_BYTES:
        raise UnreadableFile(
            f"found {landed.file_bytes} bytes, expected at most {MAX_FILE_BYTES}: split the file"
        )
    content = landed.path.read_bytes()
    if not content:
        raise UnreadableFile("found 0 bytes, expected a file with content: send it again")
    if hashlib.sha256(content).hexdigest() != landed.sha256:
        raise UnreadableFile("the file changed while it was read: load again when it is complete")
    limit = min(MAX_FILE_BYTES, max(len(content), 1024) * MAX_COMPRESSION_RATIO)
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            yield None, _read_limited(stream, limit)
    elif content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        try:
            archive = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise UnreadableFile(f"found a broken zip archive ({error}): send it again") from error
        with archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if not members:
                raise UnreadableFile("found an empty archive, expected files in it: send it again")
            for member in sorted(members, key=lambda info: info.filename):
                if member.filename.startswith("/") or ".." in Path(member.filename).parts:
                    raise UnreadableFile(
                        f"found archive member {member.filename!r}, expected a name inside the"
                        " archive: pack it again"
                    )
                try:
                    with archive.open(member) as stream:
                        unpacked = _read_limited(stream, limit)
                except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                    raise UnreadableFile(
                        f"archive member {member.filename!r} cannot be unpacked ({error}):"
                        " pack it again without encryption"
                    ) from error
                limit -= len(unpacked)
                yield member.filename, unpacked
    else:
        yield None, content


def _read_limited(stream: IO[bytes] | gzip.GzipFile, limit: int) -> bytes:
    try:
        content = stream.read(limit + 1)
    except (EOFError, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UnreadableFile(f"found broken compression ({error}): send the file again") from error
    if len(content) > limit:
        raise UnreadableFile(
            f"found more than {limit} bytes when unpacked, expected fewer: split the file"
        )
    return content


def _with_provenance(
    frame: pl.DataFrame, table: RawTable, landed: LandedFile, source_file: str, first_row: int
) -> pl.DataFrame:
    """The frame in the raw table's columns, with where it came from, and why a row is not kept.

    Rows are numbered on across the members of an archive, so that load and row name one row.
    """
    schema = table.schema.create_empty().schema
    landing_time = pl.lit(landed.known_at, dtype=pl.Datetime("us", "UTC"))
    known_at = (
        pl.col("known_at").fill_null(landing_time) if "known_at" in frame.columns else landing_time
    )
    reasons = [
        pl.col(name) if name in frame.columns else pl.lit(None, pl.String).alias(name)
        for name in (REJECT_REASON, LEFT_OUT_REASON)
    ]
    return frame.select(
        known_at.alias("known_at"),
        pl.lit(source_file).alias("source_file"),
        pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64).alias("source_row"),
        pl.lit(landed.load_id).alias("load_id"),
        *(
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(schema[name]).alias(name)
            for name in payload_columns(table)
        ),
        *reasons,
    )
