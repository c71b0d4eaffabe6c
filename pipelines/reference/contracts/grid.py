"""Contracts on a site's energy from the public grid: its connection and its supply.

What belongs here: the fields of these kinds and the rules one of them can break by itself. What
does not: rules over several contracts (`checks.py`), and what a contract costs (dbt).
"""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date
from typing import Annotated, ClassVar, Literal

import holidays
from pydantic import Field, field_validator, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from pipelines.reference.contracts.base import BaseContract, Hours, Months
from pipelines.reference.fields import Amount, Model, Share, Terms, text_like

DayKind = Literal["all", "workday", "weekend_or_holiday"]
_DAY_KINDS: dict[DayKind, tuple[DayKind, ...]] = {
    "all": ("workday", "weekend_or_holiday"),
    "workday": ("workday",),
    "weekend_or_holiday": ("weekend_or_holiday",),
}


def holidays_of(calendar: str, years: Collection[int]) -> list[date]:
    """Public holidays of a calendar in these years.

    Raises:
        NotImplementedError: The library knows no such country or subdivision.
    """
    country, _, subdivision = calendar.partition("-")
    return sorted(holidays.country_holidays(country, subdiv=subdivision or None, years=years))


def _known_calendar(calendar: str) -> str:
    try:
        holidays_of(calendar, [2026])
    except NotImplementedError:
        raise PydanticCustomError(
            "holiday_calendar",
            "expected a country, or country and subdivision, as US or DE-NW: correct the name",
        ) from None
    return calendar


Calendar = Annotated[
    str,
    AfterValidator(_known_calendar),
    text_like("a country, or country and subdivision, as US or DE-NW", "DE-NW"),
]


class ConnectionTerms(Terms):
    """What the use of the grid costs."""

    contracted_kw: Amount
    """Power contracted of the grid, in kW."""
    capacity_charge_per_kw_month: Amount
    """Charge of each contracted kW and month."""
    network_per_mwh: Amount
    """Network charge of each MWh drawn."""
    levies_per_mwh: Amount
    """Levies on each MWh drawn."""
    demand_charge_per_kw: Amount
    """Charge of each kW of the month's greatest demand."""
    demand_period_minutes: Literal[15, 30, 60] = 15
    """Minutes over which demand is averaged; left out: 15."""
    ratchet_ratio: Share | None = None
    """Share of the greatest demand of the months before that is billed at least; left out: none."""
    ratchet_months: Annotated[int, Field(ge=1, le=12)] | None = None
    """Months back that count for it; left out with ratchet_ratio."""

    @model_validator(mode="after")
    def _has_a_whole_ratchet(self) -> "ConnectionTerms":
        if (self.ratchet_ratio is None) != (self.ratchet_months is None):
            raise PydanticCustomError(
                "ratchet",
                "expected ratchet_ratio and ratchet_months, or neither: add the other of the two",
            )
        return self


class GridConnection(BaseContract):
    """Connection to the public grid: network charges by energy, capacity and greatest demand."""

    settlement_model: ClassVar[str] = "int_grid_settlements"
    lines: ClassVar[Mapping[str, str | None]] = {
        "network": "network",
        "levies": "levies",
        "demand": "demand",
        "capacity": "capacity",
    }
    kind: Literal["grid_connection"]
    """grid_connection: network charges by energy, capacity and greatest demand."""
    terms: Annotated[list[ConnectionTerms], Field(min_length=1)]
    """Charges, each since when they hold."""


class TariffPeriod(Model):
    """Local months (inclusive), hours (half-open) and days in which an energy price holds."""

    months: Months
    """First and last local month, both included, as [1, 12]."""
    hours: Hours
    """First local hour and the one at which it ends, as [0, 24]."""
    day_kind: DayKind = "all"
    """Days on which it holds; left out: all."""
    energy_price_per_mwh: float
    """Price of each MWh; with spot_plus what is added to the market's price."""


class TariffTerms(Terms):
    """What energy costs and surplus earns."""

    price_basis: Literal["flat", "time_of_use", "spot_plus"]
    """flat: one price. time_of_use: by month, day and hour. spot_plus: the market's price and a
    margin."""
    periods: Annotated[list[TariffPeriod], Field(min_length=1)]
    """Prices; together they cover each hour of the year once."""
    holiday_calendar: Calendar | None = None
    """Public holidays, as US or DE-NW; needed where a period tells days apart, else left out."""
    export_price_per_mwh: float | None = None
    """Price of each MWh fed in; left out: none is paid."""
    credits_contracted_energy: bool
    """Whether energy of power purchase agreements is taken off the bill."""

    @field_validator("periods")
    @classmethod
    def _give_one_price_at_a_time(cls, periods: list[TariffPeriod]) -> list[TariffPeriod]:
        prices = Counter(
            (month, hour, day_kind)
            for period in periods
            for month in range(period.months[0], period.months[1] + 1)
            for hour in range(*period.hours)
            for day_kind in _DAY_KINDS[period.day_kind]
        )
        for month in range(1, 13):
            for hour in range(24):
                for day_kind in _DAY_KINDS["all"]:
                    if prices[month, hour, day_kind] != 1:
                        raise PydanticCustomError(
                            "periods",
                            "found {count} prices for month {month}, hour {hour}, {day_kind},"
                            " expected one for each: correct months, hours and day_kind",
                            {
                                "count": prices[month, hour, day_kind],
                                "month": month,
                                "hour": hour,
                                "day_kind": day_kind,
                            },
                        )
        return periods

    @model_validator(mode="after")
    def _fits_its_basis(self) -> "TariffTerms":
        if self.price_basis == "flat" and len(self.periods) > 1:
            raise PydanticCustomError(
                "flat",
                "found {count} periods of a flat price, expected one: keep one or make price_basis"
                " time_of_use",
                {"count": len(self.periods)},
            )
        knows_days = any(period.day_kind != "all" for period in self.periods)
        if knows_days and self.holiday_calendar is None:
            raise PydanticCustomError(
                "holiday_calendar",
                "expected holiday_calendar, as US or DE-NW, where a period is for workdays or"
                " weekend_or_holiday: add it",
            )
        return self


class SupplyTariff(BaseContract):
    """What a supplier charges for energy from the grid and pays for what is fed in."""

    settlement_model: ClassVar[str] = "int_grid_settlements"
    lines: ClassVar[Mapping[str, str | None]] = {
        "energy": "tariff_energy",
        "export": "export",
        "contract_credit": "ppa",
    }
    kind: Literal["supply_tariff"]
    """supply_tariff: energy from a supplier, and pay for what is fed in."""
    terms: Annotated[list[TariffTerms], Field(min_length=1)]
    """Prices, each since when they hold."""
