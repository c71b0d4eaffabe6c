"""What contracts of every kind have in common.

What belongs here: the fields that stand in each file of `contracts/`. What does not: the kinds
(`power.py`, `grid.py`, `service.py`).
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import Currency, Identifier, Model, Share, TimeZone

# YAML has lists only, which a strict model does not take for a pair.
Months = Annotated[
    tuple[Annotated[int, Field(ge=1, le=12)], Annotated[int, Field(ge=1, le=12)]],
    Field(strict=False),
]
Hours = Annotated[
    tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=1, le=24)]],
    Field(strict=False),
]


class BaseContract(Model):
    """Who a contract is with, whose energy or capacity it is about, and how it is invoiced.

    What a kind is, it says in class variables; they reach SQL as `contract_kinds` and
    `contract_lines`, so that no query has to list kinds.
    """

    settlement_model: ClassVar[str]
    """The dbt model that settles it, one of those `fct_contract_settlements` reads."""
    lines: ClassVar[Mapping[str, str | None]]
    """What it settles in the order of its statement, each with the component of the all-in cost it
    belongs to; none where a provider's bill holds its cost already."""
    is_ppa: ClassVar[bool] = False
    """Whether it is a power purchase agreement: energy, or its worth, at an agreed price."""
    is_delivered: ClassVar[bool] = False
    """Whether it brings energy that stands on the site's balance; a financial one does not."""
    volume_basis: ClassVar[Literal["plant", "baseload", "shape"] | None] = None
    """What its volume is counted by: a share of a plant, constant power or a schedule."""
    is_collared: ClassVar[bool] = False
    """Whether its energy is paid at the market's price within a floor and a cap."""
    owner: ClassVar[Literal["energy", "finance"]] = "energy"
    """Who decides on its renewal."""
    after_end: ClassVar[str] = "After that its volume is open to the market."
    """What follows when it ends and nobody acts; `{site_id}` stands for its site."""

    contract_id: Identifier
    """Short name of the contract, such as berlin-supply."""
    name: str
    """Name of the contract as people read it."""
    site_id: str
    """Site whose energy or capacity it is about."""
    counterparty: str
    """Who it is with."""
    time_zone: TimeZone
    """IANA time zone of its days and months, such as Europe/Berlin."""
    currency_code: Currency
    """Currency of its prices and invoices, such as EUR."""
    tax_treatment: Literal["standard", "reverse_charge", "exempt", "outside_scope"] = "standard"
    """How its invoices are taxed; left out: standard."""
    tax_ratio: Share = 0
    """Share of tax on top, such as 0.19, with standard alone; left out: 0."""
    rounding: Literal["half_even", "half_up"] = "half_even"
    """Half a cent goes to the even one or up; left out: half_even."""
    are_prices_public: bool = False
    """Whether anybody may know its prices, as those of a published tariff. Prices of other
    contracts are confidential: operations gets what rests on them rounded or not at all."""

    @model_validator(mode="after")
    def _tax_is_standard(self) -> "BaseContract":
        if self.tax_treatment != "standard" and self.tax_ratio:
            raise PydanticCustomError(
                "tax",
                "found tax_ratio {ratio} with tax_treatment {treatment}, expected 0 unless it is"
                " standard: correct one of the two",
                {"ratio": self.tax_ratio, "treatment": self.tax_treatment},
            )
        return self
