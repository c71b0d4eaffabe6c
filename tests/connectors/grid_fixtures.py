"""What the connector tests of meters, markets and grid events share."""

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON, Context
from pipelines.lake.schemas import RAW_TABLES, payload_columns

CONTEXT = Context(cluster_time_zones={})


def accepted(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that are kept, without the columns of reasons."""
    columns = [name for name in (REJECT_REASON, LEFT_OUT_REASON) if name in frame.columns]
    return frame.filter(pl.all_horizontal(pl.col(columns).is_null())).drop(columns)


def reasons(frame: pl.DataFrame) -> list[str]:
    return frame[REJECT_REASON].drop_nulls().to_list()


def left_out(frame: pl.DataFrame) -> list[str]:
    return frame[LEFT_OUT_REASON].drop_nulls().to_list()


def assert_fits_raw_table(frame: pl.DataFrame, table: str) -> None:
    """All columns are the raw table's, with its types, and its rules hold for accepted rows."""
    raw = RAW_TABLES[table]
    rows = accepted(frame)
    types = raw.schema.create_empty().schema
    known = [*payload_columns(raw), "known_at"]
    assert set(rows.columns) <= set(known)
    for name, dtype in rows.schema.items():
        assert dtype == types[name], f"{name} is {dtype}, expected {types[name]}"
    rest = {
        **{name: pl.lit(None, dtype) for name, dtype in types.items() if name != "source_row"},
        "known_at": pl.lit("2026-01-01").str.to_datetime(time_zone="UTC", time_unit="us"),
        "source_file": pl.lit("file"),
        "load_id": pl.lit("0" * 16),
        "load_number": pl.lit(1),
    }
    told = rows.with_columns(
        *(value.alias(name) for name, value in rest.items() if name not in rows.columns),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("source_row"),
    )
    if "known_at" in rows.columns:
        told = told.with_columns(pl.col("known_at").fill_null(rest["known_at"]))
    good, failures = raw.schema.filter(told, cast=True)
    assert failures.counts() == {}
    assert good.height == rows.height
