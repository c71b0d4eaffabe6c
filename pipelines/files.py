"""Writing a file so that it is there whole or not at all.

What belongs here: the one way in which Parquet files of the lake are put in place. What does not:
which files there are (`lake.py`, `reference/`, `rollup.py`).
"""

import tempfile
from pathlib import Path

import polars as pl


def write_parquet(frame: pl.DataFrame, file: Path) -> None:
    """Write the frame beside the file and rename it; readers see the old or the new file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
        frame.write_parquet(temporary.name, compression="zstd", compression_level=1)
    Path(temporary.name).replace(file)
