"""ERCOT settlement point price CSV from market prices.

What belongs here: the text of ERCOT's day-ahead and real-time settlement point price reports. What
does not: the prices (the simulator), reading (`connectors/prices_csv.py`).
"""

import polars as pl

_ZONE = "America/Chicago"


def write_ercot(market_prices: pl.DataFrame) -> bytes:
    """Write prices of one market: 15-minute `real_time` or hourly `day_ahead`.

    The second of the two hours that the autumn clock change repeats has DSTFlag Y.

    Raises:
        ValueError: when the frame holds both markets or none.
    """
    markets = market_prices["market"].unique().to_list()
    if markets not in (["real_time"], ["day_ahead"]):
        raise ValueError(f"an ERCOT report holds one market, real_time or day_ahead, not {markets}")
    local = pl.col("interval_started_at").dt.convert_time_zone(_ZONE)
    wall = local.dt.replace_time_zone(None)
    hour_before = (pl.col("interval_started_at") - pl.duration(hours=1)).dt.convert_time_zone(_ZONE)
    is_repeated = wall == hour_before.dt.replace_time_zone(None)
    date = wall.dt.strftime("%m/%d/%Y").alias("DeliveryDate")
    hour = wall.dt.hour().cast(pl.Int64) + 1
    flag = pl.when(is_repeated).then(pl.lit("Y")).otherwise(pl.lit("N")).alias("DSTFlag")
    price = pl.col("price_per_mwh").alias("SettlementPointPrice")
    rows = market_prices.sort("interval_started_at", "zone")
    if markets == ["real_time"]:
        text = rows.select(
            date,
            hour.alias("DeliveryHour"),
            (wall.dt.minute().cast(pl.Int64) // 15 + 1).alias("DeliveryInterval"),
            pl.col("zone").alias("SettlementPointName"),
            price,
            flag,
        )
    else:
        text = rows.select(
            date,
            pl.format("{}:00", hour.cast(pl.String).str.zfill(2)).alias("HourEnding"),
            pl.col("zone").alias("SettlementPoint"),
            price,
            flag,
        )
    return text.write_csv().encode()
