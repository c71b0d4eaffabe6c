"""Tariffs: what grid energy costs besides the contracts.

What belongs here: `tariffs.yml`. What does not: contracts (`contracts.py`) and market prices, which
are measured.
"""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.reference.fields import Amount, Currency, Model, Terms


class TariffPeriod(Model):
    """Local months (inclusive) and hours (half-open) in which an energy price holds."""

    # YAML has lists only, which a strict model does not take for a pair.
    months: Annotated[
        tuple[Annotated[int, Field(ge=1, le=12)], Annotated[int, Field(ge=1, le=12)]],
        Field(strict=False),
    ]
    hours: Annotated[
        tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=1, le=24)]],
        Field(strict=False),
    ]
    energy_price_per_mwh: float


class Tariff(Terms):
    """What a site pays for energy from the grid besides its contracts."""

    site_id: str
    currency_code: Currency
    price_basis: Literal["spot", "fixed"]
    network_per_mwh: Amount
    levies_per_mwh: Amount
    demand_charge_per_kw: Amount
    export_price_per_mwh: float | None = None
    periods: Annotated[list[TariffPeriod], Field(min_length=1)]


class Tariffs(Model):
    """All of `tariffs.yml`."""

    tariffs: list[Tariff]
