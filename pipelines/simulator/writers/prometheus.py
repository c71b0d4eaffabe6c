"""Writes telemetry the way Prometheus answers and long-term stores export it.

What belongs here: the query_range answer, the wide Parquet export of the GPU metrics and the long
one of node power; and the DCGM metrics a raw GPU sample is made of. What does not: scrape text
(`dcgm_scrape.py`) and the making of samples.
"""

import json
from dataclasses import dataclass
from io import BytesIO

import polars as pl

NODE_POWER_METRIC = "ipmi_dcmi_power_consumption_watts"
_IPMI_EXPORTER_PORT = 9290
_MIG_INSTANCES = 7


@dataclass(frozen=True)
class DcgmMetric:
    """How dcgm-exporter shows one column of `gpu_samples`."""

    column: str
    name: str
    type: str
    help: str


DCGM_METRICS = (
    DcgmMetric("power_w", "DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W)."),
    DcgmMetric(
        "energy_counter_millijoules",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
    ),
    DcgmMetric("utilization_ratio", "DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %)."),
    DcgmMetric("sm_clock_mhz", "DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz)."),
    DcgmMetric(
        "power_limit_w",
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        "gauge",
        "Power limit after all limiters (in W).",
    ),
    DcgmMetric(
        "default_power_limit_w",
        "DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF",
        "gauge",
        "Default power limit (in W).",
    ),
    DcgmMetric(
        "power_violation_ns",
        "DCGM_FI_DEV_POWER_VIOLATION",
        "counter",
        "Throttling duration due to power constraints (in ns).",
    ),
    DcgmMetric(
        "power_brake_ns",
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS",
        "counter",
        "Slowdown by the power brake (in ns).",
    ),
    DcgmMetric(
        "thermal_violation_ns",
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "counter",
        "Throttling duration due to thermal constraints (in ns).",
    ),
    DcgmMetric(
        "clocks_event_reasons",
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "gauge",
        "Current clock event reasons (bitmask of DCGM_CLOCKS_EVENT_REASON_*).",
    ),
)


def dcgm_values() -> list[pl.Expr]:
    """The metrics of a sample under DCGM's names and in its units: utilization in whole percent."""
    return [
        (pl.col(metric.column) * 100).round(0).alias(metric.name)
        if metric.column == "utilization_ratio"
        else pl.col(metric.column).alias(metric.name)
        for metric in DCGM_METRICS
    ]


def board_uuid() -> pl.Expr:
    """A UUID per board that stays the same from file to file: its host and index, hex-encoded."""
    digits = (
        pl.concat_str("hostname", pl.lit("/"), "gpu_index")
        .str.encode("hex")
        .str.pad_start(32, "0")
        .str.slice(-32)
    )
    groups = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
    return pl.concat_str(
        pl.lit("GPU"), *(digits.str.slice(*group) for group in groups), separator="-"
    )


def metric_text(metric: DcgmMetric) -> pl.Expr:
    """A metric's value as text: counters and bit masks as whole numbers, the rest as they are."""
    value = pl.col(metric.name)
    if metric.column.endswith("_w"):
        return value.cast(pl.String)
    return value.cast(pl.Int64).cast(pl.String)


def write_query_range(
    gpu_samples: pl.DataFrame, *, step_s: int, model_name: str = "NVIDIA H100 80GB HBM3"
) -> bytes:
    """The JSON answer of `/api/v1/query_range` for every DCGM metric of these boards.

    As in Prometheus, the value at a step is the latest sample at or before it.
    """
    step_us = step_s * 1_000_000
    at_us = pl.col("sampled_at").dt.epoch("us")
    points = (
        gpu_samples.sort("hostname", "gpu_index", "sampled_at")
        .with_columns(step=-((-at_us) // step_us) * step_s)
        .unique(["hostname", "gpu_index", "step"], keep="last", maintain_order=True)
        .with_columns(*dcgm_values(), uuid=board_uuid())
    )
    series = [
        points.select(
            "hostname",
            "gpu_index",
            "uuid",
            name=pl.lit(metric.name),
            point=pl.format('[{},"{}"]', "step", metric_text(metric)),
        )
        .drop_nulls("point")
        .group_by("hostname", "gpu_index", "uuid", "name", maintain_order=True)
        .agg(pl.col("point").str.join(","))
        for metric in DCGM_METRICS
    ]
    labels = pl.struct(
        pl.col("name").alias("__name__"),
        pl.col("hostname").alias("Hostname"),
        pl.col("uuid").alias("UUID"),
        pl.col("gpu_index").alias("gpu"),
        pl.lit(model_name).alias("modelName"),
    ).struct.json_encode()
    result = pl.concat(series).select(pl.format('{{"metric":{},"values":[{}]}}', labels, "point"))
    joined = ",".join(result.to_series().to_list())
    return (
        f'{{"status":"success","data":{{"resultType":"matrix","result":[{joined}]}},'
        f'"warnings":{json.dumps([])}}}'
    ).encode()


def write_export(gpu_samples: pl.DataFrame) -> bytes:
    """A wide Parquet export: one row per board and time, one column per metric.

    Values are doubles, as Prometheus keeps them. A board in MIG mode has a row for each of its
    seven instances, which repeats the board's own values, without utilization.
    """
    values = gpu_samples.select(
        "mig_busy_ratio",
        pl.col("sampled_at").dt.cast_time_unit("ms").alias("timestamp"),
        pl.col("hostname").alias("Hostname"),
        pl.col("gpu_index").alias("gpu"),
        *(value.cast(pl.Float64) for value in dcgm_values()),
    )
    in_mig_mode = values.filter(pl.col("mig_busy_ratio").is_not_null())
    if in_mig_mode.is_empty():
        return _parquet(values.drop("mig_busy_ratio"))
    instance = pl.Series("instance", range(_MIG_INSTANCES), dtype=pl.Int64)
    instances = in_mig_mode.join(instance.to_frame(), how="cross").select(
        *values.columns,
        GPU_I_ID=(pl.col("instance") + 1).cast(pl.String),
        GPU_I_PROFILE=pl.lit("1g.10gb"),
        DCGM_FI_PROF_GR_ENGINE_ACTIVE=pl.when(
            pl.col("instance") < (pl.col("mig_busy_ratio") * _MIG_INSTANCES).round()
        )
        .then(0.62)
        .otherwise(0.0),
    )
    instances = instances.with_columns(DCGM_FI_DEV_GPU_UTIL=pl.lit(0.0))
    others = values.filter(pl.col("mig_busy_ratio").is_null())
    return _parquet(pl.concat([others, instances], how="diagonal").drop("mig_busy_ratio"))


def write_node_export(node_power_samples: pl.DataFrame) -> bytes:
    """A long Parquet export of ipmi_exporter's node power: one row per node and time."""
    return _parquet(
        node_power_samples.select(
            pl.col("sampled_at").dt.cast_time_unit("ms").alias("timestamp"),
            pl.lit(NODE_POWER_METRIC).alias("__name__"),
            pl.format(f"{{}}:{_IPMI_EXPORTER_PORT}", "hostname").alias("instance"),
            pl.col("power_w").cast(pl.Float64).alias("value"),
        )
    )


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1)
    return buffer.getvalue()
