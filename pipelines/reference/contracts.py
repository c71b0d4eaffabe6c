"""Contracts, one model per kind.

What belongs here: the files of `contracts/`, each kind with the fields it needs and the rules that
one contract can break by itself. What does not: rules over several contracts (`checks.py`), and
what a contract costs (dbt).
"""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.reference.fields import Amount, Currency, Identifier, Model, Share, Terms, TimeZone


class PriceTerms(Terms):
    """Price of a power purchase agreement and its clause for negative prices."""

    price_per_mwh: float
    negative_price_clause: Literal["none", "no_volume", "zero_floor"]


class AllocationTerms(Terms):
    """Node-hours granted and what one is charged, or reckoned, at."""

    node_hours: Amount
    price_per_node_hour: Amount
    is_shadow_price: bool


class _Contract(Model):
    contract_id: Identifier
    name: str
    site_id: str
    counterparty: str
    time_zone: TimeZone
    currency_code: Currency


class PlantContract(_Contract):
    """A contract on a share of what one plant produces."""

    plant_meter_id: str
    plant_capacity_mw: Annotated[float, Field(gt=0)]
    share_of_plant: Share
    settlement_zone: str
    market: Literal["day_ahead", "real_time"]
    energy_source: str
    are_certificates_bundled: bool
    terms: Annotated[list[PriceTerms], Field(min_length=1)]


class PayAsProducedPpa(PlantContract):
    """Physical PPA: the buyer takes and pays its share of what the plant produced."""

    kind: Literal["ppa_pay_as_produced"]


class VirtualPpa(PlantContract):
    """Financial PPA: strike against floating price on the buyer's share of the production."""

    kind: Literal["vppa_cfd"]


class HpcAllocation(_Contract):
    """Node-hours on a sovereign machine."""

    kind: Literal["hpc_allocation"]
    terms: Annotated[list[AllocationTerms], Field(min_length=1)]


Contract = Annotated[PayAsProducedPpa | VirtualPpa | HpcAllocation, Field(discriminator="kind")]
