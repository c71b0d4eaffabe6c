"""Landing: which files lie in it, known by their bytes, and what of it cannot be read.

What belongs here: walking landing, and rows with where they came from. What does not: reading a
file (`pipelines/connectors/reading.py`), which files are new (`loading.py`), what is written
(`batch.py`), and which rows are right (`quarantine.py`).
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.book import Book
from pipelines.bucket import Place
from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON
from pipelines.connectors.reading import Part, file_sha256, not_readable
from pipelines.lake.files import readable_parquet, write_parquet
from pipelines.lake.schemas import PROVENANCE_COLUMNS, RAW_TABLES, RawTable

SEEN_SCHEMA: dict[str, pl.DataType] = {
    "source_file": pl.String(),
    "file_bytes": pl.Int64(),
    "modified_at": pl.Datetime("us", "UTC"),
    "sha256": pl.String(),
}
"""What landing held when it was last looked at: a file of the same name, size and time is not read
again to know its bytes."""


@dataclass(frozen=True)
class SeenFile:
    """A file in landing as it lies there."""

    path: Path
    source_file: str
    file_bytes: int
    modified_at: datetime
    sha256: str

    @property
    def format(self) -> str:
        """The folder below landing, which names the connector."""
        return self.source_file.split("/")[0]


@dataclass(frozen=True)
class LandedFile:
    """A file in landing, known by its bytes, and since when the book knows it."""

    path: Path
    source_file: str
    format: str
    sha256: str
    file_bytes: int
    known_at: datetime
    loaded_at: datetime
    load_number: int

    @property
    def load_id(self) -> str:
        """What names the file in rows and records: the start of its sha256."""
        return self.sha256[:16]


@dataclass(frozen=True)
class Landing:
    """What lies in landing: files in the order of their names, and what cannot be looked at."""

    files: list[SeenFile] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Of formats, whether anything is in them or not."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(path below landing, why it is not even opened)"""


def look(book: Book) -> Landing:
    """Every file below landing with its sha256, and what of landing cannot be read, in words."""
    before = {
        (name, size, modified_at): sha256
        for name, size, modified_at, sha256 in _seen_before(book).iter_rows()
    }
    landing = Landing()
    for path, name in _files(book.landing, landing):
        try:
            size, modified_at = _size_and_time(path)
            sha256 = before.get((name, size, modified_at))
            if sha256 is None:
                with path.open("rb") as file:
                    sha256 = file_sha256(file, name)
        except OSError as error:
            landing.refused.append((name, f"{not_readable(error)}: load again"))
            continue
        landing.files.append(SeenFile(path, name, size, modified_at, sha256))
    landing.files.sort(key=lambda file: file.source_file)
    return landing


def is_as_seen(book: Book) -> bool:
    """Whether landing holds what it held when it was last loaded, by name, size and time."""
    seen = _seen_before(book).select("source_file", "file_bytes", "modified_at")
    try:
        found = {(name, *_size_and_time(path)) for path, name in _files(book.landing, Landing())}
    except OSError:
        return False
    return _seen_file(book).exists() and found == set(seen.iter_rows())


def _size_and_time(path: Path) -> tuple[int, datetime]:
    status = path.stat()
    return status.st_size, datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, tz=UTC)


def remember(book: Book, landing: Landing) -> None:
    """Keep what landing held, so that the next look opens only what changed."""
    columns = list(SEEN_SCHEMA)
    rows = [[getattr(file, name) for name in columns] for file in landing.files]
    seen = pl.DataFrame(rows, schema=SEEN_SCHEMA, orient="row")
    if not seen.equals(_seen_before(book)):
        write_parquet(seen, _seen_file(book))


def _seen_file(book: Book) -> Place:
    return book.lake / "landing.parquet"


def _seen_before(book: Book) -> pl.DataFrame:
    seen = readable_parquet(_seen_file(book))
    return pl.DataFrame(schema=SEEN_SCHEMA) if seen is None else seen


def _files(folder: Path, landing: Landing) -> Iterator[tuple[Path, str]]:
    """Files below a folder with their names below it; what cannot be read or is none is refused.

    Links are followed to files within the folder alone: what is behind any other was not landed.
    """
    root = folder.resolve()
    refused = landing.refused
    folders = [folder]
    while folders:
        parent = folders.pop()
        try:
            entries = list(os.scandir(parent))
        except OSError as error:
            if parent != folder or not isinstance(error, FileNotFoundError):
                refused.append((_name(parent, folder), f"{not_readable(error)}: load again"))
            continue
        for entry in entries:
            path = Path(entry.path)
            name = _name(path, folder)
            if name != path.relative_to(folder).as_posix():
                refused.append(
                    (name, "found a name that is not UTF-8, expected one that is: rename it")
                )
            elif entry.is_symlink():
                if not _is_within(path, root):
                    refused.append(
                        (name, "found a link out of landing, expected a file: copy it here")
                    )
                elif path.is_file():
                    yield path, name
            elif entry.is_dir():
                folders.append(path)
                if parent == folder:
                    landing.folders.append(name)
            elif entry.is_file():
                yield path, name
            else:
                refused.append((name, "found a pipe or device, expected a file: take it away"))


def _name(path: Path, folder: Path) -> str:
    """The path below landing, with what is not UTF-8 in it written as hexadecimal."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _is_within(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        # It leads nowhere, or in a circle.
        return False


def rows_of(
    read: Iterable[tuple[LandedFile, Part]], row_counts: Counter[tuple[str, str]]
) -> dict[str, pl.DataFrame]:
    """Per raw table the rows that were read of files, with their provenance.

    Rows are numbered on across the parts of a file, so that load and row name one row: `row_counts`
    says how many of a load and table were before, and is counted on.
    """
    frames: dict[str, list[pl.DataFrame]] = defaultdict(list)
    origins: dict[str, list[dict[str, object]]] = defaultdict(list)
    for landed, (member, tables) in read:
        name = f"{landed.source_file}!{member}" if member else landed.source_file
        for table, frame in tables.items():
            origin = {
                "known_at": landed.known_at,
                "loaded_at": landed.loaded_at,
                "source_file": name,
                "source_row": row_counts[landed.load_id, table],
                "load_id": landed.load_id,
                "load_number": landed.load_number,
                "row_count": len(frame),
            }
            frames[table].append(frame)
            origins[table].append(origin)
            row_counts[landed.load_id, table] += len(frame)
    return {
        table: _with_provenance(of_files, origins[table], RAW_TABLES[table])
        for table, of_files in frames.items()
    }


def _with_provenance(
    frames: Sequence[pl.DataFrame], origins: Sequence[dict[str, object]], table: RawTable
) -> pl.DataFrame:
    """The frames as one, with where each came from and since when it is known.

    `known_at` is what a source says of its publication, else when the file landed.
    """
    columns = dict(table.schema.create_empty().schema)
    reasons = dict.fromkeys((REJECT_REASON, LEFT_OUT_REASON), pl.String())
    of_frame = pl.DataFrame(
        origins,
        {**{name: columns[name] for name in PROVENANCE_COLUMNS}, "row_count": pl.Int64()},
    )
    frame_of_row = of_frame.select(
        pl.int_range(pl.len()).repeat_by("row_count").explode(empty_as_null=False)
    ).to_series()
    origin = of_frame.with_columns(
        pl.col("source_row") - (pl.col("row_count").cum_sum() - pl.col("row_count"))
    )[frame_of_row]
    rows = pl.concat(frames, how="diagonal")
    rows = rows.with_columns(
        pl.lit(None, kind).alias(name)
        for name, kind in (columns | reasons).items()
        if name not in rows.columns
    )
    is_unpublished = rows["known_at"].is_null()
    return rows.with_columns(
        origin["known_at"].zip_with(is_unpublished, rows["known_at"]),
        pl.when(is_unpublished).then(origin["loaded_at"]).alias("loaded_at"),
        pl.int_range(pl.len()).alias("source_row") + origin["source_row"],
        *origin.select("source_file", "load_id", "load_number"),
    ).select(*columns, *reasons)
