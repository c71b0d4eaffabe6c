"""What contracts on sites settle at: grid and supply, tolled batteries, cloud and HPC commitments.

What belongs here: each line of each contract and month, as its terms say, from what truly happened.
What does not: contracts on plants, and any part of the pipeline.

Quantities are what a right meter counts, whole watt-hours; amounts are positive when the site pays.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulator import clock
from pipelines.simulator.accounting import job_rows
from pipelines.simulator.clock import Floats, Ints
from pipelines.simulator.site_model import BatteryRun
from pipelines.simulator.world import CLOUD_COMMITTED_INSTANCES, SiteWorld, World

Tables = Mapping[str, pl.DataFrame]
Terms = Mapping[str, Any]
Lines = Iterator[tuple[str, Floats, Floats]]
"""Name of a line, its quantity and its price in every interval."""


@dataclass(frozen=True)
class SupplyTruth:
    """What the supply of a site costs in every interval, in the currency of the tariff."""

    energy_price: Floats
    export_price: Floats
    credited_mwh: Floats
    """Energy of the site's generation contracts, which the supplier may credit."""
    market_price: Floats
    """Of the zone of these contracts."""


@dataclass(frozen=True)
class SiteLine:
    """A line of a contract on a site over all intervals of the book."""

    account: "Account"
    line: str
    quantity: Floats
    """Not a number where nothing is settled yet."""
    price: Floats


def site_lines(
    world: World, tables: Tables, supplies: Mapping[str, SupplyTruth], until: datetime
) -> Iterator[SiteLine]:
    """Every line of every contract on a site."""
    for _, versions in tables["contracts"].group_by("contract_id", maintain_order=True):
        terms = versions.sort("valid_from_at").rows(named=True)
        account = Account(tables, terms, until)
        site = world.sites.get(terms[0]["site_id"])
        for line, quantity, price in _lines(world, tables, site, supplies, account):
            yield SiteLine(account, line, quantity, price)


def site_settlements(lines: Iterable[SiteLine]) -> pl.DataFrame:
    """One row per contract, line and local month."""
    return pl.concat(item.account.months_of(item.line, item.quantity, item.price) for item in lines)


class Account:
    """The time a contract runs in: its intervals, local months and exchange rates."""

    def __init__(self, tables: Tables, versions: list[dict[str, Any]], until: datetime) -> None:
        self.versions, self.until = versions, until
        self.count = clock.interval_index(until)
        self.starts = clock.interval_starts().head(self.count)
        self.zone = versions[0]["time_zone"]
        local = self.starts.dt.convert_time_zone(self.zone)
        self.month = local.dt.truncate("1mo").dt.date()
        self.month_number = (local.dt.year() * 12 + local.dt.month()).to_numpy()
        first = local.dt.truncate("1mo")
        self.month_intervals = (
            first.dt.offset_by("1mo") - first
        ).dt.total_minutes().to_numpy() / 15
        rates = tables["fx_rates"].filter(currency_code=versions[0]["currency_code"])
        self.rate = (
            pl.DataFrame({"rate_date": self.starts.dt.date()})
            .join(rates, on="rate_date", how="left", maintain_order="left")["rate_to_reporting"]
            .to_numpy()
        )
        self.is_in_force = np.zeros(self.count, dtype=bool)
        for terms in versions:
            self.is_in_force[self.span(terms)] = True

    def span(self, terms: Terms) -> slice:
        """The intervals in which a version of the terms holds."""
        first = max(0, clock.interval_index(terms["valid_from_at"]))
        last = self.count
        if terms["valid_to_at"] is not None:
            last = max(first, min(self.count, clock.interval_index(terms["valid_to_at"])))
        return slice(first, last)

    def term(self, name: str, versions: list[dict[str, Any]] | None = None) -> Floats:
        """A term in every interval, not a number where none holds."""
        values = np.full(self.count, np.nan)
        for terms in versions or self.versions:
            values[self.span(terms)] = np.nan if terms[name] is None else terms[name]
        return values

    def parts(self) -> Iterator[tuple[dict[str, Any], Ints]]:
        """Each version's part of each month, as indexes of intervals."""
        for terms in self.versions:
            indexes = np.arange(self.count)[self.span(terms)]
            for month in np.unique(self.month_number[indexes]):
                yield terms, indexes[self.month_number[indexes] == month]

    def is_over(self, terms: Terms, part: Ints) -> bool:
        """Whether the part of a month has ended."""
        last = int(part[-1])
        after = self.starts[last] + clock.INTERVAL
        if terms["valid_to_at"] == after:
            return True
        local = pl.Series([after]).dt.convert_time_zone(self.zone)
        return bool((local == local.dt.truncate("1mo"))[0])

    def months_of(self, line: str, quantity: Floats, price: Floats) -> pl.DataFrame:
        """A line by month; nothing costs nothing, and not a number is not settled yet."""
        amount = np.where(quantity == 0, 0.0, quantity * price)
        return (
            pl.DataFrame(
                {
                    "contract_id": self.versions[0]["contract_id"],
                    "line": line,
                    "local_month": self.month.cast(pl.String).str.slice(0, 7),
                    "quantity": quantity,
                    "contract_amount": amount,
                    "amount_eur": amount * self.rate,
                }
            )
            .filter(pl.Series(self.is_in_force & ~np.isnan(quantity)))
            .group_by("contract_id", "line", "local_month", maintain_order=True)
            .sum()
        )


def _lines(
    world: World,
    tables: Tables,
    site: SiteWorld | None,
    supplies: Mapping[str, SupplyTruth],
    account: Account,
) -> Lines:
    terms = account.versions[0]
    kind = terms["kind"]
    if kind == "cloud_commitment":
        yield from _commitment_lines(world, account)
    elif site is not None and kind == "grid_connection":
        connections = tables["grid_connections"].filter(contract_id=terms["contract_id"])
        versions = connections.sort("valid_from_at").rows(named=True)
        yield from _connection_lines(_metered(site.run.import_kwh, account), versions, account)
    elif site is not None and kind == "supply_tariff":
        credits = tables["tariffs"].filter(contract_id=terms["contract_id"])
        yield from _supply_lines(
            site, supplies[terms["site_id"]], account, credits["credits_contracted_energy"].any()
        )
    elif site is not None and kind == "battery_tolling":
        [run] = [r for r in site.run.batteries if r.battery.battery_id == terms["battery_id"]]
        yield from _tolling_lines(run, account)
    elif site is not None and kind == "hpc_allocation":
        yield "node_hours", _node_hours(site, account), account.term("price_per_node_hour")


def _metered(kwh: Floats, account: Account) -> Floats:
    return np.round(kwh[: account.count], 3)


def _connection_lines(imported: Floats, versions: list[dict[str, Any]], account: Account) -> Lines:
    def term(name: str) -> Floats:
        return account.term(name, versions)

    yield "network", imported / 1000, term("network_per_mwh")
    yield "levies", imported / 1000, term("levies_per_mwh")
    capacity = term("contracted_kw") / account.month_intervals
    yield "capacity", capacity, term("capacity_charge_per_kw_month")
    quantity, price = np.zeros(account.count), np.zeros(account.count)
    quarters = int(versions[0]["demand_period_minutes"]) // 15
    demand = np.repeat(imported.reshape(-1, quarters).mean(axis=1) * 4, quarters)
    peaks: dict[int, float] = {}
    for month in np.unique(account.month_number):
        own = np.flatnonzero((account.month_number == month) & account.is_in_force)
        peak = int(own[np.argmax(demand[own])])
        peaks[int(month)] = float(demand[peak])
        [terms] = [item for item in versions if peak in range(account.count)[account.span(item)]]
        quantity[peak : peak + quarters] = demand[peak] / quarters
        price[own] = terms["demand_charge_per_kw"]
        if terms["ratchet_ratio"] is not None:
            before = [peaks[int(month) - back] for back in range(1, terms["ratchet_months"] + 1)]
            beyond = max(0.0, terms["ratchet_ratio"] * max(before) - demand[peak])
            others = np.setdiff1d(own, np.arange(peak, peak + quarters))
            quantity[others] = beyond / (account.month_intervals[peak] - quarters)
    yield "demand", quantity, price


def _supply_lines(
    site: SiteWorld, supply: SupplyTruth, account: Account, has_credit: bool
) -> Lines:
    yield "energy", _metered(site.run.import_kwh, account) / 1000, supply.energy_price
    if np.isfinite(supply.export_price).any():
        exported = _metered(site.run.export_kwh, account) / 1000
        yield "export", exported, -supply.export_price
    if has_credit:
        yield "contract_credit", supply.credited_mwh, -supply.market_price


def _tolling_lines(run: BatteryRun, account: Account) -> Lines:
    count, battery = account.count, run.battery
    charge, discharge = _metered(run.charge_kwh, account), _metered(run.discharge_kwh, account)
    # The battery reports its state of charge with six decimals.
    stored = np.round(run.stored_kwh / battery.capacity_kwh, 6) * battery.capacity_kwh
    is_down = run.is_fault[:count] | (run.available_discharge_kw[:count] <= 0)
    tolled = account.term("tolled_mw")
    yield "fixed_fee", tolled / account.month_intervals, account.term("fixed_fee_per_mw_month")
    yield "variable_fee", discharge / 1000, account.term("variable_fee_per_mwh")
    damaged, lost, excess = np.zeros(count), np.zeros(count), np.zeros(count)
    for terms, part in account.parts():
        down = part[is_down[part]]
        lacking = terms["guaranteed_availability_ratio"] - (1 - len(down) / len(part))
        if lacking > 0:
            damaged[down] = lacking * len(part) * terms["tolled_mw"] / 4 / len(down)
        if account.is_over(terms, part):
            drawn = charge[part].sum() - (stored[part[-1] + 1] - stored[part[0]])
            owed = terms["guaranteed_round_trip_ratio"] * drawn - discharge[part].sum()
            lost[part[-1]] = max(0.0, owed / 1000)
        else:
            lost[part] = np.nan
    yield "availability_damages", damaged, -account.term("damages_per_mwh_unavailable")
    yield "round_trip_damages", lost, -account.term("round_trip_damages_per_mwh")
    # No contract is simulated for more than its first year.
    used = np.cumsum(np.where(account.is_in_force, discharge, 0.0)) / 1000
    beyond = np.maximum(0.0, used - account.term("throughput_limit_mwh_per_year"))
    excess[account.is_in_force] = np.diff(beyond[account.is_in_force], prepend=0.0)
    yield "excess_throughput", excess, account.term("excess_throughput_per_mwh")


def _commitment_lines(world: World, account: Account) -> Lines:
    hours = account.count // 4
    wanted = np.sum(list(world.cloud_instances.values()), axis=0)[:hours]
    used = np.minimum(wanted, CLOUD_COMMITTED_INSTANCES) / CLOUD_COMMITTED_INSTANCES
    gpus, price = account.term("gpu_count"), account.term("hourly_price")
    share = np.repeat(used, 4)
    yield "commitment_used", share * gpus / 4, price / gpus
    yield "commitment_unused", (1 - share) * gpus / 4, price / gpus


def _node_hours(site: SiteWorld, account: Account) -> Floats:
    """Node-hours of the site's jobs in each interval."""
    jobs = job_rows(site)
    starts = account.starts.dt.epoch("us").to_numpy() / 3.6e9
    edges = np.append(starts, starts[-1] + clock.INTERVAL_HOURS)
    nodes = jobs["node_count"].to_numpy()

    def used_until(at: Floats, instants: pl.Series) -> Floats:
        """Node-hours between each of some instants and an edge, over all that lie before it."""
        hours = instants.dt.epoch("us").to_numpy() / 3.6e9
        order = np.argsort(hours)
        hours, weights = hours[order], nodes[order]
        place = np.searchsorted(hours, at)
        count = np.concatenate([[0], np.cumsum(weights)])[place]
        moment = np.concatenate([[0], np.cumsum(weights * (hours - edges[0]))])[place]
        return np.asarray(count * (at - edges[0]) - moment)

    ended_at = jobs["ended_at"]
    return np.diff(used_until(edges, jobs["started_at"]) - used_until(edges, ended_at))
