"""What contracts of every kind have in common.

What belongs here: the fields that stand in each file of `contracts/`. What does not: the kinds
(`power.py`, `grid.py`, `service.py`).
"""

from typing import Annotated, Literal

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
    """Who a contract is with, whose energy or capacity it is about, and how it is invoiced."""

    contract_id: Identifier
    name: str
    site_id: str
    counterparty: str
    time_zone: TimeZone
    currency_code: Currency
    tax_treatment: Literal["standard", "reverse_charge", "exempt", "outside_scope"] = "standard"
    tax_ratio: Share = 0
    rounding: Literal["half_even", "half_up"] = "half_even"

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
