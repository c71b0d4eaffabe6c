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
    kind: Literal["residual_mix", "production_type"]
    zone: str | None = None
    energy_source: EnergySource | None = None
    basis: Basis
    value_g_per_kwh: Amount
    source: str
    version: str
    is_marginal: bool

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
