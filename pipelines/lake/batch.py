"""Files read together: their rows validated, split and written table by table.

What belongs here: one batch from files to Parquet, and the UTC dates its rows make stale. What does
not: which files are new, and the order of batches (`loading.py`).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl
from hostlist import BadHostlist, expand_hostlist

from pipelines.book import Book
from pipelines.connectors.common import REJECT_REASON
from pipelines.connectors.reading import Part
from pipelines.lake.files import write_parquet
from pipelines.lake.holdings import NOTHING_WRITTEN, write_rows
from pipelines.lake.landing import LandedFile, rows_of
from pipelines.lake.quarantine import (
    Declared,
    merged_names,
    quarantine_rows,
    split,
    undeclared_names,
)
from pipelines.lake.records import (
    IN_BOOK,
    LoadRecord,
    read_load_records,
    record_frame,
    withdrawn_loads,
)
from pipelines.lake.schemas import RAW_TABLES, RawTable

DAILY_TABLES = frozenset({"gpu_samples", "node_power_samples"})
"""Tables that grow with GPUs: one folder per UTC date, so that a day's roll-up reads a day."""

LONGEST_SPAN_DAYS = 3660
"""What ends later still, such as an event until the year 9999, touches the dates up to here."""

MOST_NODES = 5_000_000
"""Nodes that the jobs of one file may name in all, and the different lists of a batch."""

_OF_REGISTERS = ("meter_readings", "register_reads")

_TOO_MANY = f"with the others of its file more than {MOST_NODES} nodes"
_UTC = pl.Datetime("us", "UTC")

JOB_NODES_SCHEMA: dict[str, pl.DataType] = {
    "cluster": pl.String(),
    "job_id": pl.String(),
    "submitted_at": _UTC,
    "hostname": pl.String(),
    "known_at": _UTC,
    "source_row": pl.Int64(),
    "load_id": pl.String(),
}


class Batch:
    """Files read together, or one with many rows, which are validated and written by table."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.files: dict[str, LandedFile] = {}
        self.row_count = 0
        """Of what is not written."""
        self.part_count = 0
        """How often rows were written."""
        self._read: list[tuple[LandedFile, Part]] = []
        self._row_counts: Counter[tuple[str, str]] = Counter()
        self._touched: list[pl.DataFrame] = []
        self._bad: list[pl.DataFrame] = []
        self._left_out: list[pl.DataFrame] = []
        self._undeclared: list[pl.DataFrame] = []
        self._written: list[pl.DataFrame] = []

    def add(self, landed: LandedFile, part: Part) -> None:
        """Take in what was read of a file, or a part of it."""
        self.files[landed.load_id] = landed
        self._read.append((landed, part))
        self.row_count += sum(len(frame) for frame in part[1].values())

    def join(self, other: "Batch") -> None:
        """Take in the files of another batch, of which nothing is written."""
        for landed, part in other._read:
            self.add(landed, part)

    def write(self, book: Book) -> list[LoadRecord]:
        """Write rows, quarantine and, last, the load records; the records."""
        if not self.files:
            return []
        self.write_rows(book)
        if self._undeclared:
            undeclared = merged_names(pl.concat(self._undeclared))
            self._written.append(_write_table(book, "undeclared_names", undeclared, self._name))
        records = self._records()
        write_parquet(record_frame(records), book.lake / "loads" / f"{self._name}.parquet")
        return records

    def take_back(self, book: Book) -> None:
        """Remove the rows that were written: a file is in the lake as a whole or not at all."""
        for files in self._written:
            for file in files["file"].unique():
                book.file(file).unlink()

    @property
    def _name(self) -> str:
        return hashlib.sha256("".join(sorted(self.files)).encode()).hexdigest()[:16]

    def write_rows(self, book: Book) -> None:
        """Write what was taken in; without load records it is not in the book yet."""
        name = f"{self._name}_{self.part_count:04}" if self.part_count else self._name
        self.part_count += 1
        self.row_count = 0
        loaded = pl.DataFrame(
            [(landed.load_id, landed.loaded_at) for landed in self.files.values()],
            schema={"load_id": pl.String, "first_loaded_at": _UTC},
            orient="row",
        )
        tables = rows_of(self._read, self._row_counts)
        # What was read stands in the tables now, and each of them is large.
        self._read = []
        files = self._written
        for table in [*tables]:
            every = tables.pop(table)
            good, bad, left_out = split(every, RAW_TABLES[table], self.declared, loaded)
            unknown = undeclared_names(every, RAW_TABLES[table], self.declared)
            self._undeclared.append(unknown)
            if table == "jobs":
                nodes, bad_nodes = _expand_nodes(good)
                good = good.join(bad_nodes, on=["load_id", "source_row"], how="anti")
                bad = pl.concat([bad, bad_nodes.select(bad.columns)])
                files.append(_write_table(book, "job_nodes", nodes, name))
            self._touched.append(_touched(book, good, RAW_TABLES[table]))
            # Their finding is made by a build of their days.
            self._touched.append(
                _dates_of(
                    unknown.lazy().select(
                        "load_id", row_count=0, start="started_at", end="ended_at"
                    ),
                    table,
                )
            )
            files.append(_write_table(book, table, good, name))
            if not bad.is_empty():
                files.append(write_rows(book, bad, f"quarantine/{table}/{name}.parquet"))
            self._bad.append(_counted(bad, table))
            self._left_out.append(_counted(left_out, table))

    def _records(self) -> list[LoadRecord]:
        held = pl.concat(self._written).rows_by_key("load_id", named=True) if self._written else {}
        touched = (
            pl.concat(self._touched)
            .group_by("load_id")
            .agg(
                pl.col("row_count").sum(),
                pl.col("table").unique().sort(),
                pl.col("touched_dates").explode().drop_nulls().unique().sort(),
            )
            .rows_by_key("load_id", named=True, unique=True)
            if self._touched
            else {}
        )
        refused, left_out = _per_load(self._bad), _per_load(self._left_out)
        batch = self._name
        records = []
        for landed in self.files.values():
            good, bad = touched.get(landed.load_id), refused.get(landed.load_id)
            other = left_out.get(landed.load_id)
            records.append(
                LoadRecord(
                    load_id=landed.load_id,
                    sha256=landed.sha256,
                    source_file=landed.source_file,
                    format=landed.format,
                    status="partial" if bad else "loaded",
                    row_count=good["row_count"] if good else 0,
                    quarantined_row_count=bad["row_count"] if bad else 0,
                    left_out_row_count=other["row_count"] if other else 0,
                    reason=bad["reason"] if bad else None,
                    left_out_reason=other["reason"] if other else None,
                    known_at=landed.known_at,
                    loaded_at=landed.loaded_at,
                    load_number=landed.load_number,
                    tables=sorted(
                        {table for found in (good, bad, other) if found for table in found["table"]}
                    ),
                    touched_dates=good["touched_dates"] if good else [],
                    reference_digest=self.declared.read_by(landed.source_file),
                    file_bytes=landed.file_bytes,
                    batch=batch,
                    data_files=held.get(landed.load_id, []),
                    withdrawn_at=[],
                )
            )
        return records


def _counted(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Per load the rows that were not kept: their count, the first reason and marks of them all.

    The reasons themselves may be as many as rows, and long.
    """
    return rows.group_by("load_id", maintain_order=True).agg(
        row_count=pl.len(),
        table=pl.lit(table),
        reason=pl.col("reason").first(),
        marks=pl.col("reason").hash().unique(),
    )


def _per_load(counted: list[pl.DataFrame]) -> dict[str, dict[str, Any]]:
    """Per load the rows that were not kept: their count, their tables and the first reason."""
    if not counted:
        return {}
    more = pl.col("marks").explode().n_unique() - 1
    return (
        pl.concat(counted)
        .group_by("load_id", maintain_order=True)
        .agg(
            pl.col("row_count").sum(),
            pl.col("table").unique().sort(),
            pl.when(more > 0)
            .then(pl.format("{} (and {} more reasons)", pl.col("reason").first(), more))
            .otherwise(pl.col("reason").first())
            .alias("reason"),
        )
        .rows_by_key("load_id", named=True, unique=True)
    )


def _expand_nodes(jobs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per job and node, and quarantine rows of jobs whose node list cannot be read."""
    lists = jobs.select("node_list").drop_nulls().unique().filter(pl.col("node_list") != "")
    expanded: dict[str, list[list[str] | str | None]] = {"node_list": [], "hostname": [], "why": []}
    node_count = 0
    for node_list in lists["node_list"].sort():
        try:
            hosts, why = expand_hostlist(node_list), None
            node_count += len(hosts)
            if node_count > MOST_NODES:
                hosts, why = None, _TOO_MANY
        except BadHostlist as error:
            hosts, why = None, str(error)
        expanded["node_list"].append(node_list)
        expanded["hostname"].append(hosts)
        expanded["why"].append(why)
    hosts_of = pl.DataFrame(
        expanded,
        schema={"node_list": pl.String, "hostname": pl.List(pl.String), "why": pl.String},
    )
    counted = jobs.join(
        hosts_of.select("node_list", "why", node_count=pl.col("hostname").list.len()),
        on="node_list",
        suffix="_named",
    )
    in_file = pl.col("node_count_named").sum().over("load_id")
    counted = counted.with_columns(
        why=pl.coalesce("why", pl.when(in_file > MOST_NODES).then(pl.lit(_TOO_MANY)))
    )
    bad = counted.filter(pl.col("why").is_not_null()).with_columns(
        pl.format(
            "node_list: found {} ({}), expected a Slurm host list such as node[001-004]",
            pl.col("node_list").str.slice(0, 60),
            "why",
        ).alias(REJECT_REASON)
    )
    nodes = counted.filter(pl.col("why").is_null()).join(
        hosts_of.select("node_list", "hostname"), on="node_list"
    )
    return (
        nodes.select(*JOB_NODES_SCHEMA).explode("hostname"),
        quarantine_rows(bad.drop("node_count_named", "why")),
    )


def _write_table(book: Book, table: str, rows: pl.DataFrame, batch: str) -> pl.DataFrame:
    """Write the rows of a table; per load the files that hold some of them."""
    folder = f"lake/{table}"
    if rows.is_empty():
        return NOTHING_WRITTEN
    if table not in DAILY_TABLES:
        return write_rows(book, rows, f"{folder}/{batch}.parquet")
    date = rows["sampled_at"].dt.date()
    return pl.concat(
        write_rows(
            book,
            _in_order(rows.filter(date == day), RAW_TABLES[table].key),
            f"{folder}/{day}/{batch}.parquet",
        )
        for day in date.unique().sort()
    )


def _in_order(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Rows sorted by their key: a roll-up then reads each board's samples one after another."""
    is_sorted = rows.select(pl.struct(*key)).to_series().is_sorted()
    return rows if is_sorted else rows.sort(*key, maintain_order=True)


def _touched(book: Book, rows: pl.DataFrame, table: RawTable) -> pl.DataFrame:
    """Per load: count of rows and the UTC dates that become stale by any of them.

    Those are the dates of the row itself and, where its key says nothing of its time, those of the
    versions of it that the lake holds already: an event that was moved leaves its former days, too.
    What has no end yet holds up to the last date of the book. Readings between two reads of the
    meter's register are judged together, so that one of them touches the dates of them all.
    """
    if table.name == "grid_event_listings":
        return _unlisted(book, rows)
    if table.name == "jobs":
        return _dates_of(_held_anew(book, rows, table), table.name)
    start, end = pl.col("start"), pl.col("end")
    span = {"start": table.span[0], "end": table.span[1]}
    spans = rows.lazy().select("load_id", row_count=1, **span)
    if table.span[0] not in table.key:
        versions = _rows_of(book, table.name).select(*table.key, **span)
        revised = (
            rows.lazy()
            .select("load_id", *table.key, row_count=0)
            .unique()
            .join(versions, on=table.key, nulls_equal=True)
            .select("load_id", "row_count", *span)
            .unique()
        )
        spans = pl.concat([spans, revised]).with_columns(
            end=pl.when(start.is_null()).then(end).otherwise(end.fill_null(_end_of_book(book)))
        )
    if table.name in _OF_REGISTERS:
        spans = pl.concat([spans, _between_reads(book, rows, table)])
    return _dates_of(spans, table.name)


def _held_anew(book: Book, rows: pl.DataFrame, table: RawTable) -> pl.LazyFrame:
    """Per load the times in which its rows say of jobs what the lake does not say yet.

    A job still told as it was is touched from where it was seen last to where it is seen now; any
    other wherever it, and each version of it that the lake holds, held its nodes. It can be told
    as it was only where it ran without a pause: a pause is spread over all its time.
    """
    told = ("started_at", "partition", "qos", "account", "node_count", "node_list", "gpu_count")
    start, end, elapsed_s = pl.col("started_at"), pl.col("ended_at"), pl.col("elapsed_s")
    seen = start + pl.duration(seconds=elapsed_s + pl.col("suspended_s").fill_null(0))
    job = [
        *(pl.col(name) for name in (*table.key, *told)),
        pl.coalesce(end, seen, start).alias("held_until_at"),
        (
            (pl.coalesce(end, seen) == start + pl.duration(seconds=elapsed_s))
            & (pl.col("suspended_s").fill_null(0) == 0)
        )
        .fill_null(value=False)
        .alias("is_unbroken"),
        # Where a listing shows no GPUs, it depends on the rest of it what that means.
        pl.col("gpu_count").is_not_null().any().over("cluster", "load_id").alias("has_gpus"),
    ]
    submitted = rows["submitted_at"]
    among = pl.col("submitted_at").is_between(submitted.min(), submitted.max())
    out = withdrawn_loads(read_load_records(book))
    listed = rows.lazy().select("load_id", *job)
    held = (
        _rows_of(book, table.name)
        .filter(among.fill_null(value=submitted.has_nulls()), ~pl.col("load_id").is_in(out))
        .select("load_id", "loaded_at", "known_at", "load_number", "source_row", end, *job)
    )
    held = (
        listed.select("load_id", *table.key)
        .unique()
        .join(held, on=table.key, nulls_equal=True, suffix="_held")
        .filter(pl.col("load_id") != pl.col("load_id_held"))
        .collect()
        .lazy()
    )
    # The version that counts, as the warehouse chooses it.
    counts = held.sort(
        pl.col("ended_at").is_not_null(),
        "held_until_at",
        pl.coalesce("loaded_at", "known_at"),
        "load_number",
        "source_row",
        nulls_last=False,
    ).unique(["load_id", *table.key], keep="last", maintain_order=True)
    compared = listed.join(
        counts.drop("ended_at", "loaded_at", "known_at", "load_number", "source_row"),
        on=["load_id", *table.key],
        how="left",
        nulls_equal=True,
        suffix="_counted",
    )
    is_as_told = pl.all_horizontal(
        "is_unbroken",
        pl.col("is_unbroken_counted").fill_null(value=False),
        *(pl.col(name).eq_missing(pl.col(f"{name}_counted")) for name in (*told, "has_gpus")),
    )
    until, counted_until = pl.col("held_until_at"), pl.col("held_until_at_counted")
    compared = compared.with_columns(is_as_told=is_as_told)
    return pl.concat(
        [
            compared.select(
                "load_id",
                row_count=pl.lit(1, pl.Int32),
                start=pl.when("is_as_told")
                .then(pl.min_horizontal(until, counted_until))
                .otherwise(start),
                end=pl.when("is_as_told")
                .then(pl.max_horizontal(until, counted_until))
                .otherwise(until),
            ),
            compared.filter(~pl.col("is_as_told"))
            .select("load_id", *table.key)
            .unique()
            .join(held, on=["load_id", *table.key], nulls_equal=True)
            .select("load_id", row_count=pl.lit(0, pl.Int32), start=start, end=until),
        ]
    )


def _between_reads(book: Book, rows: pl.DataFrame, table: RawTable) -> pl.LazyFrame:
    """Per load from the register read before its rows to the one after them, where both are there.

    A read is the end of one span and the start of the next.
    """
    meter = ["meter_id", "flow"]
    held = _rows_of(book, "register_reads").collect()
    out = withdrawn_loads(read_load_records(book)) if len(held) else []
    reads = held.lazy().filter(~pl.col("load_id").is_in(out)).select(*meter, "read_at")
    start, end = (pl.col(name) for name in table.span)
    if table.name == "register_reads":
        reads = pl.concat([reads, rows.lazy().select(*meter, "read_at")])
        start, end = start.dt.offset_by("-1us"), end.dt.offset_by("1us")
    reads = reads.unique().sort("read_at")
    read_at = pl.col("read_at")
    has_next = read_at.shift(-1).over(meter, order_by="read_at").is_not_null()
    has_previous = read_at.shift(1).over(meter, order_by="read_at").is_not_null()
    before = reads.select(*meter, before="read_at", is_closed=has_next)
    after = reads.select(*meter, after="read_at", is_opened=has_previous)
    return (
        rows.lazy()
        .group_by("load_id", *meter, date=start.dt.date())
        .agg(start=start.min(), end=end.max())
        .sort("start")
        .join_asof(before, left_on="start", right_on="before", by=meter, check_sortedness=False)
        .sort("end")
        .join_asof(
            after,
            left_on="end",
            right_on="after",
            by=meter,
            strategy="forward",
            check_sortedness=False,
        )
        .filter(pl.any_horizontal("is_closed", "is_opened"))
        .select(
            "load_id",
            row_count=pl.lit(0, pl.Int32),
            start=pl.when("is_closed").then("before").otherwise("start"),
            end=pl.when("is_opened").then("after").otherwise("end"),
        )
    )


def _dates_of(spans: pl.LazyFrame, table: str) -> pl.DataFrame:
    """Per load the count of rows and the UTC dates from `start` to `end` of any of them."""
    start, end = pl.col("start"), pl.col("end")
    # The end is exclusive where it is not the start itself, so an interval up to midnight stays
    # within its day.
    final = pl.max_horizontal(start, end - pl.duration(microseconds=1))
    final = pl.min_horizontal(final, start.fill_null(end) + pl.duration(days=LONGEST_SPAN_DAYS))
    return (
        spans.select(
            "load_id",
            "row_count",
            first=pl.coalesce(start, end).dt.date(),
            last=pl.coalesce(final, start).dt.date(),
        )
        .group_by("load_id", "first", "last")
        .agg(pl.col("row_count").sum())
        .with_columns(touched_dates=pl.date_ranges("first", "last"))
        .group_by("load_id")
        .agg(
            pl.col("row_count").sum(),
            pl.col("touched_dates").explode().unique(),
        )
        .with_columns(table=pl.lit(table))
        .collect()
    )


def _unlisted(book: Book, listings: pl.DataFrame) -> pl.DataFrame:
    """Per load the UTC dates of the events that a listing no longer has.

    Those are events that the program's listing before still had, or that came since; what that one
    had not is gone already.
    """
    table = RAW_TABLES["grid_events"]
    events, earlier = (
        _rows_of(book, name).collect() for name in (table.name, "grid_event_listings")
    )
    event_id, number = pl.col("whole_event_id"), pl.col("load_number")
    found = [
        listings.group_by("load_id").agg(
            row_count=pl.len().cast(pl.Int32),
            touched_dates=pl.lit([], pl.List(pl.Date)),
            table=pl.lit("grid_event_listings"),
        )
    ]
    for load_id, program_id, load_number in (
        listings.select("load_id", "program_id", "load_number").unique().iter_rows()
    ):
        listed = events.filter(load_id=load_id)["whole_event_id"]
        gone = events.filter(event_id.is_in(listed.implode()).not_(), program_id=program_id)
        before = earlier.filter(number < load_number, program_id=program_id).sort(number).tail(1)
        if len(before):
            had = events.filter(load_id=before["load_id"].item())["whole_event_id"]
            came_since = number > before["load_number"].item()
            gone = gone.filter(event_id.is_in(had.implode()) | came_since)
        dates = _touched(book, gone.with_columns(load_id=pl.lit(load_id)), table)
        found.append(dates.with_columns(row_count=pl.lit(0, pl.Int32)).select(found[0].columns))
    return pl.concat(found)


def stale_dates(book: Book, load_ids: Sequence[str]) -> pl.DataFrame:
    """Per load the dates that become stale where other versions of its rows count instead.

    Those of its own rows stand in its record; where a key says nothing of its time, or rows are
    judged with others, the others' need not. load_id, stale_dates.
    """
    found = [pl.DataFrame(schema={"load_id": pl.String, "stale_dates": pl.List(pl.Date)})]
    for table in RAW_TABLES.values():
        if table.span[0] not in table.key or table.name in _OF_REGISTERS:
            files = _rows_of(book, table.name)
            rows = files.filter(pl.col("load_id").is_in(load_ids)).collect()
            touched = _touched(book, rows, table)
            found.append(touched.select("load_id", stale_dates="touched_dates"))
    return pl.concat(found).group_by("load_id").agg(pl.col("stale_dates").explode().unique().sort())


def _rows_of(book: Book, table: str) -> pl.LazyFrame:
    """What the lake holds of a table that does not lie in folders by day."""
    return pl.scan_parquet(str(book.lake / table / "*.parquet"))


def _end_of_book(book: Book) -> pl.Expr:
    """The instant up to which loads in the book say anything, null before the first."""
    records = read_load_records(book).filter(pl.col("status").is_in(IN_BOOK))
    dates = records.select(pl.col("touched_dates").explode().max())
    return pl.lit(dates.item(), pl.Date).dt.offset_by("1d").cast(_UTC)
