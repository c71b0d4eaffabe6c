"""Contracts, one model per kind, and the list of the kinds there are.

What belongs here: what a file of `contracts/` may be: what all kinds have in common (`base.py`),
power purchase agreements (`power.py`), contracts on the grid (`grid.py`) and on capacity of others
(`service.py`). What does not: rules over several files (`pipelines/reference/checks.py`), and what
a contract costs (dbt).

Prices and fees are in the contract's currency; a price the buyer receives is negative.
"""

from typing import Annotated

from pydantic import Field

from pipelines.reference.contracts.grid import GridConnection, SupplyTariff
from pipelines.reference.contracts.power import (
    BaseloadPpa,
    Collar,
    FixedShapePpa,
    PayAsProducedPpa,
    VirtualPpa,
)
from pipelines.reference.contracts.service import BatteryTolling, CloudCommitment, HpcAllocation

Contract = Annotated[
    PayAsProducedPpa
    | BaseloadPpa
    | FixedShapePpa
    | VirtualPpa
    | Collar
    | GridConnection
    | SupplyTariff
    | BatteryTolling
    | CloudCommitment
    | HpcAllocation,
    Field(discriminator="kind"),
]
