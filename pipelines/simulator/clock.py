"""The time axes and random streams of the simulated world.

What belongs here: when the world begins and ends, its steps, seeded randomness. What does not:
anything that happens on the axes (`events.py`, `weather.py`, `jobs.py`, ...).
"""

import zlib
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SEED = 20260405

WORLD_STARTED_AT = datetime(2026, 4, 5, tzinfo=UTC)
WORLD_ENDED_AT = datetime(2026, 11, 10, tzinfo=UTC)
"""The world is always simulated to here, so that no earlier hour depends on how much is written."""
DEFAULT_UNTIL = datetime(2026, 11, 3, tzinfo=UTC)

INTERVAL = timedelta(minutes=15)
INTERVAL_HOURS = 0.25
INTERVALS_PER_DAY = 96
INTERVAL_COUNT = (WORLD_ENDED_AT - WORLD_STARTED_AT) // INTERVAL

STEP_S = 300
STEP = timedelta(seconds=STEP_S)
STEPS_PER_INTERVAL = 3
JOBS_STARTED_AT = datetime(2026, 3, 30, tzinfo=UTC)
"""Jobs begin before the book does, so that its first hour finds the machines at work."""
WARM_UP_STEPS = (WORLD_STARTED_AT - JOBS_STARTED_AT) // STEP
STEP_COUNT = (WORLD_ENDED_AT - JOBS_STARTED_AT) // STEP


def stream(name: str) -> np.random.Generator:
    """The random numbers of one part of the world: the same ones whatever else is simulated."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def drift(name: str, count: int, hours: float, steps_per_hour: float = 4) -> Floats:
    """Autocorrelated noise of mean 0 and deviation 1 that forgets itself after `hours`."""
    keep = float(np.exp(-1 / (hours * steps_per_hour)))
    shocks = stream(name).standard_normal(count) * np.sqrt(1 - keep**2)
    shocks[0] /= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], shocks))


def interval_index(at: datetime) -> int:
    """The interval that begins at or holds this instant."""
    return (at - WORLD_STARTED_AT) // INTERVAL


def step_index(at: datetime) -> int:
    """The job step that begins at or holds this instant."""
    return (at - JOBS_STARTED_AT) // STEP


def step_at(step: int) -> datetime:
    """The instant a job step begins."""
    return JOBS_STARTED_AT + step * STEP


def interval_starts() -> pl.Series:
    """The start of every interval of the world, UTC."""
    return pl.datetime_range(
        WORLD_STARTED_AT, WORLD_ENDED_AT, INTERVAL, closed="left", time_unit="us", eager=True
    )


def local_parts(starts: pl.Series, time_zone: str) -> tuple[Floats, Ints, Ints, Ints]:
    """Local hour of day, ISO weekday, month and day of year at each instant."""
    local = starts.dt.convert_time_zone(time_zone)
    hour = local.dt.hour().cast(pl.Float64) + local.dt.minute().cast(pl.Float64) / 60
    return (
        hour.to_numpy(),
        local.dt.weekday().cast(pl.Int64).to_numpy(),
        local.dt.month().cast(pl.Int64).to_numpy(),
        local.dt.ordinal_day().cast(pl.Int64).to_numpy(),
    )
