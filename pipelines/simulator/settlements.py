"""What the contracts on plants settle at, worked out from the plants' true output.

What belongs here: each line of each contract by interval, as its terms say. What does not: rounding
and months (`invoices.py`), exchange rates (`truth.py`), and any part of the pipeline.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulator import clock
from pipelines.simulator.clock import Bools, Floats
from pipelines.simulator.world import World

_ZONE = "US-TEX-ERCO"


@dataclass(frozen=True)
class SettledLine:
    """A line of a contract under one version of its terms, over the intervals they hold for."""

    terms: Mapping[str, Any]
    """Row of the reference table `contracts`."""
    line: str
    first: int
    """Interval of the world that the arrays begin with."""
    metered_kwh: Floats
    """What the plant's meter counts, in whole watt-hours."""
    price: Floats
    """Price or strike after escalation; contract currency per MWh."""
    spot: Floats
    """Market price, before any floor; contract currency per MWh."""

    @property
    def contract_id(self) -> str:
        """The contract."""
        return str(self.terms["contract_id"])

    @property
    def is_floating(self) -> bool:
        """Whether each interval has a price of its own."""
        return self.line == "difference"

    @property
    def starts(self) -> pl.Series:
        """The start of each interval, UTC."""
        return clock.interval_starts().slice(self.first, len(self.spot))

    def quantity_mwh(self, *, has_clause: bool = True) -> Floats:
        """Volume settled; `has_clause` says whether negative prices void it as agreed."""
        share_mwh = self.metered_kwh * self.terms["share_of_plant"] / 1000
        if has_clause and self.terms["negative_price_clause"] == "no_volume":
            return np.where(self.spot < 0, 0.0, share_mwh)
        return share_mwh

    def unit_price(self, *, has_clause: bool = True) -> Floats:
        """Contract currency per MWh; `has_clause` says whether it is floored as agreed."""
        if not self.is_floating:
            return self.price
        is_floored = has_clause and self.terms["negative_price_clause"] == "zero_floor"
        return self.price - (np.maximum(self.spot, 0) if is_floored else self.spot)


def settled_lines(
    world: World, tables: Mapping[str, pl.DataFrame], count: int
) -> Iterator[SettledLine]:
    """The lines of every contract on a plant, up to interval `count`."""
    spot = world.zones[_ZONE].price_per_mwh
    if spot is None:
        raise ValueError(f"zone {_ZONE} has no market price")
    names = {"ppa_pay_as_produced": "energy", "vppa_cfd": "difference"}
    for terms in tables["contracts"].filter(pl.col("kind").is_in(names)).iter_rows(named=True):
        first = min(count, max(0, clock.interval_index(terms["valid_from_at"])))
        last = count
        if terms["valid_to_at"] is not None:
            last = max(first, min(count, clock.interval_index(terms["valid_to_at"])))
        yield SettledLine(
            terms=terms,
            line=names[terms["kind"]],
            first=first,
            metered_kwh=np.round(world.ppa_kwh[terms["plant_meter_id"]][first:last], 3),
            price=_price(terms, clock.interval_starts().slice(first, last - first)),
            spot=spot[first:last],
        )


def _price(terms: Mapping[str, Any], starts: pl.Series) -> Floats:
    years = np.zeros(len(starts))
    if terms["escalation_kind"] == "fixed":
        dates = starts.dt.convert_time_zone(terms["time_zone"]).dt.date()
        years = contract_years(terms["escalation_base_date"], dates)
    elif terms["escalation_kind"] is not None:
        raise ValueError(
            f"{terms['contract_id']} escalates by {terms['escalation_kind']}, which the simulated"
            " counterparties do not do: expected fixed or none"
        )
    ratio = 1 + (terms["escalation_ratio_per_year"] or 0.0)
    return np.round(terms["price_per_mwh"] * ratio**years, 9)


def contract_years(base_date: date, dates: pl.Series) -> Floats:
    """Whole years from the base date to each date, none before it."""
    is_before = dates.dt.strftime("%m-%d") < f"{base_date:%m-%d}"
    years = dates.dt.year() - base_date.year - is_before.cast(pl.Int32)
    return years.clip(0).cast(pl.Float64).to_numpy()


def within(line: SettledLine, started_at: datetime, ended_at: datetime) -> Bools:
    """Which intervals of a line begin in a half-open span of time."""
    starts = line.starts
    inside = (starts >= started_at.astimezone(UTC)) & (starts < ended_at.astimezone(UTC))
    return inside.to_numpy()
