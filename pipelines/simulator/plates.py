"""Nameplates of the simulated sites, taken from the reference data.

What belongs here: the few figures of sites and batteries the physics needs. What does not: the
physics. Everything is read from `data/reference`, so that the world and the book agree by
construction on what was built.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

import polars as pl

Plate = TypeVar("Plate", "TermPlate", "BatteryPlate")


@dataclass(frozen=True)
class TermPlate:
    """Terms of a site for a half-open span of time."""

    valid_from_at: datetime
    valid_to_at: datetime | None
    grid_firm_mw: float
    grid_non_firm_mw: float
    electrical_limit_mw: float
    cooling_limit_mw: float
    it_capacity_mw: float
    design_pue: float
    local_committed_mw: float
    is_local_islandable: bool
    sustain_hours: float
    price_stop_per_mwh: float | None


@dataclass(frozen=True)
class BatteryPlate:
    """A battery's nameplate; power and energy at its terminals."""

    battery_id: str
    power_mw: float
    energy_mwh: float
    reserve_ratio: float
    charge_efficiency: float
    discharge_efficiency: float
    degradation_cost_per_mwh: float
    power_sign: str
    """Of the battery's reported power: discharge_positive or charge_positive."""
    valid_from_at: datetime


@dataclass(frozen=True)
class SitePlate:
    """A site as built."""

    site_id: str
    time_zone: str
    cluster: str
    grid_event_target: str
    hostnames: list[str]
    gpus_per_node: int
    gpu_idle_w: float
    gpu_peak_w: float
    host_idle_w: float
    host_peak_w: float
    currency_code: str
    terms: tuple[TermPlate, ...]
    batteries: tuple[BatteryPlate, ...] = ()


def read_plates(tables: Mapping[str, pl.DataFrame]) -> dict[str, SitePlate]:
    """The sites with machines of their own, from the flattened reference tables."""
    plates = {}
    for (site_id,), nodes in tables["nodes"].group_by("site_id", maintain_order=True):
        terms = tables["sites"].filter(pl.col("site_id") == site_id).sort("valid_from_at")
        batteries = tables["batteries"].filter(pl.col("site_id") == site_id)
        site, machine = terms.row(0, named=True), nodes.row(0, named=True)
        cluster = tables["clusters"].filter(pl.col("site_id") == site_id).row(0, named=True)
        plates[str(site_id)] = SitePlate(
            site_id=site["site_id"],
            time_zone=site["time_zone"],
            cluster=cluster["cluster"],
            grid_event_target=site["grid_event_target"],
            hostnames=nodes["hostname"].sort().to_list(),
            gpus_per_node=machine["gpu_count"],
            gpu_idle_w=machine["idle_w"],
            gpu_peak_w=machine["peak_w"],
            host_idle_w=machine["host_idle_w"],
            host_peak_w=machine["host_peak_w"],
            currency_code=site["currency_code"],
            terms=tuple(_from_row(TermPlate, row) for row in terms.iter_rows(named=True)),
            batteries=tuple(
                _from_row(BatteryPlate, row)
                for row in batteries.sort("valid_from_at").iter_rows(named=True)
            ),
        )
    return plates


def _from_row(plate: type[Plate], row: Mapping[str, Any]) -> Plate:
    return plate(**{field.name: row[field.name] for field in fields(plate)})
