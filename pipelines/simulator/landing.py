"""Writes what the simulated world sends: files in landing, as each source would name and time them.

What belongs here: which rows go into which file, its name and when it arrived; the errors, copies
and corrections placed in the files. What does not: the formats (`writers/`) and the world.

One file per source and UTC day (market day for NEM12), so that one day more only adds files. A
file's modification time is the time it arrived.
"""

import gzip
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from pipelines import reference
from pipelines.book import Book
from pipelines.simulator import clock, cloud_bill, events
from pipelines.simulator.accounting import accounting_of_day, job_rows, telemetry_days
from pipelines.simulator.certificates import certificate_files
from pipelines.simulator.clock import Floats
from pipelines.simulator.invoices import Invoice
from pipelines.simulator.plates import read_plates
from pipelines.simulator.site_model import BatteryRun
from pipelines.simulator.truth import write_truth
from pipelines.simulator.world import (
    SiteWorld,
    World,
    simulate_world,
)
from pipelines.simulator.writers import (
    battery_csv,
    certificates,
    dcgm_scrape,
    electricity_maps,
    entsoe,
    focus,
    green_button,
    nem12,
    openadr,
    outages_csv,
    prices_csv,
    prometheus,
    sacct,
)
from pipelines.simulator.writers.invoices import write_invoices

DEMO_REFERENCE = Path(__file__).parents[2] / "data" / "reference"

_DAY = timedelta(days=1)
_DOMAIN_CODE = "10Y1001A1001A82H"
_MARKET_UTC_OFFSET_H = 10
_BATTERY_SAMPLES_PER_INTERVAL = 3
_GREEN_BUTTON_PREFIX = {"sparks": "SPK", "franklin": "FRK"}
_FINE_NODES = {"juelich": ("jwb0041", "jwb0300"), "sparks": ("spk0017", "spk0200")}
_MODEL_NAMES = {"juelich": "NVIDIA GH200 120GB", "sparks": "NVIDIA H100 80GB HBM3"}
_ESTIMATED_HOUR_RATIO = 0.012


@dataclass(frozen=True)
class _Desk:
    """Where files arrive."""

    landing: Path
    until: datetime

    def put(self, path: str, content: bytes, arrived_at: datetime) -> None:
        """Land a file whole, with its time of arrival; `.gz` names are packed."""
        target = self.landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".gz"):
            content = gzip.compress(content, compresslevel=5, mtime=0)
        part = target.with_name(target.name + ".part")
        part.write_bytes(content)
        os.utime(part, (arrived_at.timestamp(), arrived_at.timestamp()))
        part.replace(target)

    def days(self) -> list[datetime]:
        """The UTC days that are over before `until`."""
        count = (self.until - clock.WORLD_STARTED_AT) // _DAY
        return [clock.WORLD_STARTED_AT + day * _DAY for day in range(count)]


def declare(book: Book) -> None:
    """Give a book that declares nothing yet the demo's organization and its sites."""
    if not book.reference.exists():
        shutil.copytree(DEMO_REFERENCE, book.reference)


def simulate(
    data_dir: Path,
    *,
    until: datetime = clock.DEFAULT_UNTIL,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Simulate the world and land everything that was sent about the days before `until`.

    Writes `landing/` and, for those who check the book, `truth/`. The same call writes the same
    bytes.

    Args:
        data_dir: folder of the book.
        until: the end of what is written; whole UTC days before it are.
        progress: told in words what is being written.

    Raises:
        ValueError: `until` has no time zone or lies outside the simulated world.
    """
    tell = progress or (lambda _: None)
    if until.tzinfo is None:
        raise ValueError(f"until is {until}, without a time zone: give it in UTC")
    if not clock.WORLD_STARTED_AT + _DAY <= until <= clock.WORLD_ENDED_AT:
        raise ValueError(
            f"until is {until}, outside the simulated world: choose a day after "
            f"{clock.WORLD_STARTED_AT:%Y-%m-%d} and not after {clock.WORLD_ENDED_AT:%Y-%m-%d}"
        )
    until -= (until - clock.WORLD_STARTED_AT) % _DAY
    book = Book(data_dir)
    declare(book)
    tables = reference.flatten(reference.load(book.reference))
    tell("simulating the world")
    world = simulate_world(read_plates(tables))
    desk = _Desk(book.landing, until)
    tell("writing the truth")
    charged = write_truth(world, tables, until, data_dir / "truth")
    tell("writing meter readings")
    _land_meters(desk, world, tables["meters"])
    tell("writing battery samples, markets, carbon and grid events")
    for run in world.sites["sparks"].run.batteries:
        _land_battery(desk, world.sites["sparks"], run)
    _land_germany(desk, world)
    _land_texas(desk, world)
    _land_carbon(desk, world)
    _land_grid_events(desk, world)
    _land_certificates(desk, world)
    _land_invoices(desk, charged)
    tell("writing job accounting and cloud bills")
    for site in world.sites.values():
        _land_jobs(desk, site)
    _land_cloud(desk, world.cloud_instances)
    for site_id, nodes in _FINE_NODES.items():
        tell(f"writing GPU telemetry of {site_id}")
        _land_telemetry(desk, world.sites[site_id], nodes)


def _intervals_of(desk: _Desk) -> tuple[pl.Series, int]:
    """The starts of the intervals before `until`, and their number."""
    count = clock.interval_index(desk.until)
    return clock.interval_starts().head(count), count


def _meter_frame(desk: _Desk, world: World, site: SiteWorld, meters: pl.DataFrame) -> pl.DataFrame:
    """True readings of a site's meters as `meter_readings` rows, rounded to the watt-hour."""
    starts, count = _intervals_of(desk)
    run = site.run
    by_role: Mapping[str, Floats] = {
        "grid_import": run.import_kwh,
        "grid_export": run.export_kwh,
        "onsite_generation": run.generation_kwh,
        "it_load": run.it_kwh,
        "cooling_load": run.cooling_kwh,
        "facility_total": run.facility_kwh,
    }
    batteries = {item.battery.battery_id: item for item in run.batteries}
    frames = []
    for meter in meters.filter(site_id=site.plate.site_id).iter_rows(named=True):
        role, first = meter["role"], 0
        if role == "ppa_generation":
            values = world.ppa_kwh[meter["meter_id"]]
        elif meter["battery_id"]:
            battery = batteries[meter["battery_id"]]
            first = battery.battery.first_interval
            values = battery.charge_kwh if role == "battery_charge" else battery.discharge_kwh
        else:
            values = by_role[role]
        frames.append(
            pl.DataFrame(
                {
                    "meter_id": [meter["meter_id"]] * count,
                    "flow": [meter["flow"]] * count,
                    "interval_started_at": starts,
                    "interval_ended_at": starts + clock.INTERVAL,
                    "quantity": np.round(values[:count], 3) + 0.0,
                    "unit": ["kWh"] * count,
                    "quality": ["measured"] * count,
                }
            ).slice(first)
        )
    return pl.concat(frames)


def _by_day(frame: pl.DataFrame, shift: timedelta = timedelta(0)) -> dict[datetime, pl.DataFrame]:
    """Rows by the UTC day (of a market ahead of UTC by `shift`) in which their interval starts."""
    day = (pl.col("interval_started_at") + shift).dt.truncate("1d")
    parts = frame.with_columns(_day=day).partition_by(
        "_day", as_dict=True, include_key=False, maintain_order=True
    )
    return {key[0]: part for key, part in parts.items()}


def _scaled(
    frame: pl.DataFrame, span: events.Span, meter_id: str, ratio: float, quality: str
) -> pl.DataFrame:
    """The readings with those of a meter in a span off by a factor, and their quality."""
    chosen = (
        (pl.col("meter_id") == meter_id)
        & (pl.col("interval_started_at") >= span.started_at)
        & (pl.col("interval_started_at") < span.ended_at)
    )
    return frame.with_columns(
        quantity=pl.when(chosen).then((pl.col("quantity") * ratio).round(3)).otherwise("quantity"),
        quality=pl.when(chosen).then(pl.lit(quality)).otherwise("quality"),
    )


def _land_meters(desk: _Desk, world: World, meters: pl.DataFrame) -> None:
    _land_nem12(desk, _meter_frame(desk, world, world.sites["juelich"], meters))
    for site_id, prefix in _GREEN_BUTTON_PREFIX.items():
        readings = _meter_frame(desk, world, world.sites[site_id], meters)
        for estimate in events.ESTIMATED_READS if site_id == "franklin" else ():
            span, meter_id = estimate.span, estimate.meter_id
            day = span.started_at.replace(hour=0)
            if desk.until >= estimate.replaced_at:
                final = _by_day(readings.filter(meter_id=meter_id))[day]
                desk.put(
                    f"green_button/franklin/FRK_{day:%Y%m%d}_final.xml.gz",
                    green_button.write_green_button(final, published_at=estimate.replaced_at),
                    estimate.replaced_at,
                )
            readings = _scaled(readings, span, meter_id, estimate.ratio, "estimated")
        readings = _without_failed(readings)
        for day, rows in _by_day(readings).items():
            arrived_at = day + timedelta(hours=27)
            content = green_button.write_green_button(rows, published_at=arrived_at)
            desk.put(f"green_button/{site_id}/{prefix}_{day:%Y%m%d}.xml.gz", content, arrived_at)
            if site_id == "sparks" and day == events.RESENT_DAY <= desk.until - 4 * _DAY:
                desk.put(
                    f"green_button/sparks/{prefix}_{day:%Y%m%d}_resent.xml.gz",
                    content,
                    events.RESENT_AT,
                )


def _without_failed(readings: pl.DataFrame) -> pl.DataFrame:
    """The readings with the placed gap of the cooling meter: sent as missing, then not sent."""
    starts = pl.col("interval_started_at")
    cooling = pl.col("meter_id") == "SPK-COOL"
    missing, absent = events.MISSING_READ, events.ABSENT_READ
    failed = cooling & (starts >= missing.started_at) & (starts < missing.ended_at)
    return readings.filter(
        ~(cooling & (starts >= absent.started_at) & (starts < absent.ended_at))
    ).with_columns(
        quantity=pl.when(~failed).then("quantity"),
        quality=pl.when(failed).then(pl.lit("missing")).otherwise("quality"),
    )


def _land_nem12(desk: _Desk, readings: pl.DataFrame) -> None:
    """Whole market days, whose last is over when `until` comes."""
    ahead = timedelta(hours=_MARKET_UTC_OFFSET_H)
    correct = _by_day(readings, ahead)
    faulty_day = events.LATE_CORRECTION_DAY
    span = events.Span(faulty_day - ahead, faulty_day - ahead + _DAY)
    sent = _by_day(
        _scaled(readings, span, "JLIT000001", events.LATE_CORRECTION_RATIO, "measured"), ahead
    )
    for day, rows in sent.items():
        complete = rows.height == rows["meter_id"].n_unique() * clock.INTERVALS_PER_DAY
        if not complete:
            continue
        updated_at = day - ahead + _DAY + timedelta(hours=4)
        desk.put(
            f"nem12/juelich/JL_{day:%Y%m%d}.csv",
            nem12.write_nem12(rows, updated_at=updated_at),
            updated_at + timedelta(hours=1),
        )
        if day == faulty_day and desk.until >= events.LATE_CORRECTION_AT:
            desk.put(
                f"nem12/juelich/JL_{day:%Y%m%d}_correction.csv",
                nem12.write_nem12(
                    correct[day].filter(meter_id="JLIT000001"), updated_at=events.LATE_CORRECTION_AT
                ),
                events.LATE_CORRECTION_AT + timedelta(hours=1),
            )


def _land_battery(desk: _Desk, site: SiteWorld, run: BatteryRun) -> None:
    """State of a battery every five minutes; power as the battery's own sign has it."""
    battery = run.battery
    count = clock.interval_index(desk.until)
    if count <= battery.first_interval:
        return
    plate = next(item for item in site.plate.batteries if item.battery_id == battery.battery_id)
    sign = 1.0 if plate.power_sign == "discharge_positive" else -1.0
    per = _BATTERY_SAMPLES_PER_INTERVAL
    interval = np.repeat(np.arange(battery.first_interval, count), per)
    part = np.tile(np.arange(per) / per, count - battery.first_interval)
    stored = run.stored_kwh[interval] + part * np.diff(run.stored_kwh)[interval]
    net_kw = (run.discharge_kwh - run.charge_kwh)[interval] / clock.INTERVAL_HOURS
    fault = run.is_fault[interval]
    rest = events.SPARKS_AT_RESERVE
    held = (interval >= clock.interval_index(rest.started_at)) & (
        interval < clock.interval_index(rest.ended_at)
    )
    state = np.select(
        [fault, net_kw > 0, net_kw < 0, held],
        ["fault", "discharging", "charging", "holding"],
        "standby",
    )
    room = np.where(fault | (stored >= 0.96 * battery.capacity_kwh), 0.0, battery.power_kw)
    first_at = clock.WORLD_STARTED_AT + battery.first_interval * clock.INTERVAL
    samples = pl.DataFrame(
        {
            "battery_id": [battery.battery_id] * len(interval),
            "sampled_at": pl.datetime_range(
                first_at, desk.until, clock.STEP, closed="left", time_unit="us", eager=True
            ),
            "state_of_charge_ratio": np.round(stored / battery.capacity_kwh, 6),
            "power_kw": np.round(sign * net_kw, 2) + 0.0,
            "available_charge_kw": room,
            "available_discharge_kw": run.available_discharge_kw[interval],
            "energy_capacity_kwh": np.full(len(interval), battery.capacity_kwh),
            "state": state,
        }
    ).with_columns(
        interval_started_at=pl.col("sampled_at"),
        state_of_charge_ratio=pl.when(
            pl.col("battery_id") == "sparks-second-life",
            pl.col("sampled_at") == events.BATTERY_FALSE_SAMPLE_AT,
        )
        .then(0.0)
        .otherwise("state_of_charge_ratio"),
    )
    for day, rows in _by_day(samples).items():
        desk.put(
            f"battery_csv/sparks/{battery.battery_id}_{day:%Y%m%d}.csv",
            battery_csv.write_battery_csv(rows.drop("interval_started_at")),
            day + timedelta(hours=25),
        )


def _land_germany(desk: _Desk, world: World) -> None:
    """Day-ahead prices of both auctions, published the day before, and the mix of the day after."""
    starts, count = _intervals_of(desk)
    zone = world.zones["DE"]
    auctions = (zone.price_per_mwh, zone.auction_price_per_mwh)
    base = pl.DataFrame(
        {"interval_started_at": starts, "interval_ended_at": starts + clock.INTERVAL}
    )
    prices = pl.concat(
        [
            base.select(
                zone=pl.lit("DE-LU"),
                market=pl.lit("day_ahead"),
                sequence=pl.lit(sequence, pl.Int64),
                interval_started_at="interval_started_at",
                interval_ended_at="interval_ended_at",
                price_per_mwh=pl.Series(price[:count]),
                currency_code=pl.lit("EUR"),
            )
            for sequence, price in enumerate(auctions, start=1)
            if price is not None
        ]
    )
    flows = [(code, "generation", power) for code, power in zone.generation_mw.items()]
    flows.append(("B10", "consumption", zone.pumping_mw))
    mix = pl.concat(
        [
            base.select(
                zone=pl.lit("DE-LU"),
                production_type=pl.lit(code),
                direction=pl.lit(direction),
                interval_started_at="interval_started_at",
                interval_ended_at="interval_ended_at",
                power_mw=pl.Series(power[:count]),
            )
            for code, direction, power in flows
        ]
    )
    for day, rows in _by_day(prices).items():
        published_at = day - timedelta(hours=11)
        late = day == events.OUT_OF_ORDER_DAY
        desk.put(
            f"entsoe/DE-LU/prices_{day:%Y%m%d}.xml",
            entsoe.write_prices(rows, domain_code=_DOMAIN_CODE, created_at=published_at),
            events.OUT_OF_ORDER_AT if late else published_at,
        )
    for day, rows in _by_day(mix).items():
        published_at = day + timedelta(hours=26)
        desk.put(
            f"entsoe/DE-LU/generation_{day:%Y%m%d}.xml",
            entsoe.write_generation_mix(rows, domain_code=_DOMAIN_CODE, created_at=published_at),
            published_at,
        )


def _land_texas(desk: _Desk, world: World) -> None:
    starts, count = _intervals_of(desk)
    price = world.zones["US-TEX-ERCO"].price_per_mwh
    prices = pl.DataFrame(
        {"interval_started_at": starts, "interval_ended_at": starts + clock.INTERVAL}
    ).select(
        zone=pl.lit("HB_NORTH"),
        market=pl.lit("real_time"),
        sequence=pl.lit(1, pl.Int64),
        interval_started_at="interval_started_at",
        interval_ended_at="interval_ended_at",
        price_per_mwh=pl.Series(None if price is None else price[:count]),
        currency_code=pl.lit("USD"),
    )
    for day, rows in _by_day(prices).items():
        desk.put(
            f"prices_csv/HB_NORTH/rt_spp_{day:%Y%m%d}.csv",
            prices_csv.write_ercot(rows),
            day + timedelta(hours=24.5),
        )


def _land_carbon(desk: _Desk, world: World) -> None:
    """Hourly carbon intensity; a few hours are estimated, as the source marks them."""
    hours = clock.interval_starts().gather_every(4)
    count = clock.interval_index(desk.until) // 4
    for name, carbon in world.carbon_hourly.items():
        estimated = clock.stream(f"{name}/estimated").random(len(hours)) < _ESTIMATED_HOUR_RATIO
        rows = pl.DataFrame(
            {
                "zone": [name] * len(hours),
                "interval_started_at": hours,
                "interval_ended_at": hours + timedelta(hours=1),
                "direct_g_per_kwh": np.round(carbon["direct_g_per_kwh"], 2),
                "life_cycle_g_per_kwh": np.round(carbon["life_cycle_g_per_kwh"], 2),
                "carbon_free_ratio": np.round(carbon["carbon_free_ratio"], 4),
                "renewable_ratio": np.round(carbon["renewable_ratio"], 4),
                "is_estimated": estimated,
                "data_source": ["example.org"] * len(hours),
            }
        ).head(count)
        for day, part in _by_day(rows).items():
            desk.put(
                f"electricity_maps/{name}/{name}_{day:%Y%m%d}.csv",
                electricity_maps.write_carbon(part),
                day + timedelta(hours=28),
            )


def _event(
    event_id: str,
    target: str,
    event_type: str,
    span: events.Span,
    known_at: datetime,
    *,
    is_open: bool = False,
    import_limit_kw: float | None = None,
) -> pl.DataFrame:
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "event_id": [event_id],
            "target": [target],
            "event_type": [event_type],
            "started_at": pl.Series([span.started_at], dtype=instant),
            "ended_at": pl.Series([None if is_open else span.ended_at], dtype=instant),
            "import_limit_kw": pl.Series([import_limit_kw], dtype=pl.Float64),
            "is_cancelled": [False],
            "known_at": pl.Series([known_at], dtype=instant),
        }
    )


def _land_grid_events(desk: _Desk, world: World) -> None:
    """The outage, reported while it lasted and once more when over, and the curtailment order."""
    outage, target = events.SPARKS_OUTAGE, world.sites["sparks"].plate.grid_event_target
    for name, is_open, known_at in (
        ("outage_20260814.csv", True, outage.started_at + timedelta(minutes=20)),
        ("outage_20260815.csv", False, outage.ended_at + timedelta(minutes=45)),
    ):
        if outage.ended_at <= desk.until:
            event = _event(
                "NVE-2026-08814", target, "grid_outage", outage, known_at, is_open=is_open
            )
            desk.put(f"outages_csv/sparks/{name}", outages_csv.write_outages(event), known_at)
    order = events.FRANKLIN_CURTAILMENT
    if order.ended_at <= desk.until:
        known_at = order.started_at - timedelta(hours=2)
        event = _event(
            "ercot-2026-0820-1",
            world.sites["franklin"].plate.grid_event_target,
            "curtailment_order",
            order,
            known_at,
            import_limit_kw=events.FRANKLIN_CURTAILMENT_LIMIT_KW,
        )
        desk.put("openadr/franklin/event_20260820.json", openadr.write_event(event), known_at)


def _land_certificates(desk: _Desk, world: World) -> None:
    for file in certificate_files(world, desk.until):
        content = certificates.write_certificates(file.bundles, local_time_zone=file.time_zone)
        desk.put(f"certificates/{file.path}", content, file.arrived_at)


def _land_invoices(desk: _Desk, charged: list[Invoice]) -> None:
    for invoice in charged:
        content = write_invoices(invoice.lines)
        desk.put(f"invoices/{invoice.path}", content, invoice.issued_at)


def _land_jobs(desk: _Desk, site: SiteWorld) -> None:
    jobs = job_rows(site)
    for day in desk.days():
        if (site.plate.site_id, day) == events.MISSING_ACCOUNTING:
            continue
        desk.put(
            f"sacct/{site.plate.cluster}/sacct_{day:%Y%m%d}.txt",
            sacct.write_sacct(accounting_of_day(jobs, day), time_zone=site.plate.time_zone),
            day + timedelta(hours=25),
        )


def _land_cloud(desk: _Desk, instances: Mapping[str, Floats]) -> None:
    """Exports of the month to date, and the month's bill on the fifth of the next month.

    An export tells all that is charged so far in the periods not billed yet. It comes each Monday,
    in the last two weeks each day. The bill adds the purchase of the commitment, which costs cash
    and no effective cost.
    """
    lines = cloud_bill.lines_told(instances).filter(pl.col("charge_period_started_at") < desk.until)
    billed_at = pl.col("billing_period_ended_at") + timedelta(days=4, hours=6)

    def told(at: datetime) -> pl.DataFrame:
        is_told = (pl.col("told_from") <= at) & (pl.col("told_until") > at).fill_null(value=True)
        return lines.filter(is_told)

    for day in desk.days():
        ended_at, arrived_at = day + _DAY, day + timedelta(hours=30)
        if ended_at.isoweekday() == 1 or day >= desk.until - 14 * _DAY:
            export = told(ended_at).filter(billed_at > arrived_at).drop("told_from", "told_until")
            desk.put(
                f"focus/example-cloud/focus_{arrived_at:%Y%m%d}.csv",
                focus.write_focus(export),
                arrived_at,
            )
    for (month, arrived_at), _ in lines.group_by(
        "billing_period_started_at", billed_at.alias("billed_at"), maintain_order=True
    ):
        if arrived_at <= desk.until:
            part = told(arrived_at).filter(pl.col("billing_period_started_at") == month)
            bill = part.drop("told_from", "told_until")
            desk.put(
                f"focus/example-cloud/focus_{arrived_at:%Y%m%d}_bill.csv",
                focus.write_focus(pl.concat([bill, cloud_bill.purchase(bill)])),
                arrived_at,
            )


def _land_telemetry(desk: _Desk, site: SiteWorld, fine_nodes: tuple[str, ...]) -> None:
    site_id = site.plate.site_id
    for day, gpus, nodes, fine in telemetry_days(site, desk.until, fine_nodes):
        arrived_at = day + timedelta(hours=26)
        desk.put(
            f"prometheus/{site_id}/gpu_{day:%Y%m%d}.parquet",
            prometheus.write_export(gpus),
            arrived_at,
        )
        desk.put(
            f"prometheus/{site_id}/node_{day:%Y%m%d}.parquet",
            prometheus.write_node_export(nodes),
            arrived_at,
        )
        if fine.height:
            _land_fine_telemetry(desk, site_id, fine, arrived_at)


def _land_fine_telemetry(
    desk: _Desk, site_id: str, fine: pl.DataFrame, arrived_at: datetime
) -> None:
    model_name = _MODEL_NAMES[site_id]
    desk.put(
        f"prometheus/{site_id}/query_range_{events.FINE_TELEMETRY.started_at:%Y%m%d}.json.gz",
        prometheus.write_query_range(fine, step_s=60, model_name=model_name),
        arrived_at,
    )
    at = pl.col("sampled_at")
    scraped = fine.filter((at >= events.SCRAPES.started_at) & (at < events.SCRAPES.ended_at))
    for (hostname, moment), boards in scraped.group_by(
        "hostname", "sampled_at", maintain_order=True
    ):
        name = dcgm_scrape.scrape_file_name(hostname, moment)
        desk.put(
            f"dcgm_scrape/{site_id}/{name}",
            dcgm_scrape.write_scrape(boards, scraped_at=moment, model_name=model_name),
            moment,
        )
