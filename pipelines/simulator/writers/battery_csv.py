"""Battery telemetry CSV from battery samples.

What belongs here: the text of the canonical CSV described in `connectors/battery_csv.py`. What does
not: the battery's physics and the sign of its power (the simulator and reference data).
"""

import polars as pl


def write_battery_csv(battery_samples: pl.DataFrame) -> bytes:
    """Write one line per battery sample, state of charge in percent, times in UTC."""
    text = battery_samples.select(
        pl.col("sampled_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("timestamp"),
        "battery_id",
        (pl.col("state_of_charge_ratio") * 100).round(6).alias("state_of_charge_pct"),
        "power_kw",
        "available_charge_kw",
        "available_discharge_kw",
        "energy_capacity_kwh",
        "state",
    )
    return text.write_csv().encode()
