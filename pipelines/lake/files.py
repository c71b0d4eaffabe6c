"""Writing Parquet files of the lake so that each is there whole or not at all.

What belongs here: the one way in which a file is put in place, and the reference data as files.
What does not: which other files there are (`loading.py`, `rollup.py`), and the columns of the
reference tables (`pipelines/reference`).
"""

import tempfile
from pathlib import Path

import polars as pl

from pipelines import reference
from pipelines.book import Book


def write_parquet(frame: pl.DataFrame, file: Path) -> None:
    """Write the frame beside the file and rename it; readers see the old or the new file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
        frame.write_parquet(temporary.name, compression="zstd", compression_level=1)
    Path(temporary.name).replace(file)


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
        if not file.exists() or not pl.read_parquet(file).equals(frame):
            write_parquet(frame, file)
            written.append(name)
    return written
