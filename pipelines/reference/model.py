"""The reference data of a book as one value.

What belongs here: `Reference`. What does not: how it is read (`loading.py`), checked (`checks.py`)
and laid out in tables (`tables.py`).
"""

from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from pipelines.reference.contracts import Contract
from pipelines.reference.contracts.base import BaseContract
from pipelines.reference.costs import SiteCost
from pipelines.reference.decisions import Decision
from pipelines.reference.factors import EmissionFactor
from pipelines.reference.mappings import Mappings
from pipelines.reference.organization import (
    CapacityPlan,
    Organization,
    Target,
    Workload,
    WorkloadRule,
)
from pipelines.reference.sites import GpuModel, Meter, Site
from pipelines.reference.sources import Source

Kind = TypeVar("Kind", bound=BaseContract)


@dataclass(frozen=True)
class Reference:
    """All reference data of a book, valid as a whole."""

    organization: Organization
    gpu_models: list[GpuModel]
    sites: list[Site]
    meters: list[Meter]
    contracts: list[Contract]
    workloads: list[Workload]
    rules: list[WorkloadRule]
    capacity_plan: CapacityPlan
    emission_factors: list[EmissionFactor]
    targets: list[Target]
    site_costs: list[SiteCost]
    decisions: list[Decision]
    sources: list[Source]
    """Where data are pulled from; none without the file."""
    mappings: Mappings
    price_indices: pl.DataFrame
    """index, month (its first day), value: one row per index and month; none without the file."""
    forward_prices: pl.DataFrame
    """zone, month (its first day), price_per_mwh, currency_code: one row per zone and month; none
    without the file."""
    fx_rates: pl.DataFrame
    """rate_date, currency_code, rate_to_reporting: one row per date and currency."""

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        """The contracts of one kind."""
        return [contract for contract in self.contracts if isinstance(contract, kind)]
