"""Contracts, one model per kind, and the list of the kinds there are.

What belongs here: what a file of `contracts/` may be: what all kinds have in common (`base.py`),
power purchase agreements (`power.py`), contracts on the grid (`grid.py`) and on capacity of others
(`service.py`). What does not: rules over several files (`pipelines/reference/checks.py`), and what
a contract costs (dbt).

Prices and fees are in the contract's currency; a price the buyer receives is negative.
"""

from typing import Annotated, get_args

from pydantic import Field

from pipelines.reference.contracts.base import BaseContract
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

KINDS: dict[str, type[BaseContract]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model
    for model in get_args(get_args(Contract)[0])
}
"""The model of each kind, by its name in a file."""
