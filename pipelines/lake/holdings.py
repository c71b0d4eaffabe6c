"""What the lake holds beside what its load records say it holds.

What belongs here: the Parquet files of raw rows as they were written, those that are gone or not
what they were, and those that no record knows. What does not: what becomes of them (`loading.py`).
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pipelines.book import Book
from pipelines.bucket import Place
from pipelines.lake.files import listing, write_parquet
from pipelines.lake.records import DATA_FILE_SCHEMA, IN_BOOK
from pipelines.lake.schemas import RAW_TABLES

ROW_TABLES = (*RAW_TABLES, "job_nodes", "undeclared_names")
"""Tables whose rows come from landing, each row with the `load_id` of its file."""

NOTHING_WRITTEN = pl.DataFrame(schema={"load_id": pl.String(), **DATA_FILE_SCHEMA})


@dataclass(frozen=True)
class Hole:
    """A file of the lake that is not what was written, and the loads that have rows in it."""

    file: str
    found: str
    load_ids: tuple[str, ...]


def write_rows(book: Book, rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Write rows of the lake or quarantine; per load the file as a load record keeps it."""
    content = write_parquet(rows, book.file(name))
    return rows.select(
        pl.col("load_id").unique(maintain_order=True),
        file=pl.lit(name),
        row_count=pl.lit(len(rows), pl.Int64),
        file_bytes=pl.lit(len(content), pl.Int64),
        sha256=pl.lit(hashlib.sha256(content).hexdigest()),
    )


def data_files(book: Book) -> dict[str, int]:
    """Files with raw rows in the lake and in quarantine, by name, with their bytes."""
    return {
        f"{folder}/{path}": size
        for folder, place in (("lake", book.lake), ("quarantine", book.quarantine))
        for path, size in listing(place).items()
        if path.split("/")[0] in ROW_TABLES and not path.endswith("/schema.parquet")
    }


def expected(records: pl.DataFrame) -> pl.DataFrame:
    """One row per load and file of the lake or quarantine that the records know."""
    return (
        records.select("load_id", "data_files")
        .explode("data_files", empty_as_null=False)
        .unnest("data_files")
        .select("load_id", *DATA_FILE_SCHEMA)
    )


def with_data_files(records: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
    """The records with these files in place of those that held their rows before."""
    by_load = files.group_by("load_id").agg(data_files=pl.struct(*DATA_FILE_SCHEMA).sort_by("file"))
    none = pl.lit([], dtype=pl.List(pl.Struct(DATA_FILE_SCHEMA)))
    return (
        records.drop("data_files")
        .join(by_load, on="load_id", how="left", maintain_order="left")
        .with_columns(pl.col("data_files").fill_null(none))
        .select(records.columns)
    )


def leftovers(files: Collection[str], records: pl.DataFrame) -> list[str]:
    """Files with raw rows that no record knows: what a load that was cut off left."""
    known = {*expected(records)["file"]}
    return [file for file in files if file not in known]


def holes(
    book: Book, files: Mapping[str, int], records: pl.DataFrame, *, with_checksums: bool = False
) -> list[Hole]:
    """Files of the lake that are gone or differ from what was written, by size or by checksum."""
    known = (
        expected(records)
        .filter(pl.col("file").str.starts_with("lake/"))
        .group_by("file", "file_bytes", "sha256")
        .agg(pl.col("load_id").unique().sort())
        .sort("file")
    )
    found = []
    for name, file_bytes, sha256, load_ids in known.iter_rows():
        size = files.get(name)
        if size is None:
            found.append(Hole(name, "no file", tuple(load_ids)))
        elif size != file_bytes:
            what = f"{size} bytes, expected {file_bytes}"
            found.append(Hole(name, what, tuple(load_ids)))
        elif with_checksums and _sha256(book.file(name)) != sha256:
            found.append(Hole(name, "other bytes than were written", tuple(load_ids)))
    return found


def lost_rows(records: pl.DataFrame, gaps: Sequence[Hole], *, as_of: bool = False) -> list[str]:
    """What of the book's rows the lake no longer holds, one sentence per file of the lake.

    A book as of an instant may hold rows that the book of today does not.
    """
    counted = records if as_of else records.filter(pl.col("status").is_in(IN_BOOK))
    names = dict(counted.select("load_id", "source_file").iter_rows())
    causes = []
    for hole in gaps:
        files = sorted(names[load_id] for load_id in hole.load_ids if load_id in names)
        if files:
            more = f" and {len(files) - 3} more" if len(files) > 3 else ""
            causes.append(
                f"{hole.file}: found {hole.found}, expected the rows of {', '.join(files[:3])}"
                f"{more}: put these into landing and run `wattbook load`, or `wattbook withdraw`"
                " them"
            )
    return causes


def damage(book: Book, records: pl.DataFrame, *, as_of: bool = False) -> list[str]:
    """Why no book can be built from the lake as it is, one sentence per file; none if it is whole.

    Cheap: it looks at the sizes of files, not into them.
    """
    files = data_files(book)
    causes = lost_rows(records, holes(book, files, records), as_of=as_of)
    if leftovers(files, records):
        causes.append(f"{book.lake}: the last load was cut off: run `wattbook load` first")
    return causes


def _sha256(file: Place) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
