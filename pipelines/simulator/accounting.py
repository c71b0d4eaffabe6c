"""The simulated jobs and their machines as raw-table rows: accounting and telemetry.

What belongs here: host lists, job rows, GPU and node samples with their counters. What does not:
the physics behind them (`jobs.py`, `site_model.py`) and files (`landing.py`).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats, Ints
from pipelines.simulator.jobs import Schedule
from pipelines.simulator.site_model import job_energy_j
from pipelines.simulator.world import SiteWorld

_FIRST_JOB_ID = {"juelich": 11_400_000, "sparks": 80_000, "franklin": 310_000}
_USERS = 40
_POWER_NOISE_RATIO = 0.008
"""Of a power gauge, which shows a moment, around the mean of its step, which the counter holds."""
_VIOLATION_RATIO = 0.9
"""Share of a capped or throttled step in which the clocks are held back."""
_IDLE, _SOFTWARE_POWER_CAP, _SOFTWARE_THERMAL = 0x1, 0x4, 0x20


def host_list(hostnames: Sequence[str], nodes: Ints) -> str:
    """A Slurm host list expression of these nodes of a site, e.g. `jwb[0041-0044,0050]`."""
    nodes = np.unique(nodes)
    if len(nodes) == 1:
        return hostnames[nodes[0]]
    prefix = hostnames[0].rstrip("0123456789")
    digits = len(hostnames[0]) - len(prefix)
    starts = nodes[np.flatnonzero(np.diff(nodes, prepend=-9) > 1)]
    stops = nodes[np.flatnonzero(np.diff(nodes, append=10**9) > 1)]
    parts = [
        hostnames[a][-digits:] if a == b else f"{hostnames[a][-digits:]}-{hostnames[b][-digits:]}"
        for a, b in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    return f"{prefix}[{','.join(parts)}]"


def job_rows(site: SiteWorld) -> pl.DataFrame:
    """Every job of a site as a `jobs` row, with its `workload_id`, in order of submission."""
    rows = pl.concat([_pool_rows(site, schedule) for schedule in site.schedules])
    first = _FIRST_JOB_ID[site.plate.site_id]
    return rows.sort("submitted_at", "started_at", "node_list").with_columns(
        job_id=(pl.int_range(pl.len()) + first).cast(pl.String)
    )


def _pool_rows(site: SiteWorld, schedule: Schedule) -> pl.DataFrame:
    pool, count = schedule.pool, len(schedule)
    rng = clock.stream(f"{pool.name}/accounting")
    draw = rng.random((3, count))
    kinds = [pool.kinds[kind] for kind in schedule.kind.tolist()]
    nodes = [
        np.unique(pool.first_gpu[slots] // site.fleet.gpus_per_node) for slots in schedule.slots
    ]

    def instant(step: Ints, second: Ints) -> pl.Series:
        moment = (step * clock.STEP_S + second) * 1_000_000
        return pl.select(
            pl.lit(clock.JOBS_STARTED_AT).cast(pl.Datetime("us", "UTC"))
            + pl.Series(moment).cast(pl.Duration("us"))
        ).to_series()

    submit_s = np.minimum((draw[0] * 240).astype(np.int64), schedule.start_s - 5)
    started = instant(schedule.start_step, schedule.start_s)
    ended = instant(schedule.end_step - 1, schedule.end_s)
    energy = (
        job_energy_j(site.fleet, schedule, site.demand_ratio)
        if site.plate.site_id == "juelich"
        else [None] * count
    )
    return pl.DataFrame(
        {
            "workload_id": [kind.workload_id for kind in kinds],
            "cluster": [site.plate.cluster] * count,
            "partition": [kind.partition for kind in kinds],
            "qos": [kind.qos for kind in kinds],
            "account": [
                kind.accounts[int(pick * len(kind.accounts))]
                for kind, pick in zip(kinds, draw[1].tolist(), strict=True)
            ],
            "user_name": [f"user{int(pick * _USERS):02d}" for pick in draw[2].tolist()],
            "job_name": [
                kind.names[int(pick * 7919) % len(kind.names)]
                for kind, pick in zip(kinds, draw[2].tolist(), strict=True)
            ],
            "state": schedule.state,
            "submitted_at": instant(schedule.submit_step, np.maximum(submit_s, 0)),
            "started_at": started,
            "ended_at": ended,
            "elapsed_s": (ended - started).dt.total_seconds(),
            "suspended_s": [0] * count,
            "node_count": [len(item) for item in nodes],
            "gpu_count": schedule.gpu_count.astype(np.float64),
            "node_list": [host_list(site.fleet.hostnames, item) for item in nodes],
            "consumed_energy_j": pl.Series(energy, dtype=pl.Int64),
            "comment": pl.Series(schedule.comment, dtype=pl.String),
        }
    )


def accounting_of_day(jobs: pl.DataFrame, day: datetime) -> pl.DataFrame:
    """What sacct shows after a UTC day: the jobs that ended in it and those still running."""
    end = day + timedelta(days=1)
    shown = jobs.filter((pl.col("started_at") < end) & (pl.col("ended_at") >= day))
    runs = pl.col("ended_at") >= end
    elapsed = (pl.lit(end) - pl.col("started_at")).dt.total_seconds()
    return shown.with_columns(
        state=pl.when(runs).then(pl.lit("RUNNING")).otherwise("state"),
        elapsed_s=pl.when(runs).then(elapsed).otherwise("elapsed_s"),
        consumed_energy_j=pl.when(~runs).then("consumed_energy_j"),
        comment=pl.when(~runs).then("comment"),
        ended_at=pl.when(~runs).then("ended_at"),
    ).drop("workload_id")


def telemetry_days(
    site: SiteWorld, until: datetime, fine_nodes: Sequence[str]
) -> Iterator[tuple[datetime, pl.DataFrame, pl.DataFrame, pl.DataFrame]]:
    """The telemetry of a site, UTC day by UTC day in order, for the counters run on.

    Yields:
        The day, its GPU samples and node power samples every 5 minutes, and the GPU samples every
        60 seconds of `fine_nodes` on the day that has them (else no rows).
    """
    fleet = site.fleet
    gpus = len(fleet.idle_w)
    counters = {
        "energy": clock.stream(f"{site.plate.site_id}/counters").uniform(2e12, 9e13, gpus).round(),
        "power": np.zeros(gpus),
        "thermal": np.zeros(gpus),
    }
    started_at = events.TELEMETRY_STARTED_AT
    day = started_at.replace(hour=0)
    while day + timedelta(days=1) <= until:
        first, end = max(day, started_at), day + timedelta(days=1)
        steps = range(clock.step_index(first), clock.step_index(end))
        yield day, *_telemetry_day(site, steps, counters, day, fine_nodes)
        day = end


def _telemetry_day(
    site: SiteWorld,
    steps: range,
    counters: dict[str, Floats],
    day: datetime,
    fine_nodes: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    fleet = site.fleet
    # A gauge shows the moment before its sample, so the step that ends there; a counter all steps
    # up to it. The last step begins with the last sample and only the finer samples show it.
    drawn = site.telemetry(range(steps.start - 1, steps.stop))
    rng = clock.stream(f"{site.plate.site_id}/samples/{day:%Y-%m-%d}")
    gauge = drawn.gpu_w * (1 + _POWER_NOISE_RATIO * rng.standard_normal(drawn.gpu_w.shape))
    load = (drawn.gpu_w - fleet.idle_w[:, None]) / fleet.range_w[:, None]
    busy = np.clip(0.22 + 0.86 * load, 0.1, 1)
    # A GPU held back by its power limit has as much to do as before.
    utilization = np.where(drawn.busy, np.where(drawn.is_capped, 0.98, busy), 0.0).round(2)
    held_ns = _VIOLATION_RATIO * clock.STEP_S * 1e9
    shown = {}
    for name, increment in {
        "energy": drawn.gpu_w * clock.STEP_S * 1000,
        "power": drawn.is_capped * held_ns,
        "thermal": drawn.is_throttled * held_ns,
    }.items():
        shown[name] = counters[name][:, None] + np.cumsum(increment[:, :-1], axis=1)
        counters[name] = shown[name][:, -1].copy()
    reload_step = clock.step_index(events.SPARKS_DRIVER_RELOAD_AT)
    if site.plate.site_id == "sparks" and reload_step + 1 in steps:
        first = events.SPARKS_RELOAD_NODE * fleet.gpus_per_node
        rows = slice(first, first + fleet.gpus_per_node)
        column = reload_step + 1 - steps.start
        since_s = (clock.step_at(reload_step + 1) - events.SPARKS_DRIVER_RELOAD_AT).total_seconds()
        lost = shown["energy"][rows, column] - drawn.gpu_w[rows, column] * since_s * 1000
        shown["energy"][rows, column:] -= lost[:, None]
        counters["energy"][rows] -= lost
    reasons = np.where(drawn.busy, 0, _IDLE)
    reasons |= np.where(drawn.is_capped, _SOFTWARE_POWER_CAP, 0)
    reasons |= np.where(drawn.is_throttled, _SOFTWARE_THERMAL, 0)
    times = _times(steps)
    gauge = gauge.round(1)
    at_samples = (gauge[:, :-1], shown, utilization[:, :-1], reasons[:, :-1])
    samples = _gpu_frame(fleet.hostnames, fleet.gpus_per_node, times, *at_samples)
    nodes = pl.DataFrame(
        {
            "sampled_at": times.gather(np.tile(np.arange(len(times)), len(fleet.hostnames))),
            "hostname": pl.Series(fleet.hostnames).gather(
                np.repeat(np.arange(len(fleet.hostnames)), len(times))
            ),
            "power_w": drawn.node_w[:, :-1].round(0).ravel(),
        }
    )
    fine = samples.clear()
    if day == events.FINE_TELEMETRY.started_at:
        fine = _fine_samples(
            site, fine_nodes, steps, drawn.gpu_w, gauge, shown, utilization, reasons
        )
    return samples, nodes, fine


def _fine_samples(
    site: SiteWorld,
    hostnames: Sequence[str],
    steps: range,
    gpu_w: Floats,
    gauge: Floats,
    counters: dict[str, Floats],
    utilization: Floats,
    reasons: Ints,
) -> pl.DataFrame:
    """Samples every minute; those on a 5-minute mark are the very samples of the export."""
    size = site.fleet.gpus_per_node
    rows = np.concatenate(
        [np.arange(size) + site.fleet.hostnames.index(name) * size for name in hostnames]
    )
    minutes = np.arange(len(steps) * 5)
    step, minute = minutes // 5, minutes % 5
    ending = step + (minute > 0)  # column of the step that holds the moment before the sample
    rng = clock.stream(f"{site.plate.site_id}/fine samples")
    power = gpu_w[rows][:, ending]
    noisy = power * (1 + _POWER_NOISE_RATIO * rng.standard_normal(power.shape))
    shown = {name: values[rows][:, step] for name, values in counters.items()}
    shown["energy"] = shown["energy"] + power * minute * 60_000
    times = pl.datetime_range(
        clock.step_at(steps.start),
        clock.step_at(steps.stop),
        "1m",
        closed="left",
        time_unit="us",
        eager=True,
    )
    return _gpu_frame(
        list(hostnames),
        size,
        times,
        np.where(minute == 0, gauge[rows][:, ending], noisy.round(1)),
        shown,
        utilization[rows][:, ending],
        reasons[rows][:, ending],
    )


def _times(steps: range) -> pl.Series:
    return pl.datetime_range(
        clock.step_at(steps.start),
        clock.step_at(steps.stop),
        clock.STEP,
        closed="left",
        time_unit="us",
        eager=True,
    )


def _gpu_frame(
    hostnames: list[str],
    gpus_per_node: int,
    times: pl.Series,
    power_w: Floats,
    counters: dict[str, Floats],
    utilization: Floats,
    reasons: Ints,
) -> pl.DataFrame:
    """Rows of `gpu_samples`, GPU by GPU and in order of time, from arrays of GPUs by times."""
    gpu = np.repeat(np.arange(len(power_w)), len(times))
    indexes = pl.Series([str(index) for index in range(gpus_per_node)])
    return pl.DataFrame(
        {
            "sampled_at": times.gather(np.tile(np.arange(len(times)), len(power_w))),
            "hostname": pl.Series(hostnames).gather(gpu // gpus_per_node),
            "gpu_index": indexes.gather(gpu % gpus_per_node),
            "power_w": power_w.ravel(),
            "energy_counter_millijoules": np.floor(counters["energy"]).astype(np.int64).ravel(),
            "utilization_ratio": utilization.ravel(),
            "power_violation_ns": counters["power"].astype(np.int64).ravel(),
            "thermal_violation_ns": counters["thermal"].astype(np.int64).ravel(),
            "clocks_event_reasons": reasons.astype(np.int64).ravel(),
        }
    )
