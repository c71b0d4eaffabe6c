"""The simulated world as a whole: three sites, their zones, plants, jobs and the cloud's use.

What belongs here: the size of the demand, which model runs with which, and the world that results.
What does not: nameplates (reference data), the truth about it (`truth.py`), files (`landing.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats, Ints
from pipelines.simulator.jobs import (
    JobKind,
    Pool,
    Schedule,
    Shed,
    forecast_demand,
    run,
    service_demand,
    shed_step,
    steady_demand,
    users_demand,
)
from pipelines.simulator.markets import Zone, simulate_germany, simulate_nevada, simulate_texas
from pipelines.simulator.plates import BatteryPlate, SitePlate
from pipelines.simulator.site_model import (
    COOLING,
    DISTRIBUTION_RATIO,
    TRANSFORMER_LOSS_RATIO,
    Battery,
    Fleet,
    SiteRun,
    Telemetry,
    build_fleet,
    idle_power_w,
    interval_mean,
    load_power_w,
    node_telemetry,
    run_grid_site,
    run_microgrid,
)
from pipelines.simulator.weather import CLIMATES, Weather, plant_output_kw, simulate_weather

SPARKS_SOLAR_AC_KW = 4500.0
PPA_PLANT_AC_KW = {"LUP-SOLAR": 60000.0, "FKL-SOLAR": 40000.0}
CLOUD_COMMITTED_INSTANCES = 24
CLOUD_GPUS_PER_INSTANCE = 8
_CURTAILED_SHARE = 0.993
"""Of the limit: where the operators hold the import during a curtailment."""

_CLIMATE_SIMULATION = JobKind(
    "climate-simulation",
    "batch",
    "normal",
    ("climate",),
    ("icon_r2b9", "mpi_esm", "cordex"),
    (0.72, 0.88),
)
_MATERIALS = JobKind(
    "materials-screening",
    "batch",
    "normal",
    ("materials", "chemistry"),
    ("vasp_relax", "cp2k_md", "screen"),
    (0.68, 0.86),
)
_FORECAST = JobKind(
    "weather-forecast", "operational", "prod", ("nwp",), ("forecast_cycle",), (0.76, 0.84)
)
_ASSISTANT = JobKind(
    "assistant-inference",
    "inference",
    "serving",
    ("assistant",),
    ("assistant-serve", "assistant-rerank"),
    (0.86, 1.0),
    follows_demand=True,
)
_FINETUNING = JobKind(
    "model-finetuning",
    "batch",
    "normal",
    ("tuning", "research"),
    ("sft", "dpo", "distill", "lora"),
    (0.74, 0.9),
)
_SEARCH = JobKind(
    "search-inference",
    "inference",
    "serving",
    ("search",),
    ("search-embed", "search-rank"),
    (0.86, 1.0),
    follows_demand=True,
)
_TRAINING = JobKind(
    "foundation-training", "train", "high", ("foundation",), ("pretrain", "midtrain"), (0.86, 0.95)
)
_EVALUATION = JobKind(
    "batch-evaluation", "batch", "low", ("evaluation",), ("evals", "synthetic-data"), (0.74, 0.9)
)


@dataclass(frozen=True, eq=False)
class SiteWorld:
    """A simulated site: its machines, what ran on them and its energy."""

    plate: SitePlate
    fleet: Fleet
    schedules: tuple[Schedule, ...]
    demand_ratio: Floats
    run: SiteRun

    def telemetry(self, steps: range) -> Telemetry:
        """What every GPU and node of the site does in these job steps."""
        if self.plate.site_id != "juelich":
            return node_telemetry(self.fleet, self.schedules, self.demand_ratio, steps)
        return _juelich_telemetry(self.fleet, self.schedules, self.demand_ratio, steps)


@dataclass(frozen=True)
class World:
    """Everything that happens in the simulated world, to its end."""

    sites: Mapping[str, SiteWorld]
    zones: Mapping[str, Zone]
    """By carbon zone."""
    ppa_kwh: Mapping[str, Floats]
    """Generation of the plants behind contracts, by meter."""
    cloud_instances: Mapping[str, Floats]
    """Instances in use in each hour of the world, by workload."""

    @cached_property
    def carbon_hourly(self) -> dict[str, dict[str, Floats]]:
        """Carbon figures of each zone, per hour."""
        return {name: zone.carbon_hourly() for name, zone in self.zones.items()}


def simulate_world(plates: Mapping[str, SitePlate]) -> World:
    """Simulate the whole world, always to its end."""
    weather = {name: simulate_weather(climate) for name, climate in CLIMATES.items()}
    zones = {
        "DE": simulate_germany(weather["juelich"]),
        "US-TEX-ERCO": simulate_texas(weather["franklin"]),
        "US-NW-NEVP": simulate_nevada(weather["sparks"]),
    }
    return World(
        sites={
            "juelich": _juelich(plates["juelich"], weather["juelich"]),
            "sparks": _sparks(plates["sparks"], weather["sparks"]),
            "franklin": _franklin(plates["franklin"], weather["franklin"]),
        },
        zones=zones,
        ppa_kwh={
            meter: plant_output_kw(weather["franklin"], ac_kw=ac_kw) * clock.INTERVAL_HOURS
            for meter, ac_kw in PPA_PLANT_AC_KW.items()
        },
        cloud_instances=_cloud(),
    )


def _fleet(plate: SitePlate) -> Fleet:
    return build_fleet(
        plate.site_id,
        hostnames=plate.hostnames,
        gpus_per_node=plate.gpus_per_node,
        idle_w=plate.gpu_idle_w,
        peak_w=plate.gpu_peak_w,
        host_idle_w=plate.host_idle_w,
        host_peak_w=plate.host_peak_w,
    )


def _slots(fleet: Fleet, nodes: range, per_node: int = 1) -> tuple[Ints, int]:
    """First GPU of each slot of these nodes, and the GPUs of a slot."""
    size = fleet.gpus_per_node // per_node
    return np.arange(nodes.start * per_node, nodes.stop * per_node) * size, size


def _it_kw(fleet: Fleet, load_w: Floats) -> Floats:
    return interval_mean(load_w + idle_power_w(fleet)) * (1 + DISTRIBUTION_RATIO) / 1000


def _juelich(plate: SitePlate, weather: Weather) -> SiteWorld:
    fleet = _fleet(plate)
    operational, batch = range(40), range(40, len(fleet.hostnames))
    first, size = _slots(fleet, operational)
    forecast = Pool(
        "juelich/operational",
        first,
        size,
        (_FORECAST,),
        forecast_demand(slots=len(operational), hours=4.5),
        0.0,
    )
    first, size = _slots(fleet, batch)
    science = Pool(
        "juelich/batch",
        first,
        size,
        (_CLIMATE_SIMULATION, _MATERIALS),
        steady_demand(
            "juelich/batch",
            slot_count=len(first),
            used_ratio=0.86,
            time_zone=plate.time_zone,
            kinds={
                0: (0.6, (8, 16, 24, 32, 48, 64), (3, 24)),
                1: (0.4, (1, 2, 4, 8, 12, 16), (1, 20)),
            },
        ),
        0.04,
    )
    schedules = (run(forecast), run(science))
    demand = users_demand("juelich", plate.time_zone)
    load_w = sum(
        (load_power_w(fleet, schedule, demand) for schedule in schedules),
        np.zeros(clock.STEP_COUNT),
    )
    # The power cap and the hot nodes are known GPU by GPU only.
    for span in (events.JUELICH_POWER_CAP, events.JUELICH_THERMAL):
        steps = range(*shed_step(span))
        drawn = _juelich_telemetry(fleet, schedules, demand, steps).node_w.sum(axis=0)
        load_w[steps.start : steps.stop] = drawn - idle_power_w(fleet)
    site_run = run_grid_site(_it_kw(fleet, load_w), weather.temperature_c, COOLING["juelich"])
    return SiteWorld(plate, fleet, schedules, demand, site_run)


def _juelich_telemetry(
    fleet: Fleet, schedules: tuple[Schedule, ...], demand: Floats, steps: range
) -> Telemetry:
    return node_telemetry(
        fleet,
        schedules,
        demand,
        steps,
        cap_w=events.JUELICH_POWER_CAP_RATIO * fleet.peak_w,
        capped_steps=range(*shed_step(events.JUELICH_POWER_CAP)),
        hot_nodes=events.JUELICH_THERMAL_NODES,
        hot_steps=range(*shed_step(events.JUELICH_THERMAL)),
    )


def _sparks(plate: SitePlate, weather: Weather) -> SiteWorld:
    fleet = _fleet(plate)
    first, size = _slots(fleet, range(190, len(fleet.hostnames)), per_node=2)
    serving = Pool(
        "sparks/inference",
        first,
        size,
        (_ASSISTANT,),
        service_demand(
            "sparks/inference",
            time_zone=plate.time_zone,
            always=64,
            extra=14,
            sizes=(1, 1, 2),
            days=(2, 6),
        ),
        0.0,
    )
    first, size = _slots(fleet, range(190))
    tuning = Pool(
        "sparks/batch",
        first,
        size,
        (_FINETUNING,),
        steady_demand(
            "sparks/batch",
            slot_count=len(first),
            used_ratio=0.86,
            time_zone=plate.time_zone,
            kinds={0: (1.0, (2, 4, 4, 8, 8, 16, 24), (1.5, 20))},
        ),
        0.04,
        drained={events.SPARKS_RELOAD_NODE: shed_step(events.SPARKS_DRAIN)},
    )
    schedules = (run(serving), run(tuning))
    demand = users_demand("sparks", plate.time_zone)
    load_w = sum(
        (load_power_w(fleet, schedule, demand) for schedule in schedules),
        np.zeros(clock.STEP_COUNT),
    )
    main, long = plate.batteries
    site_run = run_microgrid(
        _it_kw(fleet, load_w),
        weather.temperature_c,
        COOLING["sparks"],
        solar_kw=plant_output_kw(weather, ac_kw=SPARKS_SOLAR_AC_KW),
        batteries=(_battery(main, 0.62), _battery(long, 0.42)),
        grid_limit_kw=(plate.terms[0].grid_firm_mw + plate.terms[0].grid_non_firm_mw) * 1000,
    )
    return SiteWorld(plate, fleet, schedules, demand, site_run)


def _battery(plate: BatteryPlate, initial_ratio: float) -> Battery:
    return Battery(
        battery_id=plate.battery_id,
        power_kw=plate.power_mw * 1000,
        capacity_kwh=plate.energy_mwh * 1000,
        reserve_ratio=plate.reserve_ratio,
        charge_efficiency=plate.charge_efficiency,
        discharge_efficiency=plate.discharge_efficiency,
        first_interval=max(0, clock.interval_index(plate.valid_from_at)),
        initial_ratio=initial_ratio,
    )


def _franklin(plate: SitePlate, weather: Weather) -> SiteWorld:
    fleet = _fleet(plate)
    first, size = _slots(fleet, range(2600, len(fleet.hostnames)))
    serving = Pool(
        "franklin/inference",
        first,
        size,
        (_SEARCH,),
        service_demand(
            "franklin/inference",
            time_zone=plate.time_zone,
            always=54,
            extra=10,
            sizes=(4, 8, 12),
            days=(3, 7),
        ),
        0.0,
    )
    curtailed = shed_step(events.FRANKLIN_CURTAILMENT)
    spiked = shed_step(events.FRANKLIN_PRICE_SPIKE)
    first, size = _slots(fleet, range(2600))
    training = Pool(
        "franklin/batch",
        first,
        size,
        (_TRAINING, _EVALUATION),
        steady_demand(
            "franklin/batch",
            slot_count=len(first),
            used_ratio=0.885,
            time_zone=plate.time_zone,
            kinds={
                0: (0.68, (64, 96, 128, 192, 256), (12, 60)),
                1: (0.32, (32, 48, 64, 96, 128), (2, 12)),
            },
        ),
        0.04,
        sheds=(
            Shed(*curtailed, 2250, frozenset({0, 1}), "energy:curtailment_order"),
            Shed(*spiked, 0, frozenset({1}), "energy:price_stop"),
        ),
    )
    schedules = (run(serving), run(training))
    demand = users_demand("franklin", plate.time_zone)
    sensitive_w, tolerant_w = (load_power_w(fleet, item, demand) for item in schedules)
    cooling = COOLING["franklin"]
    it_kw = _it_kw(fleet, sensitive_w + tolerant_w)
    # In the curtailment what still runs is slowed so that the import stays just below the limit.
    held = slice(
        clock.interval_index(events.FRANKLIN_CURTAILMENT.started_at),
        clock.interval_index(events.FRANKLIN_CURTAILMENT.ended_at),
    )
    facility_kw = (
        _CURTAILED_SHARE * events.FRANKLIN_CURTAILMENT_LIMIT_KW / (1 + TRANSFORMER_LOSS_RATIO)
    )
    target_kw = cooling.it_for_facility_kw(
        np.full(held.stop - held.start, facility_kw), weather.temperature_c[held]
    )
    if (it_kw[held] < target_kw).any():
        raise ValueError(
            f"franklin draws {it_kw[held].min():.0f} kW of IT in the curtailment, less than the "
            f"{target_kw.max():.0f} kW its limit allows: preempt less in the placed event"
        )
    it_kw[held] = target_kw
    return SiteWorld(
        plate, fleet, schedules, demand, run_grid_site(it_kw, weather.temperature_c, cooling)
    )


def _cloud() -> dict[str, Floats]:
    """Whole instances in use per hour: serving follows its users, evaluation runs in bursts."""
    steps_per_hour = 12
    users = users_demand("cloud", "America/Chicago")[clock.WARM_UP_STEPS :]
    serving = np.round(22 * users.reshape(-1, steps_per_hour).mean(axis=1))
    bursts = clock.drift("cloud/evaluation", len(serving), 9, 1)
    return {
        "assistant-inference": serving,
        "batch-evaluation": np.round(np.clip(5 + 6 * bursts, 0, 22)),
    }
