"""Emission factors: what is declared of carbon.

What belongs here: `emission_factors.yml`. What does not: the hourly carbon intensity of a zone,
which is measured.
"""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import Amount, Basis, EnergySource, Identifier, Model, Terms


class EmissionFactor(Terms):
    """Grams CO2e per kWh of a production type, or of a zone's residual mix."""

    factor_id: Identifier
    """Short name of the factor, such as residual-DE-direct."""
    kind: Literal["residual_mix", "production_type"]
    """residual_mix: of what is left in a zone. production_type: of a way of generating."""
    zone: str | None = None
    """Zone of a residual_mix, as declared in organization.yml; else left out."""
    energy_source: EnergySource | None = None
    """What a production_type generates from; else left out."""
    basis: Basis
    """direct: CO2e of operation. life_cycle: CO2e of building, fuel and operation."""
    value_g_per_kwh: Amount
    """Grams of CO2e per kWh."""
    source: str
    """Where the value comes from."""
    version: str
    """Version or year of the source in quotes, such as '2025'."""
    is_marginal: bool
    """Whether it is of the last kWh generated rather than of the mean."""

    @model_validator(mode="after")
    def _names_what_it_is_for(self) -> "EmissionFactor":
        needed = "zone" if self.kind == "residual_mix" else "energy_source"
        if getattr(self, needed) is None:
            raise PydanticCustomError(
                "factor", "a {kind} needs {needed}", {"kind": self.kind, "needed": needed}
            )
        return self


class EmissionFactors(Model):
    """All of `emission_factors.yml`."""

    factors: list[EmissionFactor] = Field(default_factory=list)
    """Average factors by zone or production type."""
