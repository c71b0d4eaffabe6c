"""Writing Parquet files of the lake so that each is there whole or not at all.

What belongs here: the one way in which a file is put in place, and the reference data as files.
What does not: which other files there are (`loading.py`, `rollup.py`), and the columns of the
reference tables (`pipelines/reference`).
"""

import tempfile
from pathlib import Path

import polars as pl
from filelock import FileLock

from pipelines import reference
from pipelines.book import Book
from pipelines.connectors.parsing import DAMAGED_TABLE
from pipelines.errors import BookError


class LakeError(BookError):
    """The lake cannot be written or is damaged; `causes` has one sentence per file."""


def lock(book: Book) -> FileLock:
    """Held while the lake is changed, and while a book is built from it."""
    book.lake.mkdir(parents=True, exist_ok=True)
    return FileLock(book.lake / ".lock")


def write_parquet(frame: pl.DataFrame, file: Path) -> None:
    """Write the frame beside the file and rename it; readers see the old or the new file.

    Raises:
        LakeError: there is no room for it, or no leave to write it; the old file is as it was.
    """
    draft = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
            draft = Path(temporary.name)
            frame.write_parquet(temporary.name, compression="zstd", compression_level=1)
        draft.replace(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            [
                f"{file}: could not be written ({error}): make room or give leave to write, and run"
                " it again; what was written before is kept"
            ]
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def readable_parquet(file: Path) -> pl.DataFrame | None:
    """A file's rows, None where it is not there or is no whole Parquet file."""
    try:
        return pl.read_parquet(file)
    except (FileNotFoundError, *DAMAGED_TABLE):
        return None


def write_reference_tables(book: Book) -> list[str]:
    """Check the reference data and write its flat tables to the lake, those that changed.

    Returns:
        Names of the tables that were written.

    Raises:
        reference.ReferenceErrors: The reference data has a mistake; nothing is written.
    """
    written = []
    for name, frame in reference.flatten(reference.load(book.reference)).items():
        file = book.lake / "reference" / f"{name}.parquet"
        before = readable_parquet(file)
        if before is None or not before.equals(frame):
            write_parquet(frame, file)
            written.append(name)
    return written
