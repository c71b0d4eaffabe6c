"""The bill of the simulated cloud: lines for what workloads used, and the price of the commitment.

What belongs here: how instances and a commitment become lines of a bill, and what the bill said
before it was put right. What does not: how many instances were wanted (`jobs.py`), and files
(`landing.py`).
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats
from pipelines.simulator.world import CLOUD_COMMITTED_INSTANCES

_LIST_PRICE = 88.0
ON_DEMAND_PRICE = 79.2
COMMITTED_PRICE = 47.5
"""USD per instance and hour."""


def lines_told(instances: Mapping[str, Floats]) -> pl.DataFrame:
    """All lines that the bill ever had, told from `told_from`, and until `told_until` if not null.

    Besides the charges there are a correction in the next month's bill, credits for failed hours,
    and what stood in the bill until it was restated.
    """
    usage = charges(instances)
    started = pl.col("charge_period_started_at")

    def during(span: events.Span) -> pl.Expr:
        return (started >= span.started_at) & (started < span.ended_at)

    def refund(ratio: float) -> dict[str, pl.Expr]:
        costs = ("billed_cost", "effective_cost", "list_cost", "contracted_cost")
        return {
            **{name: (-pl.col(name) * ratio).round(6) for name in costs},
            "pricing_quantity": pl.lit(0.0),
            "consumed_quantity": pl.lit(0.0),
            "tags": pl.lit(None, pl.String),
        }

    on_demand = usage.filter(pl.col("pricing_category") == "Standard")
    month = pl.col("billing_period_started_at")
    corrected = on_demand.filter(during(events.CLOUD_OVERCHARGED)).with_columns(
        **refund(events.CLOUD_CORRECTED_RATIO),
        charge_class=pl.lit("Correction"),
        billing_period_started_at=month.dt.offset_by("1mo"),
        billing_period_ended_at=month.dt.offset_by("2mo"),
    )
    credited = on_demand.filter(
        during(events.CLOUD_FAILED) & pl.col("resource_id").str.ends_with("batch-evaluation")
    ).with_columns(
        **refund(events.CLOUD_CREDITED_RATIO)
        # No hours are priced or used by it.
        | {
            name: pl.lit(None, usage.schema[name])
            for name in usage.columns
            if name.startswith(("pricing_", "consumed_")) or name.endswith("_unit_price")
        },
        charge_category=pl.lit("Credit"),
        charge_description=pl.lit("Credit for failed instance hours"),
    )
    provisional = pl.concat(
        [frame.filter(during(events.CLOUD_PROVISIONAL)) for frame in (usage, on_demand)]
    ).with_columns(tags=pl.lit(None, pl.String))
    restated_at = pl.lit(events.CLOUD_RESTATED_AT).cast(pl.Datetime("us", "UTC"))
    never = pl.lit(None, pl.Datetime("us", "UTC"))
    ended = pl.col("charge_period_ended_at")
    return pl.concat(
        [
            usage.with_columns(
                told_from=pl.when(during(events.CLOUD_PROVISIONAL))
                .then(restated_at)
                .otherwise(ended),
                told_until=never,
            ),
            provisional.with_columns(told_from=ended, told_until=restated_at),
            corrected.with_columns(
                told_from=pl.lit(events.CLOUD_CORRECTED_AT).cast(pl.Datetime("us", "UTC")),
                told_until=never,
            ),
            credited.with_columns(told_from=ended, told_until=never),
        ]
    ).sort("charge_period_started_at", maintain_order=True)


def charges(instances: Mapping[str, Floats]) -> pl.DataFrame:
    """One charge line per hour, workload and way of paying; the commitment serves first."""
    left = np.full(len(next(iter(instances.values()))), float(CLOUD_COMMITTED_INSTANCES))
    hour = pl.Series(np.arange(len(left)))
    parts = []

    def lines(quantity: Floats, status: str | None, workload: str | None) -> None:
        parts.append(
            pl.DataFrame(
                {
                    "hour": hour,
                    "quantity": quantity,
                    "status": pl.Series([status] * len(quantity), dtype=pl.String),
                    "workload": pl.Series([workload] * len(quantity), dtype=pl.String),
                }
            )
        )

    for workload, wanted in instances.items():
        used = np.minimum(wanted, left)
        left = left - used
        lines(used, "Used", workload)
        lines(wanted - used, None, workload)
    lines(left, "Unused", None)
    lines_of_all = (
        pl.concat(parts).filter(pl.col("quantity") > 0).sort("hour", "status", "workload")
    )
    return _focus_rows(lines_of_all)


def _focus_rows(charges: pl.DataFrame) -> pl.DataFrame:
    started = pl.lit(clock.WORLD_STARTED_AT).cast(pl.Datetime("us", "UTC")) + pl.duration(
        hours="hour"
    )
    committed = pl.col("status").is_not_null()
    unused = pl.col("status") == "Unused"
    quantity = pl.col("quantity")
    paid = pl.when(committed).then(COMMITTED_PRICE).otherwise(ON_DEMAND_PRICE)
    month = started.dt.truncate("1mo")
    workload = pl.col("workload")
    return charges.select(
        provider_name=pl.lit("Example Cloud"),
        billing_account_id=pl.lit("EX-4471"),
        sub_account_id=pl.lit("ai-serving"),
        billing_period_started_at=month,
        billing_period_ended_at=month.dt.offset_by("1mo"),
        charge_period_started_at=started,
        charge_period_ended_at=started + pl.duration(hours=1),
        charge_category=pl.lit("Usage"),
        charge_class=pl.lit(None, pl.String),
        charge_description=pl.when(unused)
        .then(pl.lit("Unused commitment, A3 high, 8 GPUs"))
        .otherwise(pl.lit("A3 high instance hour, 8 GPUs")),
        service_category=pl.lit("Compute"),
        service_name=pl.lit("Virtual machines"),
        sku_id=pl.lit("SKU-A3-HIGH"),
        region_id=pl.lit("us-south1"),
        resource_id=pl.format("instance-group/{}", workload),
        pricing_category=pl.when(committed).then(pl.lit("Committed")).otherwise(pl.lit("Standard")),
        pricing_quantity=quantity,
        pricing_unit=pl.lit("Hours"),
        consumed_quantity=pl.when(~unused.fill_null(value=False)).then(quantity),
        consumed_unit=pl.when(~unused.fill_null(value=False)).then(pl.lit("Hours")),
        list_unit_price=pl.lit(_LIST_PRICE),
        contracted_unit_price=paid,
        billed_cost=pl.when(committed).then(0.0).otherwise((quantity * paid).round(6)),
        effective_cost=(quantity * paid).round(6),
        list_cost=(quantity * _LIST_PRICE).round(6),
        contracted_cost=(quantity * paid).round(6),
        currency_code=pl.lit("USD"),
        commitment_discount_id=pl.when(committed).then(pl.lit("cud-a3-2026")),
        commitment_discount_category=pl.when(committed).then(pl.lit("Usage")),
        commitment_discount_type=pl.when(committed).then(pl.lit("Committed use")),
        commitment_discount_status="status",
        tags=pl.when(workload.is_not_null()).then(
            pl.concat_str(pl.lit('{"workload": "'), workload, pl.lit('"}'))
        ),
    )


def purchase(month: pl.DataFrame) -> pl.DataFrame:
    """The line that pays for the commitment of a billing period."""
    is_of_month = pl.col("charge_period_started_at") >= pl.col("billing_period_started_at")
    hours = month.filter(is_of_month)["charge_period_started_at"].n_unique()
    quantity = float(CLOUD_COMMITTED_INSTANCES * hours)
    cost = round(quantity * COMMITTED_PRICE, 6)
    return month.head(1).with_columns(
        charge_period_started_at=pl.col("billing_period_started_at"),
        charge_period_ended_at=pl.col("billing_period_ended_at"),
        charge_category=pl.lit("Purchase"),
        charge_class=pl.lit(None, pl.String),
        charge_description=pl.lit("Commitment of 24 A3 high instances"),
        resource_id=pl.lit(None, pl.String),
        # FOCUS: what a commitment covers is Committed, its purchase is not.
        pricing_category=pl.lit("Standard"),
        pricing_quantity=pl.lit(quantity),
        consumed_quantity=pl.lit(None, pl.Float64),
        consumed_unit=pl.lit(None, pl.String),
        contracted_unit_price=pl.lit(COMMITTED_PRICE),
        billed_cost=pl.lit(cost),
        effective_cost=pl.lit(0.0),
        list_cost=pl.lit(round(quantity * _LIST_PRICE, 6)),
        contracted_cost=pl.lit(cost),
        commitment_discount_id=pl.lit("cud-a3-2026"),
        commitment_discount_category=pl.lit("Usage"),
        commitment_discount_type=pl.lit("Committed use"),
        commitment_discount_status=pl.lit(None, pl.String),
        tags=pl.lit(None, pl.String),
    )
