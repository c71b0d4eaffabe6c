"""Metrics by other names than DCGM's: of other makers, and a site's own by its mappings.

What belongs here: what such a metric means, and its samples as those of the metric that the book
knows for the same. What does not: rows of raw tables from these (`prometheus.py`).

AMD's device metrics exporter names its metrics with and without `amd_` (package power in W, energy
in microjoules, activity in percent); of a partitioned GPU only the first partition tells the
board's. Intel's Gaudi exporter tells power in mW; its `habanalabs_energy` has no unit that is
documented and is left out. Of Kepler's node metrics those of GPUs are whole boards; its CPU zones
overlap, tell no whole node and are left out, as are shares that are active or idle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON, Tables
from pipelines.connectors.mappings import Mappings, MetricMapping, NameLabel
from pipelines.connectors.parsing import parsed_number

DECLARED_NODE_POWER = "declared:node_power"
"""What a site declares as its nodes' power is known by this name, before all others."""

NOT_OF_THE_BOOK = "a metric that the book does not read: mappings.yml declares what one means"

_METER_ENERGY = "declared:meter_energy"
_CANONICAL = {
    "gpu_power": "DCGM_FI_DEV_POWER_USAGE",
    "gpu_energy": "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "gpu_utilization": "DCGM_FI_DEV_GPU_UTIL",
    "gpu_clock": "DCGM_FI_DEV_SM_CLOCK",
    "gpu_default_limit": "DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF",
    "node_power": DECLARED_NODE_POWER,
    "meter_energy": _METER_ENERGY,
}
# To W, mJ, percent and MHz, as the metrics of `_CANONICAL` are told; a meter keeps its unit.
_FACTORS = {
    **{"mW": 1e-3, "W": 1.0, "kW": 1e3, "uJ": 1e-3, "mJ": 1.0, "J": 1e3, "kJ": 1e6},
    **{"Wh": 3.6e6, "kWh": 3.6e9, "percent": 1.0, "ratio": 100.0, "MHz": 1.0},
}


@dataclass(frozen=True)
class Meaning:
    """What a metric means; the first label that a series has names its host, and its GPU."""

    metric: str
    quantity: str
    unit: str
    hosts: Sequence[NameLabel]
    gpus: Sequence[NameLabel] = ()
    of: MetricMapping | None = None
    """The declaration, where it is one."""

    @property
    def labels(self) -> set[str]:
        """Labels that have to be looked at."""
        meter = [self.of.meter] if self.of and self.of.meter else []
        named = {one.label for one in (*self.hosts, *self.gpus, *meter)}
        return named | ({*self.of.where} if self.of else {*_PARTITIONS})


_PARTITIONS = ("gpu_partition_id", "partition_id")


def _built_in(quantity: str, unit: str, *names: str, host: str, gpu: str) -> list[Meaning]:
    hosts = [NameLabel(label) for label in host.split()]
    gpus = [NameLabel(label) for label in gpu.split()]
    return [Meaning(name, quantity, unit, hosts, gpus) for name in names]


_AMD = {"host": "exported_hostname hostname", "gpu": "exported_gpu_id gpu_id"}
_GAUDI = {"host": "exported_hostname hostname node_name node instance", "gpu": "id device UUID"}
_KEPLER = {"host": "node_name exported_instance node instance", "gpu": "gpu gpu_uuid"}
BUILT_IN: Sequence[Meaning] = [
    *_built_in("gpu_power", "W", "amd_gpu_package_power", "gpu_package_power", **_AMD),
    *_built_in("gpu_power", "W", "amd_gpu_average_package_power", **_AMD),
    *_built_in("gpu_power", "W", "gpu_average_package_power", **_AMD),
    *_built_in("gpu_power", "W", "amd_gpu_power_usage", "gpu_power_usage", **_AMD),
    *_built_in("gpu_energy", "uJ", "amd_gpu_energy_consumed", "gpu_energy_consumed", **_AMD),
    *_built_in("gpu_utilization", "percent", "amd_gpu_gfx_activity", "gpu_gfx_activity", **_AMD),
    *_built_in("gpu_power", "mW", "habanalabs_power_mW", **_GAUDI),
    *_built_in("gpu_default_limit", "mW", "habanalabs_power_default_limit_mW", **_GAUDI),
    *_built_in("gpu_utilization", "percent", "habanalabs_utilization", **_GAUDI),
    *_built_in("gpu_clock", "MHz", "habanalabs_clock_soc_mhz", **_GAUDI),
    *_built_in("gpu_power", "W", "kepler_node_gpu_watts", **_KEPLER),
    *_built_in("gpu_energy", "J", "kepler_node_gpu_joules_total", **_KEPLER),
]
"""The one to prefer first, where several tell the same of a board."""


def meanings(mappings: Mappings) -> list[Meaning]:
    """What is declared, and what is built in and not declared otherwise."""
    declared = [
        Meaning(
            one.metric,
            one.quantity,
            one.unit,
            [one.host] if one.host else [],
            [one.gpu] if one.gpu else [],
            one,
        )
        for one in mappings.metrics
    ]
    names = {one.metric for one in declared}
    return [*declared, *(one for one in BUILT_IN if one.metric not in names)]


def translated(samples: pl.DataFrame, known: Sequence[Meaning]) -> tuple[pl.DataFrame, pl.Series]:
    """The samples that have a meaning as those of the metric known for it, and which these are.

    Args:
        samples: `__name__`, `time`, `time_found`, `value` and labels.
        known: what metrics mean.

    Returns:
        Rows with `__name__`, `time`, `time_found`, `value` (text), `Hostname`, `gpu`, `meter_id`,
        `flow`, `unit` and `is_double`, where several series of one metric name one node; and for
        each sample whether it is among them.
    """
    rows = samples.with_row_index("row of file")
    found = {*samples["__name__"].unique()}
    parts = [_one(rows, one) for one in known if one.metric in found]
    if not parts:
        return pl.DataFrame(), pl.repeat(value=False, n=samples.height, eager=True)
    told = pl.concat(parts)
    is_told = pl.int_range(samples.height, eager=True, dtype=pl.UInt32).is_in(
        told["row of file"].implode()
    )
    return told.drop("row of file"), is_told


def _one(rows: pl.DataFrame, meaning: Meaning) -> pl.DataFrame:
    of = meaning.of
    where = (
        [_text(label, rows).fill_null("") == value for label, value in of.where.items()]
        if of
        # The other partitions of a board show no power of their own, but 0.
        else [_text(label, rows).fill_null("0").is_in(["", "0"]) for label in _PARTITIONS]
    )
    number = parsed_number(pl.col("value").cast(pl.String))
    is_meter = meaning.quantity == "meter_energy"
    factor = 1.0 if is_meter else _FACTORS[meaning.unit]
    value = pl.coalesce((number * factor).cast(pl.String), pl.col("value").cast(pl.String))
    host = _name(meaning.hosts, rows).str.replace(r":\d+$", "")  # instance carries a port
    meter = _name([of.meter] if of and of.meter else [], rows)
    # What `names` does not name is of something else.
    named = [host.is_not_null() for label in meaning.hosts if label.names is not None]
    named += [meter.is_not_null() for label in [of and of.meter] if label and label.names]
    told = rows.filter(pl.col("__name__") == meaning.metric, *where).select(
        "row of file",
        pl.lit(_CANONICAL[meaning.quantity]).alias("__name__"),
        "time",
        "time_found",
        value.alias("value"),
        host.alias("Hostname"),
        _name(meaning.gpus, rows).alias("gpu"),
        meter.alias("meter_id"),
        pl.lit(of.flow if of else None, pl.String).alias("flow"),
        pl.lit(meaning.unit).alias("unit"),
        *(is_named.alias(f"is named {place}") for place, is_named in enumerate(named)),
    )
    told = told.filter(pl.all_horizontal(pl.lit(value=True), pl.col("^is named .*$")))
    is_double = (
        pl.struct("time", "Hostname").is_duplicated()
        if meaning.quantity == "node_power"
        else pl.lit(value=False)
    )
    return told.drop("^is named .*$").with_columns(is_double.alias("is_double"))


def _name(labels: Sequence[NameLabel], rows: pl.DataFrame) -> pl.Expr:
    """The name by the first of these labels that a sample has."""
    names = []
    for one in labels:
        value = _text(one.label, rows)
        filled = pl.when(value != "").then(value)
        name: pl.Expr = filled.str.strip_prefix(one.strip_prefix)
        if one.names is not None:
            name = name.replace_strict({**one.names}, default=None, return_dtype=pl.String)
        names.append(name)
    return pl.coalesce(names) if names else pl.lit(None, pl.String)


def _text(label: str, rows: pl.DataFrame) -> pl.Expr:
    return pl.col(label).cast(pl.String) if label in rows.columns else pl.lit(None, pl.String)


def meter_readings(told: pl.DataFrame) -> pl.DataFrame:
    """Readings of quarter hours from the registers of meters: what each went on by.

    Registers are looked at on the quarter hour alone, so that all files of a meter tell the same
    intervals, however often it was asked, and none that overlap.
    """
    number = parsed_number(pl.col("value"))
    rows = (
        told.filter(pl.col("__name__") == _METER_ENERGY)
        .with_columns(number.alias("number"))
        .sort("time", maintain_order=True)
    )
    time = pl.col("time")
    on_quarter = (time == time.dt.truncate("15m")) & pl.col("number").is_not_null()
    of_meter = ["meter_id", "flow", "unit"]
    is_bad = (
        pl.when(time.is_null())
        .then(pl.format("time '{}': expected seconds since 1970 or ISO 8601", "time_found"))
        .when(pl.col("meter_id").is_null())
        .then(pl.lit("meter_id is empty: expected the label that mappings.yml names"))
        .when(pl.col("number").is_null())
        .then(pl.format("value '{}': expected a number", "value"))
    )
    rows = rows.with_columns(is_bad.alias(REJECT_REASON))
    is_read = pl.col(REJECT_REASON).is_null() & on_quarter
    last_time = pl.when(is_read).then(time).forward_fill().shift().over(of_meter)
    last_read = pl.when(is_read).then("number").forward_fill().shift().over(of_meter)
    gone_on = pl.col("number") - last_read
    follows = is_read & (time - last_time == pl.duration(minutes=15))
    went_back = pl.format(
        "the register went back, from {} to {}: expected it to go on", last_read, "number"
    )
    return rows.with_columns(
        pl.coalesce(REJECT_REASON, pl.when(follows & (gone_on < 0)).then(went_back)).alias(
            REJECT_REASON
        ),
        pl.when(pl.col(REJECT_REASON).is_null() & ~follows.fill_null(value=False))
        .then(pl.lit("a meter's register without the one a quarter of an hour before it"))
        .alias(LEFT_OUT_REASON),
        interval_started_at=last_time,
        interval_ended_at=time,
        quantity=gone_on,
        quality=pl.lit("measured"),
    ).select(
        *("meter_id", "flow", "interval_started_at", "interval_ended_at"),
        *("quantity", "unit", "quality", REJECT_REASON, LEFT_OUT_REASON),
    )


def left_out(count: int) -> Tables:
    """So many series or rows of metrics that are not of the book."""
    return {"gpu_samples": pl.DataFrame({LEFT_OUT_REASON: [NOT_OF_THE_BOOK] * count})}
