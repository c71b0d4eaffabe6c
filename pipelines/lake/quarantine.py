"""Which raw rows are right, and why the others are not kept, in words.

What belongs here: checking rows against `schemas.py`, against the names that the reference data
declares and the times a book can know of, the shape of refused rows, and counting them. What does
not: writing either (`batch.py`), and values that only a connector can judge
(`pipelines/connectors`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from pydantic import TypeAdapter

from pipelines.book import Book
from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON, Context
from pipelines.connectors.mappings import Mappings, MetricMapping, ReadingsMapping
from pipelines.lake.files import listing
from pipelines.lake.records import read_load_records, withdrawn_loads
from pipelines.lake.schemas import PROVENANCE_COLUMNS, RawTable, reaches

EVER = datetime(1970, 1, 2, tzinfo=UTC)
"""Reference data without a date holds since the day before, wherever it is."""

QUARANTINE_SCHEMA: dict[str, pl.DataType] = {
    "source_file": pl.String(),
    "source_row": pl.Int64(),
    "load_id": pl.String(),
    "reason": pl.String(),
    "row": pl.String(),
}

METRIC_FORMATS = ("prometheus", "dcgm_scrape", "kepler")
"""Landing folders of files that hold metrics, which may be a site's own."""

LEAVING_OUT_UNDECLARED = (*METRIC_FORMATS, "openadr")
"""Landing folders of files of which is left out what may be declared later."""

UNDECLARED_SCHEMA: dict[str, pl.DataType] = {
    "source_table": pl.String(),
    "name": pl.String(),
    "flow": pl.String(),
    "started_at": pl.Datetime("us", "UTC"),
    "ended_at": pl.Datetime("us", "UTC"),
    "row_count": pl.Int64(),
    "known_at": pl.Datetime("us", "UTC"),
    "source_file": pl.String(),
    "load_id": pl.String(),
}
"""A name that no reference data declares, and what a file tells of it: the rows are refused."""


@dataclass(frozen=True)
class Declared:
    """What the reference data declares, as far as loading asks for it."""

    digest: str
    context: Context
    names: dict[str, tuple[tuple[str, ...], pl.DataFrame, str]]
    """Raw table -> (its columns, the declared values, where to declare one that is missing)."""
    first_day: datetime
    """Since when terms of a site hold: nothing older says anything about it."""
    kept_days: int | None
    """How long landing keeps files; None where what goes was deleted by hand."""

    @classmethod
    def read(cls, book: Book) -> "Declared":
        """From the reference tables in the lake."""
        folder = book.lake / "reference"
        tables = {
            name.removesuffix(".parquet"): pl.read_parquet(str(folder / name))
            for name in listing(folder)
        }
        clusters = tables["clusters"]
        hosts = tables["nodes"].select("hostname").unique()
        in_sites = "hostnames of node_groups of a file in reference/sites"
        names = {
            "meter_readings": (
                ("meter_id", "flow"),
                tables["meters"].select("meter_id", "flow").unique(),
                "reference/meters.yml",
            ),
            "battery_samples": (
                ("battery_id",),
                tables["batteries"].select("battery_id").unique(),
                "batteries of a file in reference/sites",
            ),
            "gpu_samples": (("hostname",), hosts, in_sites),
            "node_power_samples": (("hostname",), hosts, in_sites),
            "jobs": (
                ("cluster",),
                clusters.select("cluster").unique(),
                "clusters of a file in reference/sites",
            ),
            "grid_events": (
                ("target",),
                tables["sites"].select(target="grid_event_target").drop_nulls().unique(),
                "grid_event_target of a file in reference/sites",
            ),
            "invoices": (
                ("contract_id",),
                tables["contracts"].select("contract_id").unique(),
                "reference/contracts",
            ),
        }
        # Sites without terms that begin somewhere hold since ever.
        since = tables["sites"]["valid_from_at"]
        first_day = since.filter(since > EVER).min()
        assert first_day is None or isinstance(first_day, datetime)
        digest = hashlib.sha256(str(first_day).encode())
        mapped = tables["mappings"]
        for frame in (clusters, mapped, *(declared for _, declared, _ in names.values())):
            digest.update(frame.sort(pl.all()).write_csv().encode())
        return cls(
            digest=digest.hexdigest()[:16],
            context=Context(
                dict(clusters.select("cluster", "time_zone").iter_rows()), _mappings(mapped)
            ),
            names=names,
            first_day=first_day or EVER,
            kept_days=tables["organization"]["landing_kept_days"].item(),
        )

    def read_by(self, source_file: str) -> str:
        """What a file in landing is read by, as its record keeps it: see `is_read_alike`."""
        marks = ".".join(sorted(self._marks(source_file)))
        return f"{self.digest}.{marks}" if marks else self.digest

    def is_read_alike(self, source_file: str, read_by: str) -> bool:
        """Whether a file is read by the mappings it was read by, of which none went or changed.

        One that came since is of names that the file did not have, or that were left out of it.
        """
        return self._marks(source_file).issuperset(read_by.split(".")[1:])

    def _marks(self, source_file: str) -> set[str]:
        format_name, _, file_name = source_file.partition("/")
        mappings = self.context.mappings
        if format_name == "readings_csv":
            return {_mark(mappings.readings_of(file_name))}
        if format_name in METRIC_FORMATS:
            return {_mark(metric) for metric in mappings.metrics}
        return set()


def _mark(mapping: object) -> str:
    return hashlib.sha256(repr(mapping).encode()).hexdigest()[:8]


def _mappings(declared: pl.DataFrame) -> Mappings:
    sections = {
        section: f"[{','.join(declared.filter(section=section)['declaration'])}]"
        for section in ("readings_csv", "metrics")
    }
    return Mappings(
        TypeAdapter(list[ReadingsMapping]).validate_json(sections["readings_csv"]),
        TypeAdapter(list[MetricMapping]).validate_json(sections["metrics"]),
    )


def split(
    frame: pl.DataFrame, table: RawTable, declared: Declared, loaded: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Good rows in the table's schema, quarantine rows and rows left out, each with its reason.

    `loaded` says of each load when its file was first loaded: load_id, first_loaded_at.
    """
    frame = _reject_undeclared(frame, table.name, declared)
    frame = _reject_out_of_reach(frame, table, declared, loaded)
    is_left_out = frame[LEFT_OUT_REASON].is_not_null()
    left_out = frame.filter(is_left_out).select("load_id", reason=LEFT_OUT_REASON)
    frame = frame.drop(LEFT_OUT_REASON)
    is_refused = frame[REJECT_REASON].is_not_null() & ~is_left_out
    refused = frame.filter(is_refused)
    if len(left_out) or len(refused):
        frame = frame.filter(~(is_left_out | is_refused))
    good, failure = table.schema.filter(frame.drop(REJECT_REASON))
    if len(failure):
        details = failure.details()
        rules = [name for name in details.columns if name not in frame.columns]
        broken = details.with_columns(
            pl.concat_str(
                [
                    pl.when(pl.col(rule) == "invalid").then(_explanation(rule, table))
                    for rule in rules
                ],
                separator="; ",
                ignore_nulls=True,
            ).alias(REJECT_REASON)
        ).select(refused.columns)
        refused = pl.concat([refused, broken])
    return good, quarantine_rows(refused), left_out


def _explanation(rule: str, table: RawTable) -> pl.Expr:
    """What a broken rule of a schema means, in words, with the value found."""
    name, _, check = rule.partition("|")
    column = table.schema.columns().get(name)
    if column is None:
        return pl.lit(f"found a row against the rule {rule.replace('_', ' ')!r}")
    found = pl.col(name).cast(pl.String).fill_null("nothing")
    in_words = {
        "nullability": "a value",
        "nan": "a number",
        "inf": "a finite number",
        "min": f"at least {getattr(column, 'min', None) or 0:g}",
        "max": f"at most {getattr(column, 'max', None) or 0:g}",
    }
    expected = in_words.get(check, f"a value within its {check}")
    return pl.format(f"{name}: found {{}}, expected {expected}", found)


def _reject_out_of_reach(
    frame: pl.DataFrame, table: RawTable, declared: Declared, loaded: pl.DataFrame
) -> pl.DataFrame:
    """Rows of a time before the book or long after their loading, with what they are rows of."""
    reasons = []
    may_be_out = []
    first_load = pl.lit(loaded["first_loaded_at"].min())
    for name, reach in reaches(table).items():
        found = pl.col(name).cast(pl.Datetime("us", "UTC"))
        if reach.before is not None:
            first = declared.first_day - min(reach.before, declared.first_day - EVER)
            too_early = pl.format("expected {} or later", _shown(pl.lit(first)))
            reasons.append(_out_of_reach(name, found < first, too_early, table))
            may_be_out.append(found.min() < first)
        if reach.after is not None:
            last = pl.col("first_loaded_at") + reach.after
            days = f"{reach.after.days} days" if reach.after.days > 1 else "a day"
            too_late = pl.format(f"expected at most {{}}, {days} after loading", _shown(last))
            reasons.append(_out_of_reach(name, found > last, too_late, table))
            may_be_out.append(found.max() > first_load + reach.after)
    if not frame.select(pl.any_horizontal(may_be_out)).item():
        return frame
    is_in_order = pl.col(REJECT_REASON).is_null() & pl.col(LEFT_OUT_REASON).is_null()
    return (
        frame.join(loaded, on="load_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(is_in_order)
            .then(pl.coalesce(*reasons))
            .otherwise(REJECT_REASON)
            .alias(REJECT_REASON)
        )
        .drop("first_loaded_at")
    )


def _out_of_reach(name: str, is_out: pl.Expr, expected: pl.Expr, table: RawTable) -> pl.Expr:
    times = reaches(table)
    names = [key for key in table.key if key not in times]
    of_what = pl.concat_str(
        *(pl.format(f"{key} {{}}", pl.col(key).cast(pl.String).fill_null("-")) for key in names),
        separator=", ",
    )
    mend = "correct the date or the clock it comes from, and send the file again"
    told = pl.format(
        f"{{}}: {name}: found {{}}, {{}}: {mend}", of_what, _shown(pl.col(name)), expected
    )
    return pl.when(is_out.fill_null(value=False)).then(told)


def _shown(time: pl.Expr) -> pl.Expr:
    return time.cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def _reject_undeclared(frame: pl.DataFrame, table: str, declared: Declared) -> pl.DataFrame:
    if table not in declared.names:
        return frame
    columns, names, where = declared.names[table]
    if _undeclared(frame, columns, names).is_empty():
        return frame
    text = ", ".join(f"{column} {{}}" for column in columns)
    is_undeclared = pl.col("_declared").is_null()
    reason = pl.format(f"{text} is not declared: add it to {where} and load again", *columns)
    reasons = {REJECT_REASON: pl.when(is_undeclared).then(reason)}
    if table == "grid_events":
        # An event that is for others too is in order; one for others alone may miss a declaration.
        has_site = (~is_undeclared).any().over("load_id", "whole_event_id")
        other = pl.format("target {} of an event that is for a site too", "target")
        is_other = is_undeclared & has_site & pl.col("whole_event_id").is_not_null()
        reasons = {
            LEFT_OUT_REASON: pl.when(is_other).then(other),
            REJECT_REASON: pl.when(is_undeclared & ~is_other).then(reason),
        }
    return (
        frame.join(names.with_columns(_declared=True), on=columns, how="left")
        .with_columns(pl.coalesce(column, told).alias(column) for column, told in reasons.items())
        .drop("_declared")
    )


def _undeclared(frame: pl.DataFrame, columns: Sequence[str], names: pl.DataFrame) -> pl.DataFrame:
    return frame.select(columns).unique().join(names, on=columns, how="anti")


def undeclared_names(frame: pl.DataFrame, table: RawTable, declared: Declared) -> pl.DataFrame:
    """One row per file and name that is not declared, in columns of `UNDECLARED_SCHEMA`.

    A target of a grid event that is not declared is in most cases another's.
    """
    if table.name not in declared.names or table.name == "grid_events":
        return pl.DataFrame(schema=UNDECLARED_SCHEMA)
    columns, names, _ = declared.names[table.name]
    if _undeclared(frame, columns, names).is_empty():
        return pl.DataFrame(schema=UNDECLARED_SCHEMA)
    flow = pl.col("flow") if "flow" in columns else pl.lit(None, pl.String)
    start, end = (pl.col(name).cast(pl.Datetime("us", "UTC")) for name in table.span)
    return (
        frame.filter(pl.col(REJECT_REASON).is_null() & pl.col(LEFT_OUT_REASON).is_null())
        .join(names, on=columns, how="anti")
        .group_by("load_id", name=pl.col(columns[0]), flow=flow)
        .agg(
            started_at=pl.coalesce(start, end).min(),
            ended_at=pl.coalesce(end, start).max(),
            row_count=pl.len().cast(pl.Int64),
            known_at=pl.col("known_at").min(),
            source_file=pl.col("source_file").min(),
        )
        .with_columns(source_table=pl.lit(table.name))
        .select(pl.col(name).cast(kind) for name, kind in UNDECLARED_SCHEMA.items())
    )


def merged_names(names: pl.DataFrame) -> pl.DataFrame:
    """One row per file and name from one per part of a file and name."""
    return (
        names.group_by("source_table", "name", "flow", "load_id", maintain_order=True)
        .agg(
            pl.col("started_at").min(),
            pl.col("ended_at").max(),
            pl.col("row_count").sum(),
            pl.col("known_at", "source_file").min(),
        )
        .select(names.columns)
    )


def quarantine_rows(refused: pl.DataFrame) -> pl.DataFrame:
    """Refused rows in columns of `QUARANTINE_SCHEMA`, their payload as JSON."""
    payload = [name for name in refused.columns if name not in (*PROVENANCE_COLUMNS, REJECT_REASON)]
    return refused.select(
        "source_file",
        "source_row",
        "load_id",
        pl.col(REJECT_REASON).alias("reason"),
        pl.struct(pl.col(payload).cast(pl.String)).struct.json_encode().alias("row"),
    )


def quarantined(book: Book, table: str) -> pl.DataFrame:
    """One row per file and reason: source_file, reason, row_count; the most frequent first."""
    files = sorted((book.quarantine / table).glob("*.parquet"))
    rows = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *map(pl.read_parquet, files)])
    return (
        rows.filter(~pl.col("load_id").is_in(withdrawn_loads(read_load_records(book))))
        .group_by("source_file", "reason")
        .agg(row_count=pl.len())
        .sort("row_count", "source_file", "reason", descending=[True, False, False])
    )
