"""The physics of the simulated sites: GPUs and nodes, cooling, batteries and the grid connection.

What belongs here: from jobs and weather to kW and kWh. What does not: what it costs or emits, and
whether it was an incident (`truth.py`).

Power is constant over a 5-minute step for a node and over a 15-minute interval for everything else;
a site's IT load in an interval is what its nodes draw in the three steps, plus 1 % of distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Bools, Floats, Ints
from pipelines.simulator.jobs import Schedule

DISTRIBUTION_RATIO = 0.01
"""Between the IT meter and the nodes' supplies."""
TRANSFORMER_LOSS_RATIO = 0.003
"""Between the grid meter and the facility meter; the balance's only unaccounted part."""


@dataclass(frozen=True)
class Fleet:
    """The GPUs of a site, node by node, each a little different from its model."""

    hostnames: list[str]
    gpus_per_node: int
    peak_w: float
    host_idle_w: float
    host_range_w: float
    """What a host draws at full load above its idle power."""
    idle_w: Floats
    """Per GPU."""
    range_w: Floats
    """Per GPU: peak above idle."""

    @property
    def full_w(self) -> Floats:
        """What each GPU at load 1 adds to its node: its own range and its share of the host's."""
        return self.range_w + self.host_range_w / self.gpus_per_node


def build_fleet(
    name: str,
    *,
    hostnames: list[str],
    gpus_per_node: int,
    idle_w: float,
    peak_w: float,
    host_idle_w: float,
    host_peak_w: float,
) -> Fleet:
    """GPUs of one model with the spread of their silicon."""
    rng = clock.stream(f"{name}/silicon")
    count = len(hostnames) * gpus_per_node
    spread = np.clip(1 + 0.022 * rng.standard_normal(count), 0.94, 1.03)
    return Fleet(
        hostnames=hostnames,
        gpus_per_node=gpus_per_node,
        peak_w=peak_w,
        host_idle_w=host_idle_w,
        host_range_w=host_peak_w - host_idle_w,
        idle_w=np.round(idle_w * np.clip(1 + 0.04 * rng.standard_normal(count), 0.85, 1.15), 1),
        range_w=(peak_w - idle_w) * spread,
    )


def load_power_w(fleet: Fleet, schedule: Schedule, demand_ratio: Floats) -> Floats:
    """What a pool's jobs add to the idle power of their nodes, per job step."""
    pool = schedule.pool
    gpus = pool.first_gpu[:, None] + np.arange(pool.gpus_per_slot)
    slot_w = fleet.full_w[gpus].sum(axis=1)
    job_w = np.array([slot_w[slots].sum() for slots in schedule.slots])
    job, step = _job_steps(schedule)
    power = schedule.load_ratio(job, step, demand_ratio) * job_w[job]
    return np.asarray(np.bincount(step, power, minlength=clock.STEP_COUNT), dtype=np.float64)


def _job_steps(schedule: Schedule) -> tuple[Ints, Ints]:
    """Every step of every job: the job and the step."""
    length = np.minimum(schedule.end_step, clock.STEP_COUNT) - schedule.start_step
    job = np.repeat(np.arange(len(schedule)), length)
    age = np.arange(len(job)) - np.repeat(np.cumsum(length) - length, length)
    return job, age + schedule.start_step[job]


def job_energy_j(fleet: Fleet, schedule: Schedule, demand_ratio: Floats) -> Ints:
    """What the nodes of each job drew while it held them, for pools of whole nodes."""
    pool = schedule.pool
    gpus = pool.first_gpu[:, None] + np.arange(pool.gpus_per_slot)
    full, idle = fleet.full_w[gpus].sum(axis=1), fleet.idle_w[gpus].sum(axis=1) + fleet.host_idle_w
    full_w = np.array([full[slots].sum() for slots in schedule.slots])
    idle_w = np.array([idle[slots].sum() for slots in schedule.slots])
    job, step = _job_steps(schedule)
    length = np.bincount(job, minlength=len(schedule))
    load = np.bincount(job, schedule.load_ratio(job, step, demand_ratio), minlength=len(schedule))
    elapsed = length * clock.STEP_S - schedule.start_s - (clock.STEP_S - schedule.end_s)
    return (load * clock.STEP_S * full_w + elapsed * idle_w).astype(np.int64)


@dataclass(frozen=True)
class Telemetry:
    """What the GPUs and nodes of a site do in a run of steps: GPU or node rows, step columns."""

    gpu_w: Floats
    busy: Bools
    is_capped: Bools
    is_throttled: Bools
    speed_ratio: Floats
    """Of the work it would do unhindered, what it does."""
    limit_w: Floats
    """Power limit of the GPUs in each step."""
    node_w: Floats


def node_telemetry(
    fleet: Fleet,
    schedules: Sequence[Schedule],
    demand_ratio: Floats,
    steps: range,
    *,
    cap_w: float | None = None,
    capped_steps: range = range(0),
    hot_nodes: range = range(0),
    hot_steps: range = range(0),
) -> Telemetry:
    """Power of every GPU and node in each step, with the placed power cap and hot nodes."""
    columns = np.arange(steps.start, steps.stop)
    load = np.zeros((len(fleet.idle_w), len(columns)))
    for schedule in schedules:
        pool = schedule.pool
        here = (schedule.start_step < steps.stop) & (schedule.end_step > steps.start)
        for job in np.flatnonzero(here):
            first = max(int(schedule.start_step[job]), steps.start)
            last = min(int(schedule.end_step[job]), steps.stop)
            at = np.arange(first, last)
            ratio = schedule.load_ratio(np.full(len(at), job), at, demand_ratio)
            gpus = pool.first_gpu[schedule.slots[job]][:, None] + np.arange(pool.gpus_per_slot)
            load[gpus.ravel(), first - steps.start : last - steps.start] = ratio
    highest = np.full_like(load, np.inf)
    capped = (columns >= capped_steps.start) & (columns < capped_steps.stop)
    if cap_w is not None:
        highest[:, capped] = ((cap_w - fleet.idle_w) / fleet.range_w)[:, None]
    is_capped = load > highest
    wanted = load.copy()
    load = np.minimum(load, highest)
    is_throttled = np.zeros_like(is_capped)
    hot = (columns >= hot_steps.start) & (columns < hot_steps.stop)
    if hot.any():
        rows = np.arange(
            hot_nodes.start * fleet.gpus_per_node, hot_nodes.stop * fleet.gpus_per_node
        )
        block = np.ix_(rows, hot)
        is_throttled[block] = load[block] > 0
        load[block] *= events.JUELICH_THERMAL_RATIO
    gpu_w = fleet.idle_w[:, None] + load * fleet.range_w[:, None]
    nodes = (len(fleet.hostnames), fleet.gpus_per_node, len(columns))
    host_w = fleet.host_idle_w + fleet.host_range_w * load.reshape(nodes).mean(axis=1)
    return Telemetry(
        gpu_w=gpu_w,
        busy=load > 0,
        is_capped=is_capped,
        is_throttled=is_throttled,
        speed_ratio=np.divide(load, wanted, out=np.ones_like(load), where=wanted > 0),
        limit_w=np.where(capped, fleet.peak_w if cap_w is None else cap_w, fleet.peak_w),
        node_w=gpu_w.reshape(nodes).sum(axis=1) + host_w,
    )


def idle_power_w(fleet: Fleet) -> float:
    """What all nodes draw without a job."""
    return float(fleet.idle_w.sum() + fleet.host_idle_w * len(fleet.hostnames))


def interval_mean(by_step: Floats) -> Floats:
    """Per interval of the world, from one value per job step."""
    return np.asarray(
        by_step[clock.WARM_UP_STEPS :].reshape(-1, clock.STEPS_PER_INTERVAL).mean(axis=1)
    )


@dataclass(frozen=True)
class Cooling:
    """How a hall is cooled: kW per kW of IT, more for every degree above the free-cooling limit."""

    base_ratio: float
    per_degree: float
    free_below_c: float
    fixed_kw: float
    other_ratio: float
    other_fixed_kw: float

    def draw_kw(self, it_kw: Floats, temperature_c: Floats) -> tuple[Floats, Floats]:
        """Cooling and other (supplies, pumps, light) power."""
        above = np.logaddexp(0, (temperature_c - self.free_below_c) / 2) * 2
        cooling = self.fixed_kw + it_kw * (self.base_ratio + self.per_degree * above)
        return cooling, self.other_fixed_kw + self.other_ratio * it_kw

    def it_for_facility_kw(self, facility_kw: Floats, temperature_c: Floats) -> Floats:
        """The IT load at which the facility draws this much."""
        above = np.logaddexp(0, (temperature_c - self.free_below_c) / 2) * 2
        slope = 1 + self.base_ratio + self.per_degree * above + self.other_ratio
        return (facility_kw - self.fixed_kw - self.other_fixed_kw) / slope


COOLING = {
    "juelich": Cooling(0.022, 0.0016, 21, 8, 0.022, 6),
    "sparks": Cooling(0.060, 0.0052, 18, 22, 0.035, 12),
    "franklin": Cooling(0.080, 0.0052, 19, 160, 0.035, 120),
}


@dataclass(frozen=True)
class Battery:
    """A battery's nameplate as the site runs it."""

    battery_id: str
    power_kw: float
    capacity_kwh: float
    reserve_ratio: float
    charge_efficiency: float
    discharge_efficiency: float
    first_interval: int
    initial_ratio: float


@dataclass(frozen=True)
class BatteryRun:
    """What a battery did: AC kWh per interval and the energy stored at each interval's start."""

    battery: Battery
    charge_kwh: Floats
    discharge_kwh: Floats
    stored_kwh: Floats
    """One value more than intervals: the last is the end of the world."""
    available_discharge_kw: Floats
    is_fault: Bools


@dataclass(frozen=True)
class SiteRun:
    """A site's energy in every interval of the world, kWh."""

    it_kwh: Floats
    cooling_kwh: Floats
    other_kwh: Floats
    generation_kwh: Floats
    import_kwh: Floats
    export_kwh: Floats
    batteries: tuple[BatteryRun, ...] = ()

    @property
    def facility_kwh(self) -> Floats:
        """IT, cooling and other."""
        return self.it_kwh + self.cooling_kwh + self.other_kwh

    @property
    def charge_kwh(self) -> Floats:
        """All batteries' charge."""
        return np.asarray(sum((run.charge_kwh for run in self.batteries), 0 * self.it_kwh))

    @property
    def discharge_kwh(self) -> Floats:
        """All batteries' discharge."""
        return np.asarray(sum((run.discharge_kwh for run in self.batteries), 0 * self.it_kwh))


def run_grid_site(it_kw: Floats, temperature_c: Floats, cooling: Cooling) -> SiteRun:
    """A site that lives from the grid alone."""
    cooling_kw, other_kw = cooling.draw_kw(it_kw, temperature_c)
    hours = clock.INTERVAL_HOURS
    none = np.zeros_like(it_kw)
    import_kw = (it_kw + cooling_kw + other_kw) * (1 + TRANSFORMER_LOSS_RATIO)
    return SiteRun(
        it_kw * hours, cooling_kw * hours, other_kw * hours, none, import_kw * hours, none
    )


def run_microgrid(
    it_kw: Floats,
    temperature_c: Floats,
    cooling: Cooling,
    *,
    solar_kw: Floats,
    batteries: tuple[Battery, Battery],
    grid_limit_kw: float,
) -> SiteRun:
    """A site with sun and two batteries, interval by interval.

    The first battery stores what sun the load leaves and serves the evening, down to half of its
    capacity, so that an outage finds it ready; below 45 % it is topped up from the grid at night.
    The second takes two fifths of the sun that is left and serves the small hours. Neither is
    charged from the grid beyond 88 % of the connection. In an outage the first carries the load
    alone, and sun that nobody can use is curtailed.
    """
    cooling_kw, other_kw = cooling.draw_kw(it_kw, temperature_c)
    load_kw = (it_kw + cooling_kw + other_kw) * (1 + TRANSFORMER_LOSS_RATIO)
    hour = clock.local_parts(clock.interval_starts(), "America/Los_Angeles")[0]
    count = clock.INTERVAL_COUNT
    outage = _intervals(events.SPARKS_OUTAGE)
    dump = _intervals(events.SPARKS_DEEP_DISCHARGE)
    rest = _intervals(events.SPARKS_AT_RESERVE)
    trips = np.zeros(count, dtype=bool)
    for span in events.BATTERY_TRIPS:
        trips[list(_intervals(span))] = True
    main, long = batteries
    h = clock.INTERVAL_HOURS
    stored = [main.initial_ratio * main.capacity_kwh, long.initial_ratio * long.capacity_kwh]
    charge, discharge = np.zeros((2, count)), np.zeros((2, count))
    levels = np.zeros((2, count + 1))
    generation, imported, exported = np.zeros(count), np.zeros(count), np.zeros(count)
    loads, suns, hours = load_kw.tolist(), solar_kw.tolist(), hour.tolist()
    for i in range(count):
        levels[:, i] = stored
        load, sun = loads[i], suns[i]
        surplus, need = max(sun - load, 0.0), max(load - sun, 0.0)
        main_up, long_up = not trips[i], i >= long.first_interval
        c_main = d_main = c_long = d_long = 0.0
        room = max(0.96 * main.capacity_kwh - stored[0], 0) / main.charge_efficiency / h
        if i in dump:
            left = (dump.stop - i) * h
            usable = stored[0] - main.reserve_ratio * main.capacity_kwh
            most = grid_limit_kw + load - sun
            d_main = min(usable * main.discharge_efficiency / left, most)
        elif i in outage:
            d_main = need
            c_main = min(surplus, main.power_kw, room)
        elif main_up and i not in rest:
            c_main = min(surplus, main.power_kw, room)
            floor = (stored[0] - 0.5 * main.capacity_kwh) * main.discharge_efficiency / h
            if (hours[i] >= 16 or hours[i] < 2) and need > 60:
                d_main = min(need - 60, main.power_kw, max(floor, 0))
            elif stored[0] < 0.45 * main.capacity_kwh and surplus == 0:
                spare = 0.88 * grid_limit_kw - need
                c_main = max(min(spare, 2200.0, main.power_kw, room), 0.0)
        if long_up and i not in outage:
            sun_left = surplus - c_main
            if c_main and surplus > 200:
                sun_left = max(sun_left, 0.4 * surplus)
                c_main = min(c_main, surplus - min(sun_left, long.power_kw))
            long_room = max(0.6 * long.capacity_kwh - stored[1], 0) / long.charge_efficiency / h
            c_long = min(max(sun_left, 0), long.power_kw, long_room)
            spare = (stored[1] - 0.25 * long.capacity_kwh) * long.discharge_efficiency / h
            if hours[i] < 5 and need > 60:
                d_long = min(0.35 * need, long.power_kw, max(spare, 0))
        net = load + c_main + c_long - sun - d_main - d_long
        if i in outage and net < 0:
            sun, net = sun + net, 0.0
        generation[i], imported[i], exported[i] = sun, max(net, 0), max(-net, 0)
        charge[:, i], discharge[:, i] = (c_main, c_long), (d_main, d_long)
        stored[0] += h * (c_main * main.charge_efficiency - d_main / main.discharge_efficiency)
        stored[1] += h * (c_long * long.charge_efficiency - d_long / long.discharge_efficiency)
    levels[:, count] = stored
    return SiteRun(
        it_kw * h,
        cooling_kw * h,
        other_kw * h,
        generation * h,
        imported * h,
        exported * h,
        tuple(
            BatteryRun(
                battery,
                charge[row] * h,
                discharge[row] * h,
                levels[row],
                np.where(trips, 0.0, battery.power_kw)
                if row == 0
                else np.full(count, battery.power_kw),
                trips if row == 0 else np.zeros(count, dtype=bool),
            )
            for row, battery in enumerate(batteries)
        ),
    )


def _intervals(span: events.Span) -> range:
    return range(clock.interval_index(span.started_at), clock.interval_index(span.ended_at))
