"""Contracts on capacity of others: a battery, a cloud's machines, node-hours of an HPC system.

What belongs here: the fields of these kinds and the rules one of them can break by itself. What
does not: rules over several contracts (`checks.py`), and what a contract costs (dbt).
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.contracts.base import BaseContract
from pipelines.reference.fields import Amount, Efficiency, Share, Terms

Positive = Annotated[float, Field(gt=0)]


class TollingTerms(Terms):
    """Fees for the use of a battery, and what its owner guarantees."""

    tolled_mw: Positive
    """Power of the battery that may be used, in MW."""
    fixed_fee_per_mw_month: Amount
    """Fee of each MW and month."""
    guaranteed_availability_ratio: Share
    """Share of time for which the owner guarantees it, such as 0.97."""
    damages_per_mwh_unavailable: Amount
    """What the owner pays for each MWh below that."""
    guaranteed_round_trip_ratio: Efficiency | None = None
    """Energy out by energy in that the owner guarantees, such as 0.85; left out: none."""
    round_trip_damages_per_mwh: Amount | None = None
    """What the owner pays for each MWh lost beyond that; left out with the guarantee."""
    throughput_limit_mwh_per_year: Amount | None = None
    """Energy discharged a year that fees cover, in MWh; left out: no limit."""
    excess_throughput_per_mwh: Amount | None = None
    """Fee of each MWh beyond it; left out with the limit."""
    variable_fee_per_mwh: Amount | None = None
    """Fee of each MWh discharged; left out: none."""

    @model_validator(mode="after")
    def _has_a_price_for_each_limit(self) -> "TollingTerms":
        for limit, price in (
            ("guaranteed_round_trip_ratio", "round_trip_damages_per_mwh"),
            ("throughput_limit_mwh_per_year", "excess_throughput_per_mwh"),
        ):
            if (getattr(self, limit) is None) != (getattr(self, price) is None):
                raise PydanticCustomError(
                    "tolling",
                    "expected {limit} and {price}, or neither: add the other of the two",
                    {"limit": limit, "price": price},
                )
        return self


class BatteryTolling(BaseContract):
    """The use of a battery that somebody else owns."""

    settlement_model: ClassVar[str] = "int_tolling_settlements"
    lines: ClassVar[Mapping[str, str | None]] = {
        "fixed_fee": "storage",
        "variable_fee": "storage",
        "availability_damages": "storage",
        "round_trip_damages": "storage",
        "excess_throughput": "storage",
    }
    kind: Literal["battery_tolling"]
    """battery_tolling: the use of a battery that somebody else owns."""
    battery_id: str
    """Battery, as declared at its site."""
    terms: Annotated[list[TollingTerms], Field(min_length=1)]
    """Fees and guarantees, each since when they hold."""


class CommitmentTerms(Terms):
    """GPUs committed to, what they cost by the hour, used or not, and the power they may draw."""

    gpu_count: Annotated[int, Field(gt=0)]
    """GPUs committed to."""
    hourly_price: Amount
    """Price of an hour of the whole commitment, used or not."""
    kw_per_gpu: Positive
    """Power that a GPU may draw with its share of the machine, in kW."""


class CloudCommitment(BaseContract):
    """A discount of a public cloud for machines paid by the hour whether used or not."""

    settlement_model: ClassVar[str] = "int_commitment_settlements"
    lines: ClassVar[Mapping[str, str | None]] = {
        "commitment_used": None,
        "commitment_unused": None,
    }
    owner: ClassVar[Literal["energy", "finance"]] = "finance"
    after_end: ClassVar[str] = "After that its GPU-hours are bought on demand."
    kind: Literal["cloud_commitment"]
    """cloud_commitment: machines paid by the hour whether used or not."""
    commitment_discount_id: str
    """CommitmentDiscountId of the FOCUS bill."""
    sku: str
    """SKU of the machines, as the site's gpus_per_instance has it."""
    terms: Annotated[list[CommitmentTerms], Field(min_length=1)]
    """GPUs and price, each since when they hold."""


class AllocationTerms(Terms):
    """Node-hours granted and what one is charged, or reckoned, at."""

    node_hours: Amount
    """Node-hours granted."""
    price_per_node_hour: Amount
    """Price of a node-hour, charged or reckoned."""
    is_shadow_price: bool
    """Whether the price is reckoned only and nobody is charged."""


class HpcAllocation(BaseContract):
    """Node-hours on a sovereign machine."""

    settlement_model: ClassVar[str] = "int_commitment_settlements"
    lines: ClassVar[Mapping[str, str | None]] = {"node_hours": "allocation"}
    owner: ClassVar[Literal["energy", "finance"]] = "finance"
    after_end: ClassVar[str] = "After that no node-hours are left at {site_id}."
    kind: Literal["hpc_allocation"]
    """hpc_allocation: node-hours on somebody else's machine."""
    terms: Annotated[list[AllocationTerms], Field(min_length=1)]
    """Node-hours and price, each since when they hold."""
