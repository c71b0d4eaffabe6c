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
    fixed_fee_per_mw_month: Amount
    guaranteed_availability_ratio: Share
    damages_per_mwh_unavailable: Amount
    guaranteed_round_trip_ratio: Efficiency | None = None
    round_trip_damages_per_mwh: Amount | None = None
    throughput_limit_mwh_per_year: Amount | None = None
    excess_throughput_per_mwh: Amount | None = None
    variable_fee_per_mwh: Amount | None = None

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
    battery_id: str
    terms: Annotated[list[TollingTerms], Field(min_length=1)]


class CommitmentTerms(Terms):
    """GPUs committed to, what they cost by the hour, used or not, and the power they may draw."""

    gpu_count: Annotated[int, Field(gt=0)]
    hourly_price: Amount
    """Of the whole commitment."""
    kw_per_gpu: Positive


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
    commitment_discount_id: str
    sku: str
    terms: Annotated[list[CommitmentTerms], Field(min_length=1)]


class AllocationTerms(Terms):
    """Node-hours granted and what one is charged, or reckoned, at."""

    node_hours: Amount
    price_per_node_hour: Amount
    is_shadow_price: bool


class HpcAllocation(BaseContract):
    """Node-hours on a sovereign machine."""

    settlement_model: ClassVar[str] = "int_commitment_settlements"
    lines: ClassVar[Mapping[str, str | None]] = {"node_hours": "allocation"}
    owner: ClassVar[Literal["energy", "finance"]] = "finance"
    after_end: ClassVar[str] = "After that no node-hours are left at {site_id}."
    kind: Literal["hpc_allocation"]
    terms: Annotated[list[AllocationTerms], Field(min_length=1)]
