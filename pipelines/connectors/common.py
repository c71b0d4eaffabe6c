"""What every connector shares: the context it may know, its errors and the shape of its answer.

What belongs here: the interface between the loader and the connectors. What does not: anything one
format needs alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from pipelines.connectors.mappings import Mappings

REJECT_REASON = "reject_reason"
LEFT_OUT_REASON = "left_out_reason"

BUSY_ABOVE_RATIO = 0.05
"""A GPU, or an instance of one, that is used for more than this share of the time is busy."""

PART_ROWS = 250_000
"""Of a large file so many rows are read at once: this bounds the memory of reading."""

Tables = dict[str, pl.DataFrame]
"""Raw table name -> rows in file order, one for each line of the file.

Rows with a `reject_reason` go to quarantine. Those with a `left_out_reason` are in order, but not
for this book: they are counted and not kept. So every line is loaded, quarantined or left out. A
line is what a format tells one thing in: a row of a CSV, the reading of an interval, an interval of
an event for one target, the samples of a board at one moment.
"""


def joined(parts: Iterable[Tables]) -> Tables:
    """The rows of all parts of a file, in their order."""
    tables: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for part in parts:
        for table, rows in part.items():
            tables[table].append(rows)
    return {table: pl.concat(rows, how="diagonal") for table, rows in tables.items()}


@dataclass(frozen=True)
class Context:
    """What a connector may know besides the bytes."""

    cluster_time_zones: Mapping[str, str]
    """Slurm cluster -> IANA time zone of its accounting."""
    mappings: Mappings = field(default_factory=Mappings)
    """What the site's own files and metrics mean."""


class UnreadableFile(ValueError):  # noqa: N818 - a file that cannot be read, not a fault of ours
    """A file that cannot be read as a whole: what was found, what was expected, how to mend it."""
