"""Power purchase agreements, one model per kind, with the rules one contract can break by itself.

What belongs here: energy, or what it is worth, from a plant or a schedule. What does not: contracts
on the grid (`grid.py`) and on capacity of others (`service.py`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.contracts.base import BaseContract, Hours, Months
from pipelines.reference.documents import Place
from pipelines.reference.fields import Amount, EnergySource, Identifier, Model, Month, Share, Terms

TwelveMonths = Annotated[list[Amount], Field(min_length=12, max_length=12)]
_BAND = (
    "annual_volume_mwh",
    "tolerance_ratio",
    "shortfall_price_per_mwh",
    "excess_price_per_mwh",
)
_PLANT = ("plant_meter_id", "plant_capacity_mw", "share_of_plant")


class FixedEscalation(Model):
    """Prices rise by the same ratio every whole year after the base date."""

    kind: Literal["fixed"]
    """fixed: by the same ratio every year."""
    base_date: date
    """Date from which whole years count, as 2026-01-01."""
    ratio_per_year: Annotated[float, Field(gt=-1)]
    """Rise a year, such as 0.02; negative where prices fall."""


class CpiEscalation(Model):
    """Prices follow a price index, read some months before each anniversary of the base date.

    Floor and cap bound the ratio to the base price: each compounds over the years since.
    """

    kind: Literal["cpi"]
    """cpi: by a price index."""
    base_date: date
    """Date whose anniversaries change the price, as 2026-01-01."""
    index: Identifier
    """Index as price_indices.csv names it."""
    base_month: Month
    """Month of the index that the price agreed rests on, as 2025-10."""
    lag_months: Annotated[int, Field(ge=0, le=24)]
    """Months before each anniversary at which the index is read."""
    floor_ratio_per_year: Annotated[float, Field(gt=-1)] | None = None
    """Least rise a year, such as 0; left out: none."""
    cap_ratio_per_year: Annotated[float, Field(gt=-1)] | None = None
    """Greatest rise a year, such as 0.03; left out: none."""

    @model_validator(mode="after")
    def _floor_is_below_cap(self) -> "CpiEscalation":
        floor, cap = self.floor_ratio_per_year, self.cap_ratio_per_year
        if floor is not None and cap is not None and floor > cap:
            raise PydanticCustomError(
                "escalation",
                "found floor_ratio_per_year {floor} above cap_ratio_per_year {cap}, expected it at"
                " most as high: correct one of the two",
                {"floor": floor, "cap": cap},
            )
        return self


Escalation = Annotated[FixedEscalation | CpiEscalation, Field(discriminator="kind")]


class EnergyTerms(Terms):
    """What all power purchase agreements may agree on.

    A clause for negative prices looks at means of `negative_price_period_minutes`, whose clock need
    not be that of settlement: Germany's law has counted hours, and their mean, of contracts that
    settle by the quarter-hour. How many hours in a row it asks for changes with the terms.
    """

    certificate_price_per_mwh: float | None = None
    """Price of each MWh's certificate; needed where certificates are separate, else left out."""
    escalation: Escalation | None = None
    """How prices rise over the years; left out: they stay."""
    negative_price_clause: Literal["none", "no_volume", "zero_floor"] = "none"
    """no_volume: nothing is paid at negative market prices. zero_floor: they count as 0. Left
    out: none."""
    negative_price_period_minutes: Literal[15, 30, 60] | None = None
    """Minutes whose mean price the clause looks at; left out: the settlement period."""
    negative_price_hours: Annotated[int, Field(ge=1, le=24)] = 1
    """Negative hours in a row that the clause asks for; left out: 1."""
    negative_price_scope: Literal["whole_run", "remainder"] = "whole_run"
    """whole_run: the clause holds for the whole run. remainder: from the hours asked for on.
    Left out: whole_run."""
    annual_volume_mwh: Annotated[float, Field(gt=0)] | None = None
    """Volume agreed for a year, in MWh; left out: no band."""
    tolerance_ratio: Share | None = None
    """Share of that volume that may be missing or beyond it, such as 0.1; left out with
    annual_volume_mwh."""
    shortfall_price_per_mwh: Amount | None = None
    """Price of each MWh missing below the band; left out with annual_volume_mwh."""
    excess_price_per_mwh: float | None = None
    """Price of each MWh beyond the band; left out with annual_volume_mwh."""
    p50_mwh: TwelveMonths | None = None
    """Volume of the whole plant expected in each month, January to December, in MWh; left out:
    not known."""
    p90_mwh: TwelveMonths | None = None
    """Volume exceeded in 90 of 100 years in each month, in MWh; left out: not known."""

    @model_validator(mode="after")
    def _band_is_whole(self) -> "EnergyTerms":
        missing = [name for name in _BAND if getattr(self, name) is None]
        if missing and len(missing) < len(_BAND):
            raise PydanticCustomError(
                "band",
                "found a volume band without {missing}, expected all of {band}, or none: add what"
                " is missing",
                {"missing": ", ".join(missing), "band": ", ".join(_BAND)},
            )
        return self

    @model_validator(mode="after")
    def _hours_have_a_clause(self) -> "EnergyTerms":
        is_plain = not self.has_negative_runs and self.negative_price_period_minutes is None
        if self.negative_price_clause == "none" and not is_plain:
            raise PydanticCustomError(
                "negative_price",
                "found negative_price_hours, negative_price_scope or negative_price_period_minutes"
                " without a clause they belong to: set negative_price_clause or remove them",
            )
        if (
            self.negative_price_clause == "zero_floor"
            and self.negative_price_period_minutes is not None
        ):
            raise PydanticCustomError(
                "negative_price",
                "found negative_price_period_minutes with zero_floor, which floors the price of the"
                " settlement period itself: remove it, or make the clause no_volume",
            )
        return self

    @property
    def has_negative_runs(self) -> bool:
        """Whether the clause asks for several negative hours in a row, or spares the first."""
        return self.negative_price_hours > 1 or self.negative_price_scope == "remainder"

    @model_validator(mode="after")
    def _p90_is_below_p50(self) -> "EnergyTerms":
        if self.p90_mwh is not None and (
            self.p50_mwh is None
            or any(p90 > p50 for p90, p50 in zip(self.p90_mwh, self.p50_mwh, strict=True))
        ):
            raise PydanticCustomError(
                "expected_volume",
                "found p90_mwh above p50_mwh, expected in every month at most as much: what is"
                " exceeded in 90 of 100 years is the smaller; correct one of the two",
            )
        return self


class PriceTerms(EnergyTerms):
    """Price of a physical power purchase agreement."""

    price_per_mwh: float
    """Price of each MWh; of a vppa_cfd its strike."""


class BaseloadTerms(PriceTerms):
    """Constant power, and who bears what the plant makes more or less than that.

    With shape_risk seller the whole is paid at the contract price. With buyer, the buyer pays the
    contract price for its share of what the plant made, and the market's price for the rest.
    """

    baseload_mw: Annotated[float, Field(gt=0)]
    """Constant power, in MW."""
    shape_risk: Literal["seller", "buyer"]
    """Who bears what the plant makes more or less than that."""


class ShapeWindow(Model):
    """Local months (inclusive) and hours (half-open) of a kind of day with constant power."""

    months: Months = (1, 12)
    """First and last local month, both included, as [4, 9]; left out: all."""
    day_kind: Literal["all", "workday", "weekend"] = "all"
    """Days on which it holds; left out: all."""
    hours: Hours = (0, 24)
    """First local hour and the one at which it ends, as [8, 20]; left out: all."""
    mw: Amount
    """Constant power in that time, in MW."""

    @model_validator(mode="after")
    def _is_forward(self) -> "ShapeWindow":
        if self.months[0] > self.months[1] or self.hours[0] >= self.hours[1]:
            raise PydanticCustomError(
                "window",
                "expected months and hours that run forward: split the window where the year or"
                " the day ends",
            )
        return self


class ShapeTerms(PriceTerms):
    """Power by month, kind of day and hour; 0 where no window says otherwise."""

    shape: Annotated[list[ShapeWindow], Field(min_length=1)]
    """Power by month, kind of day and hour; 0 where no window says otherwise."""

    @model_validator(mode="after")
    def _windows_are_apart(self) -> "ShapeTerms":
        powers = Counter(
            (month, day_kind, hour)
            for window in self.shape
            for month in range(window.months[0], window.months[1] + 1)
            for day_kind in ("workday", "weekend")
            if window.day_kind in ("all", day_kind)
            for hour in range(*window.hours)
        )
        for (month, day_kind, hour), count in powers.items():
            if count > 1:
                raise PydanticCustomError(
                    "shape",
                    "found {count} powers for month {month}, {day_kind}, hour {hour}, expected at"
                    " most one: correct months, day_kind or hours",
                    {"count": count, "month": month, "day_kind": day_kind, "hour": hour},
                )
        return self


class StrikeTerms(PriceTerms):
    """The price is the strike of a contract for difference, which one of the two pays."""

    fixed_price_payer: Literal["buyer", "counterparty"] = "buyer"
    """Who pays the fixed price; left out: buyer."""


class CollarTerms(EnergyTerms):
    """The market's price, but never below the floor or above the cap."""

    floor_price_per_mwh: float
    """Lowest price of each MWh."""
    cap_price_per_mwh: float
    """Highest price of each MWh."""

    @model_validator(mode="after")
    def _floor_is_below_cap(self) -> "CollarTerms":
        if self.floor_price_per_mwh > self.cap_price_per_mwh:
            raise PydanticCustomError(
                "collar",
                "found floor_price_per_mwh {floor} above cap_price_per_mwh {cap}, expected it at"
                " most as high: correct one of the two",
                {"floor": self.floor_price_per_mwh, "cap": self.cap_price_per_mwh},
            )
        return self


def _lines(*energy: str) -> dict[str, str | None]:
    """What is paid for the energy, and what every power purchase agreement may settle besides."""
    return dict.fromkeys((*energy, "certificates", "shortfall", "excess"), "ppa")


class PlantContract(BaseContract):
    """A power purchase agreement: energy, or what it is worth, from a plant or a schedule.

    The market price it settles against is the mean of its settlement period: of minutes, or of the
    contract's local month, as the reference price of a market premium is.
    """

    settlement_model: ClassVar[str] = "int_ppa_settlements"
    lines: ClassVar[Mapping[str, str | None]] = _lines("energy")
    is_ppa: ClassVar[bool] = True
    is_delivered: ClassVar[bool] = True
    plant_meter_id: str | None = None
    """Meter of the plant, as declared in meters.yml; left out: no plant."""
    plant_capacity_mw: Annotated[float, Field(gt=0)] | None = None
    """Capacity of the whole plant, in MW; left out: no plant."""
    share_of_plant: Share | None = None
    """Share of the plant's production that is the buyer's, such as 0.5; left out: no plant."""
    settlement_zone: str
    """Zone of the market price, as declared in organization.yml."""
    market: Literal["day_ahead", "real_time"]
    """Market whose price counts."""
    settlement_period_minutes: Literal[15, 30, 60, "month"] = 15
    """Minutes of a settlement period, or month; left out: 15."""
    energy_source: EnergySource
    """What the energy is made of."""
    certificates: Literal["bundled", "separate", "none"]
    """bundled: within the price. separate: at a price of their own. none: the buyer gets none."""
    terms: Sequence[EnergyTerms]
    """Prices, each since when they hold."""

    @model_validator(mode="after")
    def _plant_is_whole(self) -> "PlantContract":
        missing = [name for name in _PLANT if getattr(self, name) is None]
        if missing and len(missing) < len(_PLANT):
            raise PydanticCustomError(
                "plant",
                "found a plant without {missing}, expected all of {plant}, or none: add what is"
                " missing",
                {"missing": ", ".join(missing), "plant": ", ".join(_PLANT)},
            )
        return self


class _MeteredContract(PlantContract):
    volume_basis: ClassVar[Literal["plant", "baseload", "shape"] | None] = "plant"
    plant_meter_id: str
    """Meter of the plant, as declared in meters.yml."""
    plant_capacity_mw: Annotated[float, Field(gt=0)]
    """Capacity of the whole plant, in MW."""
    share_of_plant: Share
    """Share of the plant's production that is the buyer's, such as 0.5."""


class PayAsProducedPpa(_MeteredContract):
    """Physical PPA: the buyer takes and pays its share of what the plant produced."""

    kind: Literal["ppa_pay_as_produced"]
    """ppa_pay_as_produced: the buyer takes its share of what the plant made."""
    terms: Annotated[list[PriceTerms], Field(min_length=1)]
    """Prices, each since when they hold."""


class BaseloadPpa(PlantContract):
    """Physical PPA: the buyer takes and pays constant power."""

    volume_basis: ClassVar[Literal["plant", "baseload", "shape"] | None] = "baseload"
    lines: ClassVar[Mapping[str, str | None]] = _lines("energy", "shape")
    kind: Literal["ppa_baseload"]
    """ppa_baseload: the buyer takes constant power."""
    terms: Annotated[list[BaseloadTerms], Field(min_length=1)]
    """Prices and power, each since when they hold."""


class FixedShapePpa(PlantContract):
    """Physical PPA: the buyer takes and pays power by a schedule."""

    volume_basis: ClassVar[Literal["plant", "baseload", "shape"] | None] = "shape"
    kind: Literal["ppa_fixed_shape"]
    """ppa_fixed_shape: the buyer takes power by a schedule."""
    terms: Annotated[list[ShapeTerms], Field(min_length=1)]
    """Prices and schedule, each since when they hold."""


class VirtualPpa(_MeteredContract):
    """Financial PPA: strike against floating price on the buyer's share of the production."""

    is_delivered: ClassVar[bool] = False
    lines: ClassVar[Mapping[str, str | None]] = _lines("difference")
    kind: Literal["vppa_cfd"]
    """vppa_cfd: strike against market price on a share of the plant, no delivery."""
    terms: Annotated[list[StrikeTerms], Field(min_length=1)]
    """Strikes, each since when they hold."""


class Collar(_MeteredContract):
    """Physical PPA at the market's price within a floor and a cap."""

    is_collared: ClassVar[bool] = True
    kind: Literal["collar"]
    """collar: the market's price within a floor and a cap."""
    terms: Annotated[list[CollarTerms], Field(min_length=1)]
    """Floor and cap, each since when they hold."""


def mistakes_in_terms(contract: PlantContract) -> Iterator[tuple[Place, str]]:
    """Terms that do not fit the contract they stand in: where, and what is wrong."""
    for index, terms in enumerate(contract.terms):
        place: Place = ["terms", index]
        if (
            contract.settlement_period_minutes == "month"
            and terms.has_negative_runs
            and terms.negative_price_period_minutes is None
        ):
            yield (
                [*place, "negative_price_period_minutes"],
                "not found, expected it where a contract that settles by the month counts negative"
                " hours: add 15, 30 or 60",
            )
        if contract.certificates == "separate" and terms.certificate_price_per_mwh is None:
            yield (
                [*place, "certificate_price_per_mwh"],
                "not found, expected it where certificates are separate: add the field",
            )
        if contract.certificates != "separate" and terms.certificate_price_per_mwh is not None:
            yield (
                [*place, "certificate_price_per_mwh"],
                f"found {terms.certificate_price_per_mwh}, expected none where certificates are"
                f" {contract.certificates}: remove it or make them separate",
            )
        if terms.negative_price_clause == "zero_floor" and not isinstance(
            terms, StrikeTerms | CollarTerms
        ):
            yield (
                [*place, "negative_price_clause"],
                "found 'zero_floor', expected none or no_volume: only a vppa_cfd or a collar has a"
                " floating price to floor",
            )
        if (
            isinstance(terms, BaseloadTerms)
            and terms.shape_risk == "buyer"
            and contract.plant_meter_id is None
        ):
            yield (
                [*place, "shape_risk"],
                "found 'buyer', expected plant_meter_id, plant_capacity_mw and share_of_plant with"
                " it: without the plant's reading nobody knows the rest",
            )
