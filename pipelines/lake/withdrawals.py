"""Files whose rows are out of the book: deleted from landing, or withdrawn by name.

What belongs here: telling a file that was deleted from one that is only not there to be seen, and
changing the load records. What does not: leaving the rows out, which the views of the lake and the
roll-up do (`dbt_project/macros/raw_views.sql`, `rollup.py`).

The rows stay in the lake, for the book as it was known before: a load record keeps the instants
from which its file was out and, in turn, in again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from pipelines.book import Book
from pipelines.lake.batch import stale_dates
from pipelines.lake.files import LakeError, lock, write_parquet
from pipelines.lake.landing import Landing
from pipelines.lake.records import FAILED, IN_BOOK, LOAD_RECORD_SCHEMA, read_load_records

DELETED = "deleted"
WITHDRAWN = "withdrawn"
_STATUS_IN_BOOK = (
    pl.when(pl.col("quarantined_row_count") > 0).then(pl.lit("partial")).otherwise(pl.lit("loaded"))
)


def withdraw(
    book: Book, files: Sequence[str], *, is_back: bool = False, now: datetime | None = None
) -> pl.DataFrame:
    """Take files out of the book from the next build on, or bring withdrawn ones back.

    A file is named as in `raw_loads`: by its path below landing, or by its load id where several
    loads had that path. The changed load records are returned.

    Raises:
        LakeError: no such load, or more than one; nothing is changed.
    """
    with lock(book):
        records = read_load_records(book).filter(pl.col("batch") != FAILED)
        eligible = records.filter((pl.col("status") == WITHDRAWN) == is_back)
        found = [_named(book, file, eligible) for file in files]
        if causes := [cause for cause in found if isinstance(cause, str)]:
            raise LakeError(causes)
        named = pl.concat([one for one in found if isinstance(one, pl.DataFrame)])
        changed = records.filter(pl.col("load_id").is_in(named["load_id"].implode()))
        status = _STATUS_IN_BOOK if is_back else pl.lit(WITHDRAWN)
        reason = pl.lit(None) if is_back else pl.lit("withdrawn by name")
        after = _change(book, records, changed, status, reason, now or datetime.now(UTC))
    return after.filter(pl.col("load_id").is_in(changed["load_id"].implode()))


def _named(book: Book, file: str, records: pl.DataFrame) -> pl.DataFrame | str:
    """The load that a name means, or why there is not just one."""
    name = file.removeprefix(f"{book.landing}/").removeprefix("landing/")
    found = records.filter((pl.col("source_file") == name) | (pl.col("load_id") == name))
    if len(found) == 1:
        return found
    if found.is_empty():
        return (
            f"{file}: found no such load, expected a path below landing or a load id, as in"
            " raw_loads"
        )
    loads = ", ".join(
        f"{load_id} of {loaded_at:%Y-%m-%d %H:%M}"
        for load_id, loaded_at in found.sort("load_number")
        .select("load_id", "loaded_at")
        .iter_rows()
    )
    return f"{file}: found {len(found)} loads of that path, expected the load id of one: {loads}"


def follow_landing(
    book: Book, records: pl.DataFrame, landing: Landing, kept_days: int | None, now: datetime
) -> tuple[pl.DataFrame, list[str]]:
    """Take out what was deleted from landing, bring back what is there again; all load records.

    A file is deleted where neither its path nor its bytes are in landing any more. Not so where
    they cannot be seen: below what cannot be read, and where a folder (or landing as a whole) that
    held several files is there and empty, as when a disk is not mounted. Nor where landing keeps
    files for a number of days, `kept_days`, that have passed. Beside the records, what is unclear.
    """
    loaded = records.filter(pl.col("batch") != FAILED)
    seen = pl.DataFrame(
        [(file.source_file, file.sha256, file.format) for file in landing.files],
        schema=dict.fromkeys(("source_file", "sha256", "format"), pl.String),
        orient="row",
    )
    is_there = pl.col("sha256").is_in(seen["sha256"].implode())
    back = loaded.filter(pl.col("status") == DELETED, is_there)
    is_path_there = pl.col("source_file").is_in(seen["source_file"].implode())
    is_newest = pl.col("load_number") == pl.col("load_number").max().over("source_file")
    is_past = pl.lit(kept_days is not None) & (
        pl.col("loaded_at") < now - pl.duration(days=kept_days or 0)
    )
    hidden = [
        (pl.col("source_file") + "/").str.starts_with(f"{path}/") for path, _ in landing.refused
    ]
    gone = loaded.filter(
        pl.col("status").is_in(IN_BOOK),
        is_newest,
        ~is_there,
        ~is_path_there,
        ~is_past,
        *(~part for part in hidden),
    )
    is_folder_empty = pl.col("format").is_in(sorted({*landing.folders} - {*seen["format"]}))
    is_emptied = (
        (is_folder_empty & (pl.len().over("format") > 1))
        | (pl.lit(seen.is_empty()) & (pl.len() > 1))
        | pl.lit(not book.landing.is_dir())
    )
    unclear = gone.filter(is_emptied).group_by("format").len().sort("format")
    notes = [
        f"landing/{folder}: found no file, expected the {count} of which the book holds rows: put"
        " them back, or remove the folder too if they were meant to go"
        for folder, count in unclear.iter_rows()
    ]
    deleted = gone.filter(~is_emptied)
    records = _change(book, records, deleted, pl.lit(DELETED), pl.lit("deleted from landing"), now)
    return _change(book, records, back, _STATUS_IN_BOOK, pl.lit(None), now), notes


def _change(
    book: Book,
    records: pl.DataFrame,
    changed: pl.DataFrame,
    status: pl.Expr,
    reason: pl.Expr,
    now: datetime,
) -> pl.DataFrame:
    """Write the records with those changed; all records as they are then."""
    if changed.is_empty():
        return records
    load_ids = changed["load_id"].to_list()
    is_changed = pl.col("load_id").is_in(load_ids) & (pl.col("batch") != FAILED)
    values = {
        "status": status,
        "reason": reason,
        "withdrawn_at": pl.concat_list("withdrawn_at", pl.lit(now)),
        "touched_dates": pl.col("touched_dates").list.set_union("stale_dates").list.sort(),
    }
    records = (
        records.join(stale_dates(book, load_ids), on="load_id", how="left", maintain_order="left")
        .with_columns(pl.col("stale_dates").fill_null([]))
        .with_columns(
            pl.when(is_changed).then(value).otherwise(name).alias(name)
            for name, value in values.items()
        )
        .select(*LOAD_RECORD_SCHEMA)
    )
    for batch in changed["batch"].unique().sort():
        write_parquet(records.filter(batch=batch), book.lake / "loads" / f"{batch}.parquet")
    return records
