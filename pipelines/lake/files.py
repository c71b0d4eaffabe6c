"""Files of the lake, in a folder or a bucket: listed, and written whole or not at all.

What belongs here: the one way in which a file is put in place, and the reference data as files.
What does not: which place the lake is (`pipelines/bucket.py`), which other files there are
(`loading.py`, `rollup.py`), and the columns of the reference tables (`pipelines/reference`).
"""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from filelock import FileLock

from pipelines import reference
from pipelines.book import Book
from pipelines.bucket import Place, reached
from pipelines.connectors.parsing import DAMAGED_TABLE
from pipelines.errors import BookError


class LakeError(BookError):
    """The lake cannot be written or is damaged; `causes` has one sentence per file."""


@contextmanager
def lock(book: Book) -> Iterator[None]:
    """Held while the lake is changed, and while a book is built from it.

    Raises:
        BookError: the lake is in a bucket that cannot be had.
    """
    book.data_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(book.data_dir / "lake.lock"), reached(book.lake):
        yield


def write_parquet(frame: pl.DataFrame, file: Place) -> bytes:
    """Write the frame; readers see the old or the new file.

    Object storage shows nothing before it has all; in a folder, a finished file is renamed.

    Returns:
        What was written.

    Raises:
        LakeError: there is no room for it, or no leave to write it; the old file is as it was.
    """
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1)
    content = buffer.getvalue()
    if isinstance(file, Path):
        _put(content, file)
    else:
        file.write_bytes(content)
    return content


def _put(content: bytes, file: Path) -> None:
    draft = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
            draft = Path(temporary.name)
            temporary.write(content)
        draft.replace(file)
    except OSError as error:
        raise LakeError(
            [
                f"{file}: could not be written ({error}): make room or give leave to write, and run"
                " it again; what was written before is kept"
            ]
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def drafts(folder: Place) -> list[Path]:
    """What a writer that was cut off left below a folder; in a bucket nothing."""
    return list(map(Path, _below(folder, ".tmp"))) if isinstance(folder, Path) else []


def listing(folder: Place) -> dict[str, int]:
    """Parquet files below a folder with their bytes, in order, by their paths below it."""
    if isinstance(folder, Path):
        start = f"{folder}/"
        sizes = {
            file.removeprefix(start): Path(file).stat().st_size
            for file in _below(folder, ".parquet")
        }
    else:
        start = f"{folder.path.rstrip('/')}/"
        sizes = {
            path.removeprefix(start): file["size"]
            for path, file in folder.fs.find(start, detail=True).items()
            if path.endswith(".parquet")
        }
    return dict(sorted(sizes.items()))


def _below(folder: Path, ending: str) -> list[str]:
    """Files below a folder, as text: a lake has tens of thousands."""
    return [
        f"{root}/{name}"
        for root, _, names in os.walk(folder)
        for name in names
        if name.endswith(ending)
    ]


def readable_parquet(file: Place) -> pl.DataFrame | None:
    """A file's rows, None where it is not there or is no whole Parquet file."""
    try:
        return pl.read_parquet(str(file))
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
