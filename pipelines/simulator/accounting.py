"""The simulated jobs and their machines as raw-table rows: accounting and telemetry.

What belongs here: host lists, job rows, GPU and node samples with their counters. What does not:
the physics behind them (`jobs.py`, `site_model.py`) and files (`landing.py`).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats, Ints
from pipelines.simulator.jobs import Schedule
from pipelines.simulator.site_model import Fleet, job_energy_j
from pipelines.simulator.world import SiteWorld

_FIRST_JOB_ID = {"juelich": 11_400_000, "sparks": 80_000, "franklin": 310_000}
_USERS = 40
_POWER_NOISE_RATIO = 0.008
"""Of a power gauge, which shows a moment, around the mean of its step, which the counter holds."""
_VIOLATION_RATIO = 0.9
"""Share of a capped or throttled step in which the clocks are held back."""
_IDLE, _SOFTWARE_POWER_CAP, _SOFTWARE_THERMAL = 0x1, 0x4, 0x20
_BUSY_CLOCK_MHZ, _IDLE_CLOCK_MHZ = 1980, 345


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


@lru_cache(maxsize=3)
def job_rows(site: SiteWorld) -> pl.DataFrame:
    """Every job of a site as a `jobs` row, with its `workload_id`, in order of submission."""
    rows = pl.concat([_pool_rows(site, schedule) for schedule in site.schedules])
    rows = rows.sort("submitted_at", "started_at", "node_list")
    rows = pl.concat([_with_suspended_job(rows, site), _mig_job(rows, site)])
    first = _FIRST_JOB_ID[site.plate.site_id]
    return rows.with_columns(job_id=(pl.int_range(pl.len()) + first).cast(pl.String))


def _with_suspended_job(rows: pl.DataFrame, site: SiteWorld) -> pl.DataFrame:
    """The jobs with the first that runs around the placed suspension, and what ran in its stead."""
    site_id, span = events.SUSPENSION
    if site.plate.site_id != site_id:
        return rows
    hour = timedelta(hours=1)
    runs_around = (pl.col("started_at") < span.started_at - hour) & (
        pl.col("ended_at") > span.ended_at + hour
    )
    is_suspended = runs_around & (runs_around.cum_sum() == 1)
    length_s = int((span.ended_at - span.started_at).total_seconds())
    rows = rows.with_columns(
        elapsed_s=pl.when(is_suspended).then(pl.col("elapsed_s") - length_s).otherwise("elapsed_s"),
        suspended_s=pl.when(is_suspended).then(length_s).otherwise("suspended_s"),
    )
    in_its_stead = rows.filter(pl.col("suspended_s") > 0).with_columns(
        submitted_at=pl.lit(span.started_at - hour),
        started_at=pl.lit(span.started_at),
        ended_at=pl.lit(span.ended_at),
        elapsed_s=pl.lit(length_s, pl.Int64),
        suspended_s=pl.lit(0, pl.Int64),
        state=pl.lit("COMPLETED"),
    )
    return pl.concat([rows, in_its_stead])


def _mig_job(rows: pl.DataFrame, site: SiteWorld) -> pl.DataFrame:
    """The job on instances of the board that is in MIG mode."""
    board, span = events.MIG_BOARD
    if site.plate.site_id != board.site_id:
        return rows.clear()
    length_s = int((span.ended_at - span.started_at).total_seconds())
    return rows.filter(pl.col("partition") == "batch")[:1].with_columns(
        submitted_at=pl.lit(span.started_at - timedelta(minutes=1)),
        started_at=pl.lit(span.started_at),
        ended_at=pl.lit(span.ended_at),
        elapsed_s=pl.lit(length_s, pl.Int64),
        state=pl.lit("COMPLETED"),
        node_count=pl.lit(1, pl.Int64),
        gpu_count=pl.lit(events.MIG_BUSY_INSTANCES / events.MIG_INSTANCES),
        node_list=pl.lit(site.fleet.hostnames[board.node]),
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
    elapsed = (pl.lit(end) - pl.col("started_at")).dt.total_seconds() - pl.col("suspended_s")
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
    at_limit = drawn.is_capped | (drawn.gpu_w >= events.GPU_LIMIT_RATIO * fleet.peak_w)
    shown = {}
    for name, increment in {
        "energy": drawn.gpu_w * clock.STEP_S * 1000,
        "power": at_limit * held_ns,
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
    _misread_counters(site, shown["energy"], steps)
    reasons = np.where(drawn.busy, 0, _IDLE)
    reasons |= np.where(at_limit, _SOFTWARE_POWER_CAP, 0)
    reasons |= np.where(drawn.is_throttled, _SOFTWARE_THERMAL, 0)
    times = _times(steps)
    gauge = gauge.round(1)
    sm_clock = np.where(drawn.busy, _BUSY_CLOCK_MHZ * drawn.speed_ratio, _IDLE_CLOCK_MHZ).round()
    limit_w = np.broadcast_to(drawn.limit_w, drawn.gpu_w.shape)
    gauges = {
        "power_w": gauge,
        "utilization_ratio": utilization,
        "sm_clock_mhz": sm_clock,
        "power_limit_w": limit_w,
        "clocks_event_reasons": reasons,
    }
    samples = _gpu_frame(
        fleet, fleet.hostnames, times, {name: of[:, :-1] for name, of in gauges.items()}, shown
    )
    samples = _in_mig_mode(site, samples)
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
        fine = _fine_samples(site, fine_nodes, steps, drawn.gpu_w, gauges, shown)
    return samples, nodes, fine


def _misread_counters(site: SiteWorld, counters: Floats, steps: range) -> None:
    """Let the placed energy counters show what they should not."""
    size = site.fleet.gpus_per_node
    board, span = events.FROZEN_COUNTER
    first, last = clock.step_index(span.started_at), clock.step_index(span.ended_at)
    if site.plate.site_id == board.site_id and first in steps:
        row = board.node * size + board.gpu
        counters[row, first - steps.start : last - steps.start] = counters[row, first - steps.start]
    board, moment = events.COUNTER_GLITCH
    if site.plate.site_id == board.site_id and clock.step_index(moment) in steps:
        row = board.node * size + board.gpu
        counters[row, clock.step_index(moment) - steps.start] += events.COUNTER_GLITCH_KWH * 3.6e9


def _in_mig_mode(site: SiteWorld, samples: pl.DataFrame) -> pl.DataFrame:
    """The samples with what the placed board tells of its instances."""
    board, span = events.MIG_BOARD
    is_placed = (
        pl.lit(site.plate.site_id == board.site_id)
        & (pl.col("hostname") == site.fleet.hostnames[board.node])
        & (pl.col("gpu_index") == str(board.gpu))
        & (pl.col("sampled_at") > span.started_at)
        & (pl.col("sampled_at") <= span.ended_at)
    )
    busy_ratio = events.MIG_BUSY_INSTANCES / events.MIG_INSTANCES
    return samples.with_columns(
        utilization_ratio=pl.when(~is_placed).then("utilization_ratio"),
        mig_busy_ratio=pl.when(is_placed).then(busy_ratio),
        mig_told_ratio=pl.when(is_placed).then(1.0),
    )


def _fine_samples(
    site: SiteWorld,
    hostnames: Sequence[str],
    steps: range,
    gpu_w: Floats,
    gauges: dict[str, Floats],
    counters: dict[str, Floats],
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
    at_samples = {name: values[rows][:, ending] for name, values in gauges.items()}
    at_samples["power_w"] = np.where(minute == 0, at_samples["power_w"], noisy.round(1))
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
    return _gpu_frame(site.fleet, hostnames, times, at_samples, shown)


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
    fleet: Fleet,
    hostnames: Sequence[str],
    times: pl.Series,
    gauges: dict[str, Floats],
    counters: dict[str, Floats],
) -> pl.DataFrame:
    """Rows of `gpu_samples`, GPU by GPU and in order of time, from arrays of GPUs by times."""
    size = fleet.gpus_per_node
    count = len(hostnames) * size
    gpu = np.repeat(np.arange(count), len(times))
    indexes = pl.Series([str(index) for index in range(size)])
    return pl.DataFrame(
        {
            "sampled_at": times.gather(np.tile(np.arange(len(times)), count)),
            "hostname": pl.Series(list(hostnames)).gather(gpu // size),
            "gpu_index": indexes.gather(gpu % size),
            "power_w": gauges["power_w"].ravel(),
            "energy_counter_millijoules": np.floor(counters["energy"]).astype(np.int64).ravel(),
            "utilization_ratio": gauges["utilization_ratio"].ravel(),
            "sm_clock_mhz": gauges["sm_clock_mhz"].ravel(),
            "power_limit_w": gauges["power_limit_w"].ravel(),
            "default_power_limit_w": np.full(len(gpu), fleet.peak_w),
            "power_violation_ns": counters["power"].astype(np.int64).ravel(),
            "power_brake_ns": pl.Series([None], dtype=pl.Int64).new_from_index(0, len(gpu)),
            "thermal_violation_ns": counters["thermal"].astype(np.int64).ravel(),
            "clocks_event_reasons": gauges["clocks_event_reasons"].astype(np.int64).ravel(),
            "mig_busy_ratio": pl.Series([None], dtype=pl.Float64).new_from_index(0, len(gpu)),
            "mig_told_ratio": pl.Series([None], dtype=pl.Float64).new_from_index(0, len(gpu)),
        }
    )
