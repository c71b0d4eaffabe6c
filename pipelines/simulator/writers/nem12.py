"""NEM12 interval metering file from meter readings.

What belongs here: the 100/200/300/400/900 records of whole market days. What does not: choosing the
days and arrival times (the simulator), reading it back (`connectors/nem12.py`).
"""

from datetime import UTC, datetime, timedelta

import polars as pl

_SUFFIX = {"import": "E1", "export": "B1"}
_QUALITY = {"measured": "A", "estimated": "E52", "substituted": "S14", "missing": "N"}
_REASON = {"E52": ",1,", "S14": ",1,"}
_KWH_PER_UNIT = {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3}
_DAY_MINUTES = 24 * 60


def write_nem12(
    meter_readings: pl.DataFrame, *, updated_at: datetime, market_utc_offset_h: int = 10
) -> bytes:
    """Write readings as NEM12, a 300 record per meter, flow and market day.

    Args:
        meter_readings: one row per meter, flow and interval of one length (5, 15 or 30 minutes),
            complete for every market day it touches.
        updated_at: UpdateDateTime of every record, with a time zone.
        market_utc_offset_h: hours that market time is ahead of UTC, all year.

    Quantities are written in kWh with three decimals; a missing reading is 0 with quality N.

    Raises:
        ValueError: when a market day is not whole, or an interval length is not NEM12's.
    """
    updated = f"{updated_at.astimezone(UTC) + timedelta(hours=market_utc_offset_h):%Y%m%d%H%M%S}"
    days = _market_days(meter_readings, timedelta(hours=market_utc_offset_h))
    lines = [f"100,NEM12,{updated[:12]},MDP1,RET1"]
    for (meter_id, flow, minutes), channel in days.group_by(
        "meter_id", "flow", "minutes", maintain_order=True
    ):
        suffix = _SUFFIX[str(flow)]
        lines.append(f"200,{meter_id},{suffix},{suffix},{suffix},,,kWh,{minutes},")
        for date, values, runs in channel.select("date", "values", "runs").iter_rows():
            day_quality = runs[0][2] if len(runs) == 1 else "V"
            reason = _REASON.get(day_quality, ",,").removeprefix(",")
            lines.append(f"300,{date},{values},{day_quality},{reason},{updated},")
            if len(runs) > 1:
                lines += [
                    f"400,{first},{last},{quality}{_REASON.get(quality, ',,')}"
                    for first, last, quality in runs
                ]
    return ("\r\n".join([*lines, "900"]) + "\r\n").encode()


def _market_days(meter_readings: pl.DataFrame, offset: timedelta) -> pl.DataFrame:
    """One row per meter, flow and market day: values as text, runs of one quality."""
    channel = ["meter_id", "flow", "minutes", "date"]
    market_time = pl.col("interval_started_at").dt.replace_time_zone(None) + offset
    kwh = pl.col("quantity") * pl.col("unit").replace_strict(_KWH_PER_UNIT, return_dtype=pl.Float64)
    length = pl.col("interval_ended_at") - pl.col("interval_started_at")
    readings = meter_readings.select(
        "meter_id",
        "flow",
        length.dt.total_minutes().alias("minutes"),
        market_time.dt.strftime("%Y%m%d").alias("date"),
        (market_time.dt.hour().cast(pl.Int64) * 60 + market_time.dt.minute()).alias("minute"),
        pl.when(pl.col("quality") != "missing")
        .then(kwh.round(3))
        .otherwise(0.0)
        .cast(pl.String)
        .alias("value"),
        pl.col("quality").replace_strict(_QUALITY, return_dtype=pl.String),
    ).sort(*channel, "minute")
    if not readings["minutes"].is_in([5, 15, 30]).all():
        raise ValueError(f"NEM12 has 5, 15 or 30 minute intervals, not {_distinct(readings)}")
    slot = pl.col("minute") // pl.col("minutes") + 1
    per_day = _DAY_MINUTES // pl.col("minutes").first()
    days = (
        readings.with_columns(
            slot.alias("slot"), pl.col("quality").rle_id().over(channel).alias("run")
        )
        .group_by(*channel, "run", maintain_order=True)
        .agg(
            pl.col("value").str.join(","),
            pl.col("slot").min().alias("first"),
            pl.col("slot").max().alias("last"),
            pl.col("quality").first(),
            pl.len().alias("count"),
        )
        .group_by(channel, maintain_order=True)
        .agg(
            pl.col("value").str.join(",").alias("values"),
            pl.concat_list(
                pl.col("first").cast(pl.String), pl.col("last").cast(pl.String), "quality"
            ).alias("runs"),
            (pl.col("count").sum() == per_day).alias("is_whole"),
        )
    )
    broken = days.filter(~pl.col("is_whole"))
    if broken.height:
        meter_id, _, _, date = broken.select(channel).row(0)
        raise ValueError(f"market day {date} of {meter_id} is not whole: NEM12 has whole days only")
    return days


def _distinct(readings: pl.DataFrame) -> str:
    return ", ".join(str(minutes) for minutes in readings["minutes"].unique().sort())
