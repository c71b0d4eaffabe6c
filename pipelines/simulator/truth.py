"""The truth about the simulated world: what a book without error would find.

What belongs here: the book's definitions worked out once more, in numpy, from the physical state
and the reference data. What does not: any landed file and any part of the pipeline; the two must
stay independent, or comparing them would prove nothing.

Power is kW or MW, energy kWh, money EUR. Arrays hold one value per interval from the world's start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.accounting import job_rows
from pipelines.simulator.certificates import SCHEMA, certificate_files
from pipelines.simulator.clock import Bools, Floats, Ints
from pipelines.simulator.cloud_bill import COMMITTED_PRICE, ON_DEMAND_PRICE
from pipelines.simulator.invoices import Invoice, invoice_errors, invoices
from pipelines.simulator.plates import SitePlate
from pipelines.simulator.settlements import settled_lines
from pipelines.simulator.site_model import BatteryRun, Telemetry
from pipelines.simulator.site_settlements import SupplyTruth, site_lines, site_settlements
from pipelines.simulator.world import (
    CLOUD_COMMITTED_INSTANCES,
    CLOUD_GPUS_PER_INSTANCE,
    SiteWorld,
    World,
)

Tables = Mapping[str, pl.DataFrame]
BundleKey = tuple[str, int, int]
"""Issuance, first and last certificate."""

_LIMIT_RATIO = 0.98
_FULL_RATIO = 0.999
_MARKET_AHEAD = timedelta(hours=10)
"""Of the days in which Juelich's readings come, before UTC."""
_CERTIFICATE_ZONES = {"juelich": "DE-LU", "sparks": "US-NW-NEVP", "franklin": "US-TEX-ERCO"}
_DEPLETED_RATIO = 0.005
_CAPPED_RATIO = 0.02
_CAUSES = (
    "grid_outage",
    "curtailment_order",
    "storage_unavailable",
    "storage_depleted",
    "power_capping",
    "price_stop",
    "connection_limit",
    "supply_shortfall",
    "workload_shed",
)
"""In order of precedence."""
_INCIDENT_SCHEMA = pl.Schema(
    {
        "site_id": pl.String(),
        "cause": pl.String(),
        "layer": pl.String(),
        "signals": pl.String(),
        "started_at": pl.Datetime("us", "UTC"),
        "ended_at": pl.Datetime("us", "UTC"),
        "slowed_gpu_hours": pl.Float64(),
    }
)


@dataclass(frozen=True)
class _Ledger:
    """A battery as an inventory: averages per stored kWh at each interval."""

    cost_eur: Floats
    location_g: Floats
    market_g: Floats
    hourly_g: Floats


class SiteTruth:
    """Everything the book should say about a site, up to `until`."""

    def __init__(self, world: World, site: SiteWorld, tables: Tables, until: datetime) -> None:
        self.world, self.site, self.tables, self.until = world, site, tables, until
        self.plate: SitePlate = site.plate
        self.count = clock.interval_index(until)
        self.starts = clock.interval_starts().head(self.count)
        run = site.run
        cut = slice(0, self.count)
        self.it, self.cooling, self.other = (
            run.it_kwh[cut],
            run.cooling_kwh[cut],
            run.other_kwh[cut],
        )
        self.facility = run.facility_kwh[cut]
        self.imported, self.exported = run.import_kwh[cut], run.export_kwh[cut]
        self.generation = run.generation_kwh[cut]
        self.charge, self.discharge = run.charge_kwh[cut], run.discharge_kwh[cut]
        self._supply()
        self._prices()
        self._carbon_factors()
        self._waterfall()
        self._margin()

    def _term(self, name: str) -> Floats:
        """A term of the site at each interval."""
        values = np.full(self.count, np.nan)
        for term in self.plate.terms:
            first = max(0, clock.interval_index(term.valid_from_at))
            last = self.count
            if term.valid_to_at is not None:
                last = min(last, max(0, clock.interval_index(term.valid_to_at)))
            value = getattr(term, name)
            values[first:last] = np.nan if value is None else value
        return values

    def _during(self, span: events.Span, site_id: str) -> Bools:
        """Intervals more than half of which lie in a placed event of a site."""
        inside = np.zeros(self.count, dtype=bool)
        if self.plate.site_id == site_id:
            first, last = clock.interval_index(span.started_at), clock.interval_index(span.ended_at)
            inside[first:last] = True
        return inside

    def _supply(self) -> None:
        self.is_out = self._during(events.SPARKS_OUTAGE, "sparks")
        self.is_curtailed = self._during(events.FRANKLIN_CURTAILMENT, "franklin")
        limit = np.where(self.is_curtailed, events.FRANKLIN_CURTAILMENT_LIMIT_KW / 1000, np.inf)
        contracted = self._term("grid_firm_mw") + self._term("grid_non_firm_mw")
        self.grid_mw = np.where(self.is_out, 0.0, np.minimum(contracted, limit))
        hours = self._term("sustain_hours")
        self.batteries = list(self.site.run.batteries)
        storage = np.zeros(self.count)
        self.usable: list[Floats] = []
        for run in self.batteries:
            battery = run.battery
            valid = np.arange(self.count) >= battery.first_interval
            reserve = battery.reserve_ratio * battery.capacity_kwh
            usable = np.where(valid, np.maximum(0, run.stored_kwh[: self.count] - reserve), 0)
            sustained = usable * battery.discharge_efficiency / hours
            available = run.available_discharge_kw[: self.count]
            storage += np.where(valid, np.minimum(available, sustained), 0) / 1000
            self.usable.append(usable)
        local = self.generation / clock.INTERVAL_HOURS / 1000 + storage
        islandable = self._term("is_local_islandable") > 0
        self.local_mw = np.where(self.is_out & ~islandable, 0.0, local)
        capacity = self._term("it_capacity_mw")
        measured = self.it >= 0.1 * capacity * 1000 * clock.INTERVAL_HOURS
        self.pue = np.where(measured, self.facility / self.it, self._term("design_pue"))
        power = np.minimum(self.grid_mw + self.local_mw, self._term("electrical_limit_mw"))
        self.effective_mw = np.minimum(
            np.minimum(power / self.pue, self._term("cooling_limit_mw")), capacity
        )
        self.local_committed_mw = self._term("local_committed_mw")
        self.committed_mw = self._committed()

    def _committed(self) -> Floats:
        plan = self.tables["capacity_plan"].filter(site_id=self.plate.site_id)
        months = self.starts.dt.convert_time_zone(self.plate.time_zone).dt.strftime("%Y-%m")
        by_month = dict(
            zip(
                plan["month"].cast(pl.String).str.slice(0, 7).to_list(),
                plan["committed_it_mw"].to_list(),
                strict=True,
            )
        )
        return np.array([by_month[month] for month in months.to_list()])

    def _prices(self) -> None:
        currency = self.plate.currency_code
        rates = self.tables["fx_rates"].filter(currency_code=currency)
        dates = pl.DataFrame({"rate_date": self.starts.dt.date()})
        self.fx = (
            dates.join(rates, on="rate_date", how="left", maintain_order="left")[
                "rate_to_reporting"
            ]
            .cast(pl.Float64)
            .to_numpy()
        )
        self.spot = self._spot()
        price = np.full(self.count, np.nan)
        network, levies, export = price.copy(), price.copy(), price.copy()
        for row in self._rows("tariffs"):
            applies = self._in_force(row) & _in_window(self.starts, row)
            base = self.spot if row["price_basis"] == "spot_plus" else 0.0
            price = np.where(applies, base + row["energy_price_per_mwh"], price)
            if row["export_price_per_mwh"] is not None:
                export = np.where(applies, row["export_price_per_mwh"], export)
        for row in self._rows("grid_connections"):
            applies = self._in_force(row)
            network = np.where(applies, row["network_per_mwh"], network)
            levies = np.where(applies, row["levies_per_mwh"], levies)
        self.energy_price, self.contract_export_price = price, export
        self.import_price = (price + network + levies) * self.fx
        self.export_price = export * self.fx

    def _rows(self, table: str) -> list[dict[str, Any]]:
        """The site's rows of a reference table."""
        return self.tables[table].filter(site_id=self.plate.site_id).rows(named=True)

    def _in_force(self, row: Mapping[str, Any]) -> Bools:
        """Intervals in which terms hold."""
        inside = np.zeros(self.count, dtype=bool)
        inside[_span(row, self.count)] = True
        return inside

    def _spot(self) -> Floats:
        """In the site's currency; not a number where the site buys at a fixed tariff."""
        zone = {"juelich": "DE", "franklin": "US-TEX-ERCO"}.get(self.plate.site_id)
        if zone is None:
            return np.full(self.count, np.nan)
        price = self.world.zones[zone].price_per_mwh
        if price is None:
            raise ValueError(f"zone {zone} has no market price")
        return price[: self.count]

    def _carbon_factors(self) -> None:
        zone = {"juelich": "DE", "sparks": "US-NW-NEVP", "franklin": "US-TEX-ERCO"}[
            self.plate.site_id
        ]
        direct = self.world.carbon_hourly[zone]["direct_g_per_kwh"]
        self.location_g = np.repeat(np.round(direct, 2), 4)[: self.count]
        residual = self.tables["emission_factors"].filter(
            kind="residual_mix", basis="direct", zone=zone
        )["value_g_per_kwh"]
        clean = np.zeros(self.count)
        for volume in contract_volumes(self.world, self.tables, self.count).values():
            if volume.site_id == self.plate.site_id:
                clean += volume.kwh
        imported = np.where(self._is_read(), self.imported, 0)
        clean = np.where(self._is_read(), clean, 0)
        hour = np.arange(self.count) // 4
        months = self.starts.dt.convert_time_zone(self.plate.time_zone).dt.strftime("%Y-%m")
        names, month = np.unique(months.to_numpy(), return_inverse=True)
        self.certificates = CertificateUse(
            certificates_held(self.world, self.until).filter(
                pl.col("refusal").is_null(),
                market_zone=_CERTIFICATE_ZONES[self.plate.site_id],
            ),
            time_zone=self.plate.time_zone,
            months=list(names),
            month_of_hour=month[::4],
            need_of_hour=np.maximum(0, np.bincount(hour, imported - clean)).astype(np.float64),
            need_of_month=np.bincount(month, imported - clean).astype(np.float64),
        )
        by_hour, by_month = clean.copy(), clean.copy()
        by_hour[::4] += self.certificates.hourly_kwh
        by_month[np.searchsorted(month, np.arange(len(names)))] += self.certificates.all_kwh
        share = _share(by_hour, imported, hour)
        monthly = _share(by_month, imported, month)
        self.hourly_g = (1 - share) * float(residual[0])
        self.market_g = (1 - monthly) * float(residual[0])

    def _is_read(self) -> Bools:
        """Intervals of which readings come at all: Juelich's come in whole days of its market."""
        read = np.ones(self.count, dtype=bool)
        if self.plate.site_id == "juelich":
            ahead = _MARKET_AHEAD // clock.INTERVAL
            read[: clock.INTERVALS_PER_DAY - ahead] = False
            read[self.count - ahead :] = False
        return read

    def _waterfall(self) -> None:
        consumption = self.imported + self.generation + self.discharge - self.charge - self.exported
        self.consumption = consumption
        sun = np.minimum(self.generation, consumption)
        stored = np.minimum(self.discharge, consumption - sun)
        grid = consumption - sun - stored
        sun_charge = np.minimum(self.generation - sun, self.charge)
        grid_charge = self.charge - sun_charge
        self.ledgers: list[_Ledger] = []
        from_battery = np.zeros((3, self.count))
        for run in self.batteries:
            ledger = self._ledger(run, grid_charge)
            self.ledgers.append(ledger)
            share = _ratio(run.discharge_kwh[: self.count], self.discharge)
            mine = stored * share / run.battery.discharge_efficiency
            from_battery += mine * np.array([ledger.location_g, ledger.market_g, ledger.hourly_g])
        self.location_kg = (grid * self.location_g + from_battery[0]) / 1000
        self.market_kg = (grid * self.market_g + from_battery[1]) / 1000
        self.hourly_kg = (grid * self.hourly_g + from_battery[2]) / 1000

    def _ledger(self, run: BatteryRun, grid_charge: Floats) -> _Ledger:
        """Weighted average inventory: charge adds at its cost, discharge takes out the average."""
        battery = run.battery
        charge, discharge = run.charge_kwh[: self.count], run.discharge_kwh[: self.count]
        from_grid = grid_charge * _ratio(charge, self.charge)
        prices = np.array([self.import_price / 1000, self.location_g, self.market_g, self.hourly_g])
        averages = np.zeros((4, self.count))
        value = np.zeros(4)
        for i in range(battery.first_interval, self.count):
            opening = run.stored_kwh[i]
            if i == battery.first_interval:
                value = opening * prices[:, i]
            held = opening + charge[i] * battery.charge_efficiency
            value = value + from_grid[i] * prices[:, i]
            averages[:, i] = value / held if held > 0 else 0.0
            taken = discharge[i] / battery.discharge_efficiency / held if held > 0 else 0.0
            value = value * (1 - min(1.0, taken))
        return _Ledger(averages[0], averages[1], averages[2], averages[3])

    def _margin(self) -> None:
        hours = clock.INTERVAL_HOURS
        # Less is what rounding leaves of a flow that is not there.
        exports = self.exported > 1e-6
        on_grid = ~self.is_out & (self.imported / hours < _LIMIT_RATIO * self.grid_mw * 1000)
        battery_price = np.full(self.count, np.inf)
        for run, ledger, usable in zip(self.batteries, self.ledgers, self.usable, strict=True):
            plate = next(
                item for item in self.plate.batteries if item.battery_id == run.battery.battery_id
            )
            available = run.available_discharge_kw[: self.count]
            can = (
                (usable > 0)
                & (available > 0)
                & (run.discharge_kwh[: self.count] / hours < _LIMIT_RATIO * available)
            )
            price = (
                ledger.cost_eur * 1000 / run.battery.discharge_efficiency
                + plate.degradation_cost_per_mwh * self.fx
            )
            battery_price = np.where(can, np.minimum(battery_price, price), battery_price)
        on_battery = np.isfinite(battery_price)
        self.source = np.select(
            [exports, on_grid, on_battery], ["local_surplus", "grid", "battery"], "constrained"
        )
        self.price = np.select(
            [exports, on_grid, on_battery],
            [self.export_price, self.import_price, battery_price],
            np.nan,
        )

    def intervals(self) -> pl.DataFrame:
        """One row per interval."""
        return pl.DataFrame(
            {
                "site_id": [self.plate.site_id] * self.count,
                "interval_started_at": self.starts,
                "grid_import_kwh": self.imported,
                "grid_export_kwh": self.exported,
                "onsite_generation_kwh": self.generation,
                "battery_charge_kwh": self.charge,
                "battery_discharge_kwh": self.discharge,
                "it_load_kwh": self.it,
                "cooling_load_kwh": self.cooling,
                "facility_total_kwh": self.facility,
                "consumption_kwh": self.consumption,
                "grid_mw": self.grid_mw,
                "local_mw": self.local_mw,
                "effective_it_mw": self.effective_mw,
                "committed_it_mw": self.committed_mw,
                "marginal_source": self.source,
                "marginal_price_per_mwh": pl.Series(self.price, dtype=pl.Float64).fill_nan(None),
                "location_based_kg": self.location_kg,
                "market_based_kg": self.market_kg,
                "hourly_matched_kg": self.hourly_kg,
            }
        )

    def signals(self) -> dict[str, Bools]:
        """Where each cause of an incident shows."""
        hours = clock.INTERVAL_HOURS
        stop = self._term("price_stop_per_mwh")
        found = {
            "grid_outage": self.is_out,
            "curtailment_order": self.is_curtailed,
            "storage_unavailable": np.zeros(self.count, dtype=bool),
            "storage_depleted": np.zeros(self.count, dtype=bool),
            "power_capping": self._capping(),
            "price_stop": np.greater_equal(self.spot, stop),
            "connection_limit": (self.grid_mw > 0)
            & (self.imported / hours >= _LIMIT_RATIO * self.grid_mw * 1000),
            "supply_shortfall": self.effective_mw / self.committed_mw < _FULL_RATIO,
            "workload_shed": np.zeros(self.count, dtype=bool),
        }
        for run, usable in zip(self.batteries, self.usable, strict=True):
            valid = np.arange(self.count) >= run.battery.first_interval
            down = run.is_fault[: self.count] | (run.available_discharge_kw[: self.count] <= 0)
            empty = usable <= _DEPLETED_RATIO * run.battery.capacity_kwh
            found["storage_unavailable"] |= valid & down
            found["storage_depleted"] |= valid & ~down & empty
        for schedule in self.site.schedules:
            for job, comment in enumerate(schedule.comment):
                if comment and comment.startswith("energy:"):
                    step = int(schedule.end_step[job]) - 1 - clock.WARM_UP_STEPS
                    interval = step // clock.STEPS_PER_INTERVAL
                    if 0 <= interval < self.count:
                        found["workload_shed"][interval] = True
        return found

    def _capping(self) -> Bools:
        capping = np.zeros(self.count, dtype=bool)
        if drawn := self._capped():
            share = drawn.is_capped.reshape(len(drawn.busy), -1, 3).sum(axis=(0, 2)) / np.maximum(
                drawn.busy.reshape(len(drawn.busy), -1, 3).sum(axis=(0, 2)), 1
            )
            first = clock.interval_index(events.JUELICH_POWER_CAP.started_at)
            capping[first : first + len(share)] = share >= _CAPPED_RATIO
        return capping

    def _slowed_gpu_hours(self) -> Floats:
        """Work not done at each interval by GPUs under the placed power limit."""
        slowed = np.zeros(self.count)
        if drawn := self._capped():
            lost = np.where(drawn.is_capped, 1 - drawn.speed_ratio, 0).sum(axis=0)
            first = clock.interval_index(events.JUELICH_POWER_CAP.started_at)
            by_interval = lost.reshape(-1, 3).sum(axis=1) * clock.STEP_S / 3600
            slowed[first : first + len(by_interval)] = by_interval
        return slowed

    def _capped(self) -> Telemetry | None:
        """What the GPUs did under the placed power limit, where it is this site's."""
        span = events.JUELICH_POWER_CAP
        if self.plate.site_id != "juelich" or span.ended_at > self.until:
            return None
        return self.site.telemetry(
            range(clock.step_index(span.started_at), clock.step_index(span.ended_at))
        )

    def incidents(self) -> pl.DataFrame:
        """One row per incident: signals of the site at most 15 minutes apart."""
        signals, slowed = self.signals(), self._slowed_gpu_hours()
        shown = np.any(list(signals.values()), axis=0)
        at = np.flatnonzero(shown)
        rows = []
        for group in np.split(at, np.flatnonzero(np.diff(at) > 2) + 1) if len(at) else []:
            first, last = int(group[0]), int(group[-1])
            present = [name for name in _CAUSES if signals[name][first : last + 1].any()]
            rows.append(
                {
                    "site_id": self.plate.site_id,
                    "cause": present[0],
                    "layer": "local" if present[0].startswith("storage_") else "grid",
                    "signals": ",".join(sorted(present)),
                    "started_at": clock.WORLD_STARTED_AT + first * clock.INTERVAL,
                    "ended_at": clock.WORLD_STARTED_AT + (last + 1) * clock.INTERVAL,
                    "slowed_gpu_hours": float(slowed[first : last + 1].sum()),
                }
            )
        return pl.DataFrame(rows, schema=_INCIDENT_SCHEMA)

    def availability(self) -> dict[str, object]:
        """How much of the time the site and its local layer met what they are committed to."""
        local = self.local_mw >= self.local_committed_mw
        return {
            "site_id": self.plate.site_id,
            "interval_count": self.count,
            "local_time_availability_ratio": float(local.mean()) if self.batteries else None,
            "mean_availability_ratio": float(
                np.minimum(1, self.effective_mw / self.committed_mw).mean()
            ),
            "fully_available_ratio": float((self.effective_mw >= self.committed_mw).mean()),
        }


class CertificateUse:
    """How a zone's only site uses its certificates: by the hour, then by the month and the year.

    `need_of_hour` is what contracts leave uncovered of an hour's import; `need_of_month` the same
    of a month, below 0 where contracts cover more than was imported.
    """

    def __init__(
        self,
        bundles: pl.DataFrame,
        *,
        time_zone: str,
        months: list[str],
        month_of_hour: Ints,
        need_of_hour: Floats,
        need_of_month: Floats,
    ) -> None:
        self.hourly_kwh = np.zeros(len(need_of_hour))
        self.all_kwh = np.zeros(len(months))
        self.assigned_kwh: dict[BundleKey, float] = {}
        held: dict[str, list[tuple[BundleKey, float, int]]] = {}
        for row in bundles.iter_rows(named=True):
            lasted = row["production_ended_at"] - row["production_started_at"]
            middle = row["production_started_at"] + lasted / 2
            local = middle.astimezone(ZoneInfo(time_zone))
            kind = "year" if lasted > timedelta(days=32) else "month"
            place = months.index(f"{local:%Y-%m}") if f"{local:%Y-%m}" in months else -1
            if lasted <= timedelta(hours=1):
                kind, place = "hour", clock.interval_index(middle) // 4
            key = (row["issuance_id"], row["first_certificate"], row["last_certificate"])
            held.setdefault(kind, []).append((key, row["quantity_wh"] / 1000, place))
        left: dict[int, list[tuple[BundleKey, float]]] = {}
        hours: dict[int, list[tuple[BundleKey, float]]] = {}
        for key, kwh, hour in held.get("hour", []):
            if hour < len(need_of_hour):
                hours.setdefault(hour, []).append((key, kwh))
        for hour, parts in hours.items():
            self.hourly_kwh[hour] = self._take(parts, need_of_hour[hour])
            rest = left.setdefault(int(month_of_hour[hour]), [])
            rest += [(key, kwh - self.assigned_kwh[key]) for key, kwh in parts]
        for key, kwh, month in held.get("month", []):
            left.setdefault(month, []).append((key, kwh))
        of_year = [(key, kwh) for key, kwh, _ in held.get("year", [])]
        matched = np.bincount(month_of_hour, self.hourly_kwh, len(months))
        for month in range(len(months)):
            need = max(0.0, need_of_month[month] - matched[month])
            by_month = self._take(left.get(month, []), need)
            rest_of_year = [(key, kwh - self.assigned_kwh.get(key, 0.0)) for key, kwh in of_year]
            by_year = self._take(rest_of_year, need - by_month)
            self.all_kwh[month] = matched[month] + by_month + by_year

    def _take(self, parts: list[tuple[BundleKey, float]], need: float) -> float:
        """Take what is needed of the parts, in proportion; how much that is."""
        held = sum(kwh for _, kwh in parts)
        taken = min(held, need)
        for key, kwh in parts:
            share = kwh / held * taken if held > 0 else 0.0
            self.assigned_kwh[key] = self.assigned_kwh.get(key, 0.0) + share
        return taken


def certificates_held(world: World, until: datetime) -> pl.DataFrame:
    """Every bundle sent before `until`, as last sent."""
    files = certificate_files(world, until)
    sent = pl.concat([pl.DataFrame(schema=SCHEMA), *(file.bundles for file in files)])
    return sent.unique(
        ["issuing_body", "issuance_id", "first_certificate", "last_certificate"],
        keep="last",
        maintain_order=True,
    )


def _certificates(world: World, sites: Mapping[str, SiteTruth], until: datetime) -> pl.DataFrame:
    """One row per bundle: why it may not be counted, and what of it covers consumption."""
    assigned: dict[BundleKey, float] = {}
    for site in sites.values():
        assigned |= site.certificates.assigned_kwh
    held = certificates_held(world, until)
    keys = held.select("issuance_id", "first_certificate", "last_certificate").iter_rows()
    return held.select(
        "issuing_body",
        "issuance_id",
        "first_certificate",
        "last_certificate",
        "refusal",
        energy_kwh=pl.col("quantity_wh") / 1000,
        assigned_kwh=pl.Series([assigned.get(key, 0.0) for key in keys], dtype=pl.Float64),
    )


@dataclass(frozen=True)
class ContractVolume:
    """What a power purchase contract covered in each interval, and what it came to."""

    site_id: str
    time_zone: str
    kwh: Floats
    amount: Floats
    """In the contract's currency; positive when the buyer pays."""


def contract_volumes(world: World, tables: Tables, count: int) -> dict[str, ContractVolume]:
    """Volume and settlement of each contract on a plant, by interval."""
    found: dict[str, ContractVolume] = {}
    for line in settled_lines(world, tables, count):
        site_id, time_zone = line.terms["site_id"], line.terms["time_zone"]
        empty = ContractVolume(site_id, time_zone, np.zeros(count), np.zeros(count))
        contract = found.setdefault(line.contract_id, empty)
        span = slice(line.first, line.first + len(line.spot))
        contract.kwh[span] = line.quantity_mwh() * 1000
        contract.amount[span] = line.quantity_mwh() * line.unit_price()
    return found


def _span(terms: Mapping[str, Any], count: int) -> slice:
    """The intervals in which terms hold."""
    first = max(0, clock.interval_index(terms["valid_from_at"]))
    last = count
    if terms["valid_to_at"] is not None:
        last = max(first, min(count, clock.interval_index(terms["valid_to_at"])))
    return slice(first, last)


def _in_window(starts: pl.Series, row: Mapping[str, Any]) -> Bools:
    """Intervals that lie in a tariff's months, hours and kind of day."""
    hour, weekday, month, _ = clock.local_parts(starts, row["time_zone"])
    dates = starts.dt.convert_time_zone(row["time_zone"]).dt.date().to_list()
    country, _, subdivision = (row["holiday_calendar"] or "").partition("-")
    off = weekday >= 6
    if country:
        years = {day.year for day in dates}
        days = holidays.country_holidays(country, subdiv=subdivision or None, years=years)
        off |= np.array([day in days for day in dates])
    kinds = {"all": np.full(len(off), fill_value=True), "workday": ~off, "weekend_or_holiday": off}
    return np.asarray(
        kinds[row["day_kind"]]
        & (month >= row["month_from"])
        & (month <= row["month_to"])
        & (hour >= row["hour_from"])
        & (hour < row["hour_to"])
    )


def _share(clean: Floats, imported: Floats, group: np.ndarray) -> Floats:
    """Of each group's import, the part that clean energy of the same group matches: at most 1."""
    ratio = _ratio(
        np.bincount(group, clean).astype(np.float64),
        np.bincount(group, imported).astype(np.float64),
    )
    return np.minimum(1, ratio)[group]


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=float), where=whole > 0)


def _settlements(world: World, tables: Tables, until: datetime, fx: Floats) -> pl.DataFrame:
    count = clock.interval_index(until)
    starts = clock.interval_starts().head(count)
    frames = []
    for contract_id, volume in contract_volumes(world, tables, count).items():
        frames.append(
            pl.DataFrame(
                {
                    "contract_id": [contract_id] * count,
                    "local_month": starts.dt.convert_time_zone(volume.time_zone).dt.strftime(
                        "%Y-%m"
                    ),
                    "volume_mwh": volume.kwh / 1000,
                    "amount_eur": volume.amount * fx,
                    "contract_amount": volume.amount,
                }
            )
            .group_by("contract_id", "local_month", maintain_order=True)
            .sum()
        )
    return pl.concat(frames)


def _supply(site: SiteTruth, world: World) -> SupplyTruth:
    """What energy costs a site, and what its generation contracts deliver."""
    delivered = np.zeros(site.count)
    physical = site.tables["contracts"].filter(kind="ppa_pay_as_produced")
    volumes = contract_volumes(world, site.tables, site.count)
    for contract_id in physical["contract_id"].unique():
        if volumes[contract_id].site_id == site.plate.site_id:
            delivered += volumes[contract_id].kwh / 1000
    market = world.zones["US-TEX-ERCO"].price_per_mwh
    if market is None:
        raise ValueError("zone US-TEX-ERCO has no market price")
    return SupplyTruth(
        site.energy_price, site.contract_export_price, delivered, market[: site.count]
    )


def _gpu_hours(site: SiteWorld, until: datetime) -> pl.DataFrame:
    """Allocated GPU-hours by workload and local day, of all jobs up to `until`."""
    zone = site.plate.time_zone
    start = clock.WORLD_STARTED_AT
    days = pl.date_ranges(
        pl.col("from_at").dt.convert_time_zone(zone).dt.date(),
        pl.col("to_at").dt.convert_time_zone(zone).dt.date(),
    )
    midnight = pl.col("local_date").cast(pl.Datetime("us"))
    spans = (
        job_rows(site)
        .select(
            "workload_id",
            "gpu_count",
            from_at=pl.max_horizontal(pl.col("started_at"), pl.lit(start)),
            to_at=pl.min_horizontal(pl.col("ended_at"), pl.lit(until)),
        )
        .filter(pl.col("to_at") > pl.col("from_at"))
        .with_columns(local_date=days)
        .explode("local_date")
    )
    day_start = midnight.dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
    day_end = midnight.dt.offset_by("1d").dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
    held = pl.min_horizontal("to_at", day_end) - pl.max_horizontal("from_at", day_start)
    return (
        spans.with_columns(
            site_id=pl.lit(site.plate.site_id),
            allocated_gpu_hours=pl.col("gpu_count") * held.dt.total_seconds() / 3600,
        )
        .group_by("site_id", "workload_id", "local_date")
        .agg(pl.col("allocated_gpu_hours").sum())
        .sort("site_id", "workload_id", "local_date")
    )


def _cloud_days(world: World, until: datetime, fx: Floats) -> pl.DataFrame:
    """GPU-hours and cost of the cloud's workloads per UTC day; its site's days are UTC's."""
    hours = clock.interval_index(until) // 4
    left = np.full(hours, float(CLOUD_COMMITTED_INSTANCES))
    starts = clock.interval_starts().gather_every(4).head(hours)

    def during(span: events.Span) -> Bools:
        return ((starts >= span.started_at) & (starts < span.ended_at)).to_numpy()

    # Bills of a month are corrected in the next one's.
    is_corrected = until >= events.CLOUD_CORRECTED_AT
    days = []
    for workload_id, instances in world.cloud_instances.items():
        wanted = instances[:hours]
        committed = np.minimum(wanted, left)
        left = left - committed
        due = np.ones(hours)
        if is_corrected:
            due[during(events.CLOUD_OVERCHARGED)] -= events.CLOUD_CORRECTED_RATIO
        if workload_id == "batch-evaluation":
            due[during(events.CLOUD_FAILED)] -= events.CLOUD_CREDITED_RATIO
        usd = committed * COMMITTED_PRICE + (wanted - committed) * ON_DEMAND_PRICE * due
        days.append(
            pl.DataFrame(
                {
                    "workload_id": workload_id,
                    "utc_date": starts.dt.date(),
                    "allocated_gpu_hours": wanted * CLOUD_GPUS_PER_INSTANCE,
                    "cloud_cost": usd * fx[::4][:hours],
                }
            )
        )
    return (
        pl.concat(days)
        .group_by("workload_id", "utc_date")
        .agg(pl.col("allocated_gpu_hours", "cloud_cost").sum())
        .sort("workload_id", "utc_date")
    )


def write_truth(world: World, tables: Tables, until: datetime, folder: Path) -> list[Invoice]:
    """Write the truth up to `until`, a Parquet file per table; the invoices that follow from it."""
    sites = {
        site_id: SiteTruth(world, site, tables, until) for site_id, site in world.sites.items()
    }
    supplies = {name: _supply(site, world) for name, site in sites.items()}
    settled = list(site_lines(world, tables, supplies, until))
    charged = list(invoices(world, tables, settled, until))
    frames = {
        "site_intervals": pl.concat([site.intervals() for site in sites.values()]),
        "incidents": pl.concat([site.incidents() for site in sites.values()]),
        "certificates": _certificates(world, sites, until),
        "invoice_errors": invoice_errors(charged),
        "site_settlements": site_settlements(settled),
        "settlements": _settlements(world, tables, until, sites["franklin"].fx),
        "availability": pl.DataFrame(
            [site.availability() for site in sites.values()], infer_schema_length=None
        ),
        "cloud_days": _cloud_days(world, until, sites["franklin"].fx),
        "workload_gpu_hours": pl.concat([_gpu_hours(site, until) for site in world.sites.values()]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return charged
