"""Reference rates of the European Central Bank, as its data portal gives the dataflow EXR in CSV.

What belongs here: reading that CSV. What does not: which rate a day goes by, and what a currency is
worth in that of the book (dbt staging).

Columns, in any order, others ignored: KEY, FREQ, CURRENCY, CURRENCY_DENOM, EXR_TYPE, EXR_SUFFIX,
TIME_PERIOD, OBS_VALUE. A rate says how many units of the currency a euro is worth. The rate of a
day (FREQ D, EXR_TYPE SP00, EXR_SUFFIX A) is read; means of months and years, indices and days of
which the bank has no rate are left out. A rate is known since 16:00 in Frankfurt on its day, about
when the bank publishes it; a later file with another value takes its place.
"""

from datetime import time

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON, Context, Tables
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    csv_rows,
    number,
    problem,
    require_columns,
    shown,
    text,
)

_REQUIRED = [
    *("KEY", "FREQ", "CURRENCY", "CURRENCY_DENOM"),
    *("EXR_TYPE", "EXR_SUFFIX", "TIME_PERIOD", "OBS_VALUE"),
]
_EXPECTED = f"rates of the ECB's dataflow EXR in CSV, with the columns {', '.join(_REQUIRED)}"
_OF_A_DAY = {"FREQ": "D", "EXR_TYPE": "SP00", "EXR_SUFFIX": "A"}
_BASE = "EUR"
_PUBLISHED = time(16)
_ZONE = "Europe/Berlin"


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read exchange rates, one row per currency and day.

    Raises:
        UnreadableFile: when it is not such a CSV.
    """
    del file_name, context
    rows = csv_rows(content, expected=_EXPECTED)
    require_columns(rows, _REQUIRED, expected=_EXPECTED)
    others = [
        pl.when(pl.col(name) != value).then(
            pl.format(f"{name} {{}}: no reference rate of a day", shown(pl.col(name)))
        )
        for name, value in _OF_A_DAY.items()
    ]
    is_broken = pl.lit(value=False)
    if REJECT_REASON in rows.columns:
        is_broken = pl.col(REJECT_REASON).is_not_null()
    has_rate = pl.col("OBS_VALUE").is_not_null() & (pl.col("OBS_VALUE") != "NaN")
    no_rate = pl.when(~has_rate, ~is_broken).then(pl.lit("no rate of the day"))
    told = pl.col(LEFT_OUT_REASON) if LEFT_OUT_REASON in rows.columns else pl.lit(None, pl.String)
    rows = rows.with_columns(pl.coalesce(told, *others, no_rate).alias(LEFT_OUT_REASON))
    day = pl.col("TIME_PERIOD").str.strptime(pl.Date, "%Y-%m-%d", strict=False)
    no_day = problem(
        day.is_null(), field="TIME_PERIOD", found=pl.col("TIME_PERIOD"), expected="a day"
    )
    published = day.cast(pl.Datetime("us")).dt.combine(_PUBLISHED)
    value = number("OBS_VALUE").required("OBS_VALUE", "a rate above 0")
    not_above = Problem(
        value.value <= 0,
        pl.format("OBS_VALUE '{}': expected a rate above 0", shown(pl.col("OBS_VALUE"))),
    )
    other_base = problem(
        pl.col("CURRENCY_DENOM").ne_missing(_BASE),
        field="CURRENCY_DENOM",
        found=pl.col("CURRENCY_DENOM"),
        expected=_BASE,
    )
    rates = assemble(
        rows,
        {
            "rate_date": Field(day, (no_day,)),
            "currency_code": text("CURRENCY").required("CURRENCY", "a currency"),
            "units_per_euro": Field(value.value, (*value.problems, not_above)),
            "data_source": Field(pl.concat_str(pl.lit("ECB "), pl.col("KEY"))),
            "known_at": Field(published.dt.replace_time_zone(_ZONE).dt.convert_time_zone("UTC")),
        },
        problems=(other_base,),
    )
    return {"exchange_rates": rates}
