"""Electricity Maps portal CSV from grid carbon rows.

What belongs here: the text of the portal's download, headers as since 2025. What does not: the
intensities (the simulator), reading (`connectors/electricity_maps.py`).
"""

import polars as pl


def write_carbon(grid_carbon: pl.DataFrame) -> bytes:
    """Write one line per zone and interval; shares in percent, times in UTC as the portal does."""
    text = grid_carbon.select(
        pl.col("interval_started_at").dt.strftime("%Y-%m-%d %H:%M:%S").alias("Datetime (UTC)"),
        pl.lit(None, pl.String).alias("Country"),
        pl.col("zone").alias("Zone name"),
        pl.col("zone").alias("Zone id"),
        pl.col("direct_g_per_kwh").alias("Carbon intensity gCO₂eq/kWh (direct)"),
        pl.col("life_cycle_g_per_kwh").alias("Carbon intensity gCO₂eq/kWh (Life cycle)"),
        (pl.col("carbon_free_ratio") * 100).round(6).alias("Carbon-free energy percentage (CFE%)"),
        (pl.col("renewable_ratio") * 100).round(6).alias("Renewable energy percentage (RE%)"),
        pl.col("data_source").alias("Data source"),
        pl.col("is_estimated").cast(pl.String).alias("Data estimated"),
        pl.lit(None, pl.String).alias("Data estimation method"),
    )
    return text.write_csv().encode()
