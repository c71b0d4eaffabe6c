"""What a site costs besides electricity: machines and buildings written off, operations.

What belongs here: `site_costs.yml`. What does not: anything a contract charges (`contracts/`),
and the share a workload bears (dbt).
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import Currency, Identifier, Model, Terms


class SiteCost(Terms):
    """A cost that a site bears evenly over time.

    `amount` of a depreciation is what is written off over its whole time, in a straight line; of
    operations it is the cost of each local month.
    """

    cost_id: Identifier
    """Short name of the cost, such as berlin-servers."""
    site_id: str
    """Site that bears it."""
    kind: Literal["depreciation", "operations"]
    """depreciation: written off evenly over its time. operations: the same each month."""
    name: str
    """Name of the cost as people read it."""
    amount: Annotated[float, Field(gt=0)]
    """Money in its currency: of a depreciation for its whole time, of operations for each local
    month."""
    currency_code: Currency
    """Currency of the amount, such as EUR."""
    valid_to: date | None = None
    """Local date from which on it no longer holds; needed of a depreciation, else left out for
    no end."""

    @model_validator(mode="after")
    def _is_written_off_at_last(self) -> "SiteCost":
        if self.kind == "depreciation" and self.valid_to is None:
            raise PydanticCustomError(
                "depreciation",
                "found no valid_to, expected the date up to which it is written off: add it",
            )
        return self


class SiteCosts(Model):
    """All of `site_costs.yml`."""

    costs: list[SiteCost] = Field(default_factory=list)
    """What sites cost besides electricity."""
